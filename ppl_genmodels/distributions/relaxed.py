r"""One-hot and binary distributions whose draws let gradients through, by relaxation or straight through.

Convention of this module: a relaxed draw remembers its log or logit before rounding, from which its density is
computed. Nothing is validated: the discrete distribution was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.distributions as torch_dist
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import register_kl

from ppl_genmodels.distributions.relaxation import Bit, Family, OneHot
from ppl_genmodels.errors import ProgramError

__all__ = ["Relaxed", "RelaxedMass", "StraightThroughMass", "replaced"]

Fn = Any
"""A distribution of Pyro or of torch."""


class _Through(TorchDistribution):
    """A one-hot or binary distribution with draws that are differentiable in its parameters."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, discrete: Fn) -> None:
        self.discrete = discrete
        self.family: Family = Bit() if isinstance(discrete, torch_dist.Bernoulli) else OneHot()
        super().__init__(discrete.batch_shape, discrete.event_shape, validate_args=False)

    @property
    def logits(self) -> Tensor:
        """The discrete distribution's, in single precision at least."""
        logits: Tensor = self.discrete.logits
        return logits if logits.dtype.itemsize > 2 else logits.float()

    @property
    def support(self) -> Any:
        """The convex hull of the discrete values."""
        return self.family.support

    @property
    def mean(self) -> Tensor:
        """The discrete distribution's mean."""
        mean: Tensor = self.discrete.mean
        return mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with another batch shape."""
        new = copy.copy(self)
        new.discrete = self.discrete.expand(torch.Size(batch_shape))
        new._batch_shape = torch.Size(batch_shape)
        return new


class _WithTemperature(_Through):
    """One whose draws are relaxed.

    Args:
        discrete: A OneHotCategorical or a Bernoulli.
        temperature: A positive scalar tensor.
        hard: Whether draws are vertices, with the relaxed draw's gradient.
    """

    def __init__(self, discrete: Fn, temperature: Tensor, hard: bool = False) -> None:
        super().__init__(discrete)
        self.temperature, self.hard = temperature, hard

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        r"""A draw, shape (\*sample, \*batch, \*event)."""
        return self.drawn(
            self.family.relaxed(self.logits, self._extended_shape(torch.Size(sample_shape)), self.temperature)
        )

    def drawn(self, u: Tensor) -> Tensor:
        """The draw whose log or logit is given."""
        soft = self.family.value(u)
        value = _straight(self.family.vertex(u), soft) if self.hard else soft
        value = value.to(self.discrete.logits.dtype)
        value.before_rounding = u  # type: ignore[attr-defined]
        return value


class Relaxed(_WithTemperature):
    """A relaxed distribution priced by its own density, that of the relaxed draw.

    Example:
        >>> fn = Relaxed(torch_dist.Bernoulli(torch.tensor(0.3)), torch.tensor(0.5))
        >>> other = torch_dist.RelaxedBernoulli(torch.tensor(0.5), torch.tensor(0.3))
        >>> torch.isclose(fn.log_prob(torch.tensor(0.2)), other.log_prob(torch.tensor(0.2)))
        tensor(True)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        r"""The log-density of a draw of this or of another relaxation, shape (\*batch).

        Raises:
            ProgramError: When draws are vertices, which have no density, and this one is not remembered.
        """
        u: Tensor | None = getattr(value, "before_rounding", None)
        if u is None and self.hard:
            raise ProgramError(
                "a hard draw has no relaxed density once the relaxed draw behind it is lost, as it is where another "
                "estimator tries alternatives. Remedy: density='categorical', or hard=False."
            )
        return self.family.density(self.logits, self.family.inverse(value) if u is None else u, self.temperature)


class _Mass(_Through):
    """One priced as the discrete distribution, whose log-probability is extended linearly."""

    def log_prob(self, value: Tensor) -> Tensor:
        r"""The log-probability, linear in the value, shape (\*batch)."""
        return self.family.mass(self.logits, value)

    def entropy(self) -> Tensor:
        """The discrete distribution's entropy in nats."""
        return -self.log_prob(self.mean)


class RelaxedMass(_WithTemperature, _Mass):
    """A relaxed distribution priced as the discrete one.

    Example:
        >>> fn = RelaxedMass(torch_dist.OneHotCategorical(torch.tensor([0.2, 0.8])), torch.tensor(0.5))
        >>> fn.log_prob(torch.tensor([0.0, 1.0])).exp()
        tensor(0.8000)
    """


class StraightThroughMass(_Mass):
    """The discrete distribution, whose draws have the gradient of its probabilities.

    Example:
        >>> probs = torch.tensor(0.3, requires_grad=True)
        >>> draw = StraightThroughMass(torch_dist.Bernoulli(probs)).rsample()
        >>> torch.autograd.grad(draw, probs)[0]
        tensor(1.)
    """

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        r"""A draw, shape (\*sample, \*batch, \*event); the same as the discrete distribution's own."""
        with torch.no_grad():
            hard = self._draw(torch.Size(sample_shape))
        return _straight(hard, self.mean.expand(hard.shape))

    def _draw(self, sample_shape: torch.Size) -> Tensor:
        if isinstance(self.discrete, torch_dist.Bernoulli):
            return torch.bernoulli(self.mean.expand(self._extended_shape(sample_shape)))
        index = self.discrete._categorical.sample(sample_shape).unsqueeze(-1)  # torch's own one-hot draw validates
        return torch.zeros_like(self.mean.expand(self._extended_shape(sample_shape))).scatter(-1, index, 1.0)


@register_kl(_Mass, _Mass)
def _kl_of_masses(one: _Mass, other: _Mass) -> Tensor:
    """The divergence of the discrete distributions; finite for all finite logits."""
    return one.log_prob(one.mean) - other.log_prob(one.mean)


def replaced(fn: Fn, make: Callable[[Fn], Fn]) -> Fn:
    """A distribution with another in its place inside what declares its dims as event dims.

    Example:
        >>> fn = torch_dist.Independent(torch_dist.Bernoulli(torch.ones(3) / 3), 1)
        >>> replaced(fn, StraightThroughMass).event_shape
        torch.Size([3])
    """
    base = fn
    while isinstance(base, torch_dist.Independent):
        base = base.base_dist
    return make(base).to_event(len(fn.event_shape) - len(base.event_shape))


def _straight(hard: Tensor, soft: Tensor) -> Tensor:
    """The one forward, to the bit, and the gradient of the other backward."""
    return hard + (soft - soft.detach())
