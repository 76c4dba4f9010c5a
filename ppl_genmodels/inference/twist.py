r"""The factor of a diffusion's site as seen from noisy values, and what it tells of where the chain should go.

Convention of this module: a twist is a positive function :math:`\psi_t(x_t)` that stands for :math:`E[r(x) \mid x_t]`, in
nats, shape (particles, \*batch). At time 0 it is the factor itself, whatever it was before; nothing else is asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.inference.site_factor import SiteFactor
from ppl_genmodels.networks.denoiser import Denoised
from ppl_genmodels.networks.guided import estimate_and_pull

__all__ = ["Twist", "Twisted", "information_grid"]


class Twisted(NamedTuple):
    """What is known of noisy values.

    Attributes:
        found: What the denoiser says.
        log_value: The log of the twist, shape (particles, \\*batch).
        gradient: Of it with respect to the noisy values, of their shape.
    """

    found: Denoised
    log_value: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Twist:
    r"""The factor at the expected data, raised to a power that rises to 1 with time's way to 0.

    .. math:: \log \psi_t(x_t) = \frac{\log r(\hat x(x_t))}{1 + v_t h}, \quad
        v_t = \frac{s^2 \sigma_t^2}{\alpha_t^2 s^2 + \sigma_t^2}

    where :math:`s` is the data's scale, so that :math:`v_t` is the variance of data given a noisy value, and :math:`h` the
    steepest curvature of :math:`-\log r`. Where data are round and normal and the factor is normal in some orthogonal
    directions this is :math:`E[r(x) \mid x_t]` up to its normalizer; without the power a narrow factor would be read far
    too sharply while little is known of the data.

    Attributes:
        factor: The factor.
        steepest: :math:`h` for each place, shape (\*batch).
        curvature: Of :math:`-\log r` along each number of an event, none negative, shape (\*batch, \*event).

    References:
        Wu, Trippe, Naesseth, Blei and Cunningham (2023), Practical and Asymptotically Exact Conditional Sampling in
        Diffusion Models, section 3, for the twist; Song, Vahdat, Mardani and Kautz (2023), Pseudoinverse-Guided Diffusion
        Models for Inverse Problems, section 3.2, for the variance.
    """

    factor: SiteFactor
    steepest: Tensor
    curvature: Tensor

    @staticmethod
    def of(factor: SiteFactor, particles: int) -> Twist:
        """Reads the curvature off differences of gradients, by draws of their own.

        The differences are as long as the data's scale: for factors that are not normal, a curvature over that length.
        """
        denoiser, last = _denoiser(factor), factor.layer.base_loc.new_ones(())
        shape = (particles, *factor.batch, *factor.layer.event_shape)
        start = denoiser(_noise(denoiser, shape, last), last, factor.context).data
        at_start = _slope(factor, start)

        def curved(direction: Tensor) -> Tensor:
            length = denoiser.data_scale
            return (at_start - _slope(factor, start + length * direction)) / length

        direction = torch.randint(0, 2, shape, device=last.device).to(last.dtype) * 2 - 1
        bent = curved(direction)
        diagonal = (direction * bent).mean(0).clamp(min=0)
        for _ in range(_POWERS):
            direction = _unit(bent, denoiser.event_dim)
            bent = curved(direction)
        return Twist(factor, _root_mean_square(bent, denoiser.event_dim).mean(0), diagonal)

    def __call__(self, noisy: Tensor, time: Tensor) -> Twisted:
        r"""What is known of noisy values.

        Args:
            noisy: Shape (particles, \*batch, \*event).
            time: A number.

        Raises:
            ProgramError: When the program's density is no number.
        """
        found, pull = estimate_and_pull(_denoiser(self.factor), noisy, time, self.factor.context)
        log_factor, of_factor = torch.func.vjp(self.factor, found.data)  # type: ignore[misc]
        if log_factor.isnan().any():
            raise ProgramError(
                f"the model's density is NaN at a value of site '{self.factor.name}' that the diffusion may have. "
                f"Remedy: let its other sites have parameters inside their constraints for every value, as by exp or "
                f"softplus."
            )
        power = self.power(time)
        slope = torch.nan_to_num(of_factor(power.expand(log_factor.shape))[0], posinf=0.0, neginf=0.0)
        return Twisted(found, power * log_factor, pull(slope))

    def power(self, time: Tensor) -> Tensor:
        r"""The power at a time, shape (\*batch)."""
        if time == 0:
            return torch.ones_like(self.steepest)
        return 1 / (1 + self._remaining(time) * self.steepest)

    def narrowing(self, time: Tensor) -> Tensor:
        r"""The curvature of minus the log of the twist along each noisy number, about; shape (\*batch, \*event)."""
        denoiser = _denoiser(self.factor)
        alpha, sigma = denoiser.scales(time)
        slope = alpha * self._remaining(time) / sigma**2  # of the expected data, where these are round and normal
        power = self.power(time).reshape(*self.steepest.shape, *(1,) * denoiser.event_dim)
        return power * slope**2 * self.curvature

    def unknown(self, time: Tensor, earlier: Tensor) -> Tensor:
        """The variance of a step's mean."""
        denoiser = _denoiser(self.factor)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = denoiser.scales(time), denoiser.scales(earlier)
        share = 1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2
        return (alpha_s * share) ** 2 * self._remaining(time)

    def _remaining(self, time: Tensor) -> Tensor:
        """The variance of data given a noisy value."""
        noising, scale = _denoiser(self.factor).noising, _denoiser(self.factor).data_scale
        alpha, sigma = noising.alpha(time), noising.sigma(time)
        return (scale * sigma) ** 2 / ((alpha * scale) ** 2 + sigma**2)


