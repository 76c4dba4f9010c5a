"""What becomes of the sites that depend on one whose draw is exchanged for another.

Convention of this module: sites that do not depend on the exchanged one keep their draws in every case. Noise is drawn
once and shared by all exchanged draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributions as torch_dist
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.distributions.noise import from_noise, has_noise, noise_of
from ppl_genmodels.distributions.relaxed import StraightThroughMass, replaced
from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.estimator import base_of

__all__ = ["KEPT", "MEAN", "REDRAWN", "Kept", "Later", "Linear", "Mean", "Redrawn", "Smooth"]

Share = Callable[[Tensor], Tensor]
"""Makes noise, drawn for all particles of all exchanged draws, the same for each of these."""

_VERTICES = (torch_dist.Bernoulli, torch_dist.OneHotCategorical)


class Later:
    """How a later site gets its value.

    Attributes:
        is_linear: Whether one-hot and binary sites are priced linearly in their values, which may lie between vertices.
    """

    is_linear = False

    def __call__(self, name: str, fn: Any, kept: Tensor, share: Share) -> Tensor:
        """The value of a site.

        Args:
            name: The site.
            fn: Its distribution, which depends on the exchanged draw.
            kept: Its draw as it was.
            share: Makes noise the same for all exchanged draws.
        """
        raise NotImplementedError


class Kept(Later):
    """The site keeps its draw."""

    def __call__(self, name: str, fn: Any, kept: Tensor, share: Share) -> Tensor:
        """The draw as it was."""
        return kept


class Redrawn(Later):
    """The site is drawn anew, by shared noise, or by noise of its own where there is no map from noise to draws."""

    def __call__(self, name: str, fn: Any, kept: Tensor, share: Share) -> Tensor:
        """A new draw."""
        noise = noise_of(fn)
        if noise is None:
            return fn.rsample() if fn.has_rsample else fn.sample()
        return from_noise(fn, share(noise.sample()))


class Mean(Later):
    """The site has its mean: the mean-field pass."""

    is_linear = True

    def __call__(self, name: str, fn: Any, kept: Tensor, share: Share) -> Tensor:
        """The mean."""
        if isinstance(base_of(fn), torch_dist.Categorical | torch_dist.Cauchy):
            raise _cannot(name, fn, "a mean")
        return fn.mean.expand(fn.batch_shape + fn.event_shape)


class Smooth(Redrawn):
    """The site is drawn anew by shared noise, one-hot and binary sites inside their simplex or cube.

    Args:
        temperature: Of the relaxation, a positive scalar.
    """

    is_linear = True

    def __init__(self, temperature: Tensor) -> None:
        self.temperature = temperature

    def __call__(self, name: str, fn: Any, kept: Tensor, share: Share) -> Tensor:
        """A draw that is a smooth function of the distribution's parameters."""
        base = base_of(fn)
        if isinstance(base, _VERTICES):
            noise = share(noise_of(fn).sample())  # type: ignore[union-attr]
            return soften(base, unbounded(base, noise), self.temperature)
        if fn.support.is_discrete or not (fn.has_rsample or has_noise(fn)):
            raise _cannot(name, fn, "a relaxation")
        return super().__call__(name, fn, kept, share)


def unbounded(fn: Any, noise: Tensor) -> Tensor:
    """What a Bernoulli or one-hot draw is the vertex of: logits with logistic or Gumbel noise added.

    Args:
        fn: The distribution, without ``Independent`` around it.
        noise: Uniform for a Bernoulli, Gumbel for a one-hot site.
    """
    if isinstance(fn, torch_dist.Bernoulli):
        return fn.logits - torch_dist.utils.clamp_probs(noise).logit()
    return fn.logits + noise


def soften(fn: Any, value: Tensor, temperature: Tensor) -> Tensor:
    """The relaxed draw of an unbounded one."""
    scaled = value / temperature
    return scaled.sigmoid() if isinstance(fn, torch_dist.Bernoulli) else scaled.softmax(-1)


class Linear(Messenger):
    """Prices latent one-hot and binary sites linearly in their values."""

    def _pyro_sample(self, msg: Message) -> None:
        if not msg["is_observed"] and isinstance(base_of(msg["fn"]), _VERTICES):
            msg["fn"] = replaced(msg["fn"], StraightThroughMass)


KEPT, REDRAWN, MEAN = Kept(), Redrawn(), Mean()


def _cannot(name: str, fn: Any, what: str) -> ProgramError:
    return ProgramError(
        f"site '{name}': {type(base_of(fn)).__name__} has no {what.removeprefix('a ')}, which the estimator of a site "
        f"before it needs. Remedy: a one-hot, Bernoulli or continuous site in its place, or handlers.ScoreFunction "
        f"for the site before."
    )
