r"""Straight through: a discrete draw forward, the gradient of something smooth backward.

Convention of this module: estimators that let the gradient through a draw change how the site is drawn, in the guide,
and how it is priced, in guide and model alike.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch.distributions as torch_dist
from pyro.poutine.runtime import Message

from ppl_genmodels.distributions.relaxed import StraightThroughMass, replaced
from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.estimator import Estimator, base_of
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["StraightThrough", "ThroughDraw", "straight_through"]


class ThroughDraw(Estimator):
    """An estimator that puts another distribution in a one-hot or binary site's place."""

    biased = True
    serves_what = "Bernoulli and OneHotCategorical sites"

    def serves(self, fn: Any) -> bool:
        """Whether draws are vertices of a cube or of a simplex."""
        return isinstance(fn, torch_dist.Bernoulli | torch_dist.OneHotCategorical)

    def take(self, msg: Message) -> None:
        """Takes a site.

        Raises:
            OptionError: When another estimator has it already.
            ProgramError: When it cannot serve the site's distribution.
        """
        if isinstance(base_of(msg["fn"]), torch_dist.Categorical):
            raise ProgramError(
                f"site '{msg['name']}': {type(self).__name__} serves {self.serves_what}, got Categorical, whose "
                f"values are integers, which no gradient passes. Remedy: sample one-hot vectors "
                f"(pyro.distributions.OneHotCategorical), or use handlers.ScoreFunction."
            )
        super().take(msg)

    def transform(self, msg: Message) -> None:
        """Puts the other distribution in the place of the site's own."""
        msg["fn"] = replaced(msg["fn"], self.through)

    @abstractmethod
    def through(self, fn: Any) -> Any:
        """The distribution with draws that are differentiable, for one given without ``Independent`` around it."""


class StraightThrough(ThroughDraw):
    r"""The plain straight-through estimator: a draw of the site itself, with the gradient of its probabilities.

    .. math:: z = d + \pi - [\pi], \quad d \sim \mathrm{Categorical}(\pi)

    with :math:`[\cdot]` held constant. Priced as the site itself; log-probabilities are linear in the draw.
    **Biased**, except for a cost that is linear in the draw.

    Args:
        sites: Which sites; by default all Bernoulli and OneHotCategorical ones.

    Raises:
        ProgramError: When a named site has another distribution.

    References:
        Bengio, Léonard and Courville (2013), Estimating or Propagating Gradients Through Stochastic Neurons, section 4.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> probs = torch.tensor(0.3, requires_grad=True)
        >>> with StraightThrough("y"):
        ...     y = pyro.sample("y", dist.Bernoulli(probs))
        >>> torch.autograd.grad(2 * y, probs)[0]
        tensor(2.)
    """

    def through(self, fn: Any) -> Any:
        """The distribution itself, with straight-through draws."""
        return StraightThroughMass(fn)


def straight_through(target: Any = None, *, sites: Sites = None) -> Any:
    """:class:`StraightThrough` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(straight_through(sites="y")).__name__
        'StraightThrough'
    """
    return applied(StraightThrough(sites), target)