_POWERS = 4
"""Iterations for the steepest curvature."""


def information_grid(denoiser: Any, steps: int, like: Tensor) -> Tensor:
    r"""Times from 1 to 0 between which a noisy value tells equally more of its datum.

    Evenly spaced in :math:`\log(1 + s^2 \alpha_t^2 / \sigma_t^2)`, twice the information of one number about normal data
    of scale :math:`s`. In such a chain no step is much coarser than the others.

    Args:
        denoiser: For its noising and the data's scale.
        steps: How many.
        like: A tensor of the dtype and device.

    Returns:
        Shape (steps + 1,).

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> information_grid(Denoiser(TimeMLP(2), CosineNoising()), 3, torch.zeros(1))
        tensor([1.0000, 0.1...0, 0.0...0, 0.0000])
    """
    ends = torch.tensor([1.0, 0.0], dtype=like.dtype, device=like.device)
    scale = denoiser.data_scale**2
    first, last = (scale * denoiser.noising.log_snr(ends).exp()).log1p()
    even = torch.linspace(0, 1, steps + 1, dtype=like.dtype, device=like.device)[1:-1]
    between = ((first + even * (last - first)).expm1() / scale).log()
    return torch.cat([ends[:1], denoiser.noising.time_of(between), ends[1:]])


def _denoiser(factor: SiteFactor) -> Any:
    return factor.layer.denoiser


def _noise(denoiser: Any, shape: tuple[int, ...], time: Tensor) -> Tensor:
    _, sigma = denoiser.scales(time)
    return sigma * torch.randn(shape, dtype=time.dtype, device=time.device)


def _slope(factor: SiteFactor, data: Tensor) -> Tensor:
    value, pull = torch.func.vjp(factor, data)  # type: ignore[misc]
    return torch.nan_to_num(pull(torch.ones_like(value))[0], posinf=0.0, neginf=0.0)


def _root_mean_square(value: Tensor, event_dim: int) -> Tensor:
    return value.square().flatten(value.dim() - event_dim).mean(-1).sqrt()


def _unit(value: Tensor, event_dim: int) -> Tensor:
    size = _root_mean_square(value, event_dim)
    return value / size.reshape(*size.shape, *(1,) * event_dim).clamp(min=torch.finfo(value.dtype).tiny)
