r"""Gumbel-Softmax: a discrete site drawn inside its simplex or cube, so that gradients flow through the draw.

Convention of this module: a temperature is a number, a scalar tensor, or a schedule, which is called with the step of
the run, so that a traced step sees it change.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ppl_genmodels.distributions.relaxed import Relaxed, RelaxedMass
from ppl_genmodels.errors import OptionError
from ppl_genmodels.handlers.estimator import current_step
from ppl_genmodels.handlers.site_handler import Sites, applied
from ppl_genmodels.handlers.straight_through import ThroughDraw
from ppl_genmodels.schedules import Schedule, check_positive

__all__ = ["GumbelSoftmax", "Temperature", "gumbel_softmax"]

Density = Literal["relaxed", "categorical"]

Temperature = float | Tensor | Schedule
"""A positive number, a scalar tensor, or a schedule of the training step."""


class GumbelSoftmax(ThroughDraw):
    r"""Replaces one-hot and binary sites by their Gumbel-Softmax (Concrete) relaxation.

    .. math:: y = \mathrm{softmax}\left(\frac{\log \pi + g}{\tau}\right), \quad g_k \sim \mathrm{Gumbel}(0, 1)

    and :math:`y = \sigma((\mathrm{logit}\, \pi + l) / \tau)` with logistic :math:`l` for a Bernoulli. **Biased** as a
    gradient of the discrete program's objective. As :math:`\tau \to 0` the bias of what depends on the value falls, and
    the variance rises; the divergence of one relaxation from another is the same at every temperature, and above that
    of the discrete distributions. Where no gradient is taken the site is discrete.

    Args:
        sites: Which sites; by default all Bernoulli and OneHotCategorical ones.
        temperature: :math:`\tau > 0`, a number, a scalar tensor, or a schedule.
        hard: Whether the value is the vertex nearest to :math:`y`, with the gradient of :math:`y` (straight-through
            Gumbel-Softmax).
        density: ``"relaxed"``: the site is priced by the density of :math:`y`, in the model by that of its prior's
            relaxation at the same temperature, so that an evidence bound is one of the relaxed program.
            ``"categorical"``: it is priced as the discrete site, linearly in :math:`y`, with that one's closed-form
            divergence, which bounds the evidence of neither program. Unless ``hard``, this price is no density of the
            draw: importance weights and :class:`LocalExpectation` of an earlier site are not to be had from it.

    Raises:
        OptionError: When the temperature is not positive or not a scalar, or the density is unknown.
        ProgramError: When a named site has another distribution.

    References:
        Jang, Gu and Poole (2017), Categorical Reparameterization with Gumbel-Softmax, equations 2 and 3 and section
        2.2; Maddison, Mnih and Teh (2017), The Concrete Distribution, sections 3.1 and 3.3, on the relaxed prior.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> with GumbelSoftmax("y", temperature=0.5):
        ...     y = pyro.sample("y", dist.OneHotCategorical(torch.ones(3) / 3))
        >>> torch.isclose(y.sum(), torch.tensor(1.0))
        tensor(True)
    """

    def __init__(
        self, sites: Sites = None, temperature: Temperature = 0.5, hard: bool = False, density: Density = "relaxed"
    ) -> None:
        super().__init__(sites)
        check_positive("temperature", temperature, "such as 0.5, or objectives.Exponential(1.0, 0.5, steps=5000)")
        if density not in get_args(Density):
            raise OptionError(f"density is one of {', '.join(map(repr, get_args(Density)))}; got {density!r}.")
        self.temperature, self.hard, self.density = temperature, hard, density

    def through(self, fn: Any) -> Any:
        """The relaxation of a distribution, at the temperature of this step."""
        priced = Relaxed if self.density == "relaxed" else RelaxedMass
        return priced(fn, self._temperature(fn.logits), self.hard)

    def _temperature(self, like: Tensor) -> Tensor:
        if isinstance(self.temperature, Schedule):
            return self.temperature(current_step())
        if isinstance(self.temperature, Tensor):
            return self.temperature.reshape(())
        dtype = torch.promote_types(like.dtype, torch.float32)
        return torch.full((), float(self.temperature), dtype=dtype, device=like.device)


def gumbel_softmax(
    target: Any = None,
    *,
    sites: Sites = None,
    temperature: Temperature = 0.5,
    hard: bool = False,
    density: Density = "relaxed",
) -> Any:
    """:class:`GumbelSoftmax` applied to a callable or a program; the handler itself without one.

    Example:
        >>> from ppl_genmodels.objectives import Exponential
        >>> gumbel_softmax(sites="y", temperature=Exponential(1.0, 0.5, steps=5000)).hard
        False
    """
    return applied(GumbelSoftmax(sites, temperature, hard, density), target)
