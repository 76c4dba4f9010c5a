r"""Flipout: every datum sees its own perturbation of weights that are drawn once for all of them.

Convention of this module: a draw of the guide remembers the location about which it lies symmetrically, its ``center``;
the linear maps of :func:`~ppl_genmodels.networks.weight_sites` are perturbed about it with random signs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributions as torch_dist
from pyro.distributions import Delta
from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.handlers.detach_score import Landing
from ppl_genmodels.handlers.estimator import base_of
from ppl_genmodels.handlers.known_sites import KnownSites
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["SYMMETRIC", "Flipout", "flipout"]

SYMMETRIC = (torch_dist.Normal, torch_dist.Laplace, torch_dist.StudentT, torch_dist.Cauchy)
"""Location-scale families that are symmetric about their location, ``loc``."""


class Flipout(KnownSites):
    r"""Decorrelates the gradients of the data of a batch, which share the draw of a network's weights.

    .. math:: y_n = \bar W x_n + r_n \circ (\Delta W (s_n \circ x_n)), \quad
        r_{ni}, s_{nj} \sim \mathrm{Uniform}\{-1, 1\}

    with the guide's location :math:`\bar W` and the draw's distance from it :math:`\Delta W`. As the guide is symmetric
    about its location and independent from weight to weight, each datum's weights are distributed as the draw, so that
    objectives that are sums over data stay **unbiased**, as do their gradients; ``iwae`` is none, and is biased. In one
    linear layer the data's gradients in the locations are uncorrelated, so that their variance falls as one over the
    size of the batch; in the scales, and in deeper networks, a smaller common part stays. Biases are perturbed too.
    Where no gradient is taken all data have the drawn weights.

    Args:
        sites: Which weights; by default those of all networks made by :func:`~ppl_genmodels.networks.weight_sites`.
            Other sites are left alone.

    Raises:
        ProgramError: When the guide's distribution of a selected weight is not symmetric, or not independent.
        OptionError: When two handlers of this kind select one weight.

    References:
        Wen, Vicol, Ba, Tran and Grosse (2018), Flipout: Efficient Pseudo-Independent Weight Perturbations on
        Mini-Batches, equations 3 and 4.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from ppl_genmodels.networks import MLP, weight_sites
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <...>
        >>> network = weight_sites(MLP(3, 1, hidden=()))
        >>> with Flipout():
        ...     y = network(torch.ones(4, 3))
        >>> len(y.unique()) > 1  # one draw of the weights and equal data
        True
    """

    def __init__(self, sites: Sites = None) -> None:
        super().__init__(sites)

    def _pyro_sample(self, msg: Message) -> None:
        super()._pyro_sample(msg)
        if msg["value"] is None:
            msg["flipout"] = token = object()  # a replayed site comes back with the marks of the guide's site
            msg["infer"] = {**msg["infer"], "flipout": token}

    def _pyro_post_sample(self, msg: Message) -> None:
        value, token = msg["value"], msg.get("flipout")
        if msg["is_observed"] or not isinstance(value, Tensor) or not torch.is_grad_enabled():
            return
        drawn_here = token is not None and msg["infer"].get("flipout") is token
        center = _center_of(msg["fn"]) if drawn_here else None
        if center is not None:
            value.center = center  # type: ignore[attr-defined]
        if self.selects(msg) and not (drawn_here and center is None):
            self._claim(msg["name"], value)

    def _claim(self, name: str, value: Any) -> None:
        other = getattr(value, "flipped_by", self)
        if other is not self:
            raise OptionError(
                f"site '{name}' is claimed by two Flipout handlers. Remedy: name the sites of each with sites=..., and "
                f"each site once."
            )
        value.flipped_by = self

    def _pyro_linear(self, msg: Message) -> None:
        x, weight, bias = (*msg["args"], None)[:3]
        flipped = [each for each in (weight, bias) if getattr(each, "flipped_by", None) is self]
        if not flipped or not torch.is_grad_enabled() or msg["value"] is not None:
            return
        if any(not hasattr(each, "center") for each in flipped):
            raise ProgramError(
                f"layer '{msg['name'].rpartition('.')[0]}': Flipout serves weights whose distribution in the guide is "
                f"symmetric about its location and independent from weight to weight (Normal, Laplace, StudentT, "
                f"Cauchy), and the guide drew these otherwise. Remedy: guides.AutoNormal, or leave this layer out of "
                f"sites=... ."
            )
        msg["value"] = _perturbed(msg["fn"], x, self._split(weight), self._split(bias))

    def _split(self, value: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The location of a weight and the distance of its draw; no distance of one that is not flipped."""
        if value is None or getattr(value, "flipped_by", None) is not self:
            return value, None
        center: Tensor = value.center  # type: ignore[attr-defined]
        return center, value - center


def flipout(target: Any = None, *, sites: Sites = None) -> Any:
    """:class:`Flipout` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(flipout(sites="network.layers.0.weight")).__name__
        'Flipout'
    """
    return applied(Flipout(sites), target)


def _center_of(fn: Any) -> Tensor | None:
    """What a draw lies symmetrically and independently about; None when that is not known.

    A point mass, in which automatic guides pass on an auxiliary draw, has that draw's; plates make views of it.
    """
    base = base_of(fn.fn if isinstance(fn, Landing) else fn)
    if not isinstance(base, Delta):
        return base.loc if isinstance(base, SYMMETRIC) else None
    center: Tensor | None = getattr(base.v, "center", getattr(base.v._base, "center", None))
    return center if center is not None and center.shape == base.v.shape else None


def _perturbed(
    linear: Any, x: Tensor, weight: tuple[Tensor | None, Tensor | None], bias: tuple[Tensor | None, Tensor | None]
) -> Tensor:
    """The linear map at the locations, and what is drawn about them with the signs of each datum."""
    mean: Tensor = linear(x, weight[0], bias[0])
    noise: Any = bias[1] if weight[1] is None else linear(x * _signs(x.shape, x), weight[1], bias[1])
    return mean + _signs(torch.Size([*x.shape[:-1], mean.shape[-1]]), x) * noise


def _signs(shape: torch.Size, like: Tensor) -> Tensor:
    return torch.randint(0, 2, shape, dtype=like.dtype, device=like.device) * 2 - 1
