r"""Sites with finitely many values: every other value that one element of a draw could have had.

Convention of this module: an element is one independent entry of a draw, apart from particles and data. A draw in batch
layout has the shape (particles, \*plates, \*inner, \*event), where the inner dims were declared as event dims.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributions as torch_dist
from torch import Tensor

from ppl_genmodels.distributions.truncated_poisson import TruncatedPoisson
from ppl_genmodels.handlers.estimator import Site, base_of

__all__ = ["Flips", "flips_of", "is_finite", "remember_probs", "support_of"]

_SERVED = (
    torch_dist.Bernoulli,
    torch_dist.Categorical,
    torch_dist.OneHotCategorical,
    torch_dist.Binomial,
    TruncatedPoisson,
)


def is_finite(fn: Any) -> bool:
    """Whether a distribution, given without ``Independent`` around it, has finitely many values that can be listed."""
    return isinstance(fn, _SERVED)


def support_of(fn: Any) -> Tensor:
    r"""The values of a finite distribution, shape (values, \*event)."""
    listed = fn.enumerate_support(expand=False)
    return listed.reshape(len(listed), *fn.event_shape)


def remember_probs(fn: Any) -> None:
    """Makes a distribution's probabilities, which it then keeps, before plates repeat it for every alternative.

    Example:
        >>> fn = torch_dist.Categorical(logits=torch.zeros(3))
        >>> remember_probs(fn)
        >>> "probs" in vars(fn)
        True
    """
    getattr(base_of(fn), "probs", None)


@dataclass(frozen=True)
class Flips:
    r"""The draw, and for each element each of the other values it could have had.

    Attributes:
        draws: The draw itself, then one draw for each element and other value, shape (1 + elements * (values - 1),
            particles, \*batch, \*event).
        log_prob: The log-density of each value of each element, the drawn one first, shape (elements, values,
            particles, \*plates) with plates' dims 1 but for the data's; with gradient.
    """

    draws: Tensor
    log_prob: Tensor

    def by_value(self, of_draws: Tensor) -> Tensor:
        """What is known of each draw, for each element and value, in the layout of ``log_prob``."""
        elements, values = self.log_prob.shape[:2]
        others = of_draws[1:].reshape(elements, values - 1, *of_draws.shape[1:])
        return torch.cat([of_draws[:1].expand(elements, 1, *of_draws.shape[1:]), others], 1)


def flips_of(site: Site) -> Flips:
    """The flips of a site's draw.

    Args:
        site: A latent site with a finite distribution.
    """
    fn, inner = base_of(site.fn), len(site.fn.event_shape) - len(base_of(site.fn).event_shape)
    support, value = support_of(fn), site.in_layout(site.value, len(site.fn.event_shape))
    index, event = _index_of(fn, value), len(fn.event_shape)
    log_prob = torch.stack([site.in_layout(each, inner) for each in _log_probs(fn, support)])
    kept = {0} if site.data_axis is None else {0, site.data_axis}
    masks = _masks(index, kept)
    shifted = [(index + shift) % len(support) for shift in range(len(support))]
    covers = masks.reshape(*masks.shape, *(1,) * event)
    others = [torch.where(covers, support[other].to(value.dtype), value) for other in shifted[1:]]
    draws = torch.cat([value.unsqueeze(0), torch.stack(others, 1).flatten(0, 1)])

    def of_elements(chosen: Tensor) -> Tensor:
        picked = log_prob.expand(len(support), *chosen.shape).gather(0, chosen.unsqueeze(0))
        summed = picked * masks
        for dim in (d + 1 for d in range(index.dim()) if d not in kept):
            summed = summed.sum(dim, keepdim=True)
        return summed.reshape(summed.shape[: summed.dim() - inner])

    return Flips(draws, torch.stack([of_elements(chosen) for chosen in shifted], 1))


def _log_probs(fn: Any, support: Tensor) -> list[Tensor]:
    return [fn.log_prob(value.expand(*fn.batch_shape, *fn.event_shape)) for value in support]


def _index_of(fn: Any, value: Tensor) -> Tensor:
    return value.argmax(-1) if isinstance(fn, torch_dist.OneHotCategorical) else value.long()


def _masks(index: Tensor, kept: set[int]) -> Tensor:
    r"""For each element where it lies, shape (elements, \*index), of size 1 along particles and data."""
    shape = [1 if dim in kept else size for dim, size in enumerate(index.shape)]
    count = torch.Size(shape).numel()
    return torch.eye(count, dtype=torch.bool, device=index.device).reshape(count, *shape)
