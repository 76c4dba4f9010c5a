r"""The factor of a diffusion's site as seen from noisy values, and what it tells of where the chain should go.

Convention of this module: a twist is a positive function :math:`\psi_t(x_t)` that stands for :math:`E[r(x) \mid x_t]`;
its log has the shape (particles, \*batch). At time 0 it is the factor itself; nothing else is asked of it.
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

__all__ = ["Twist", "Twisted", "information_grid", "remaining_variance"]


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
    r"""The factor at the expected data, raised to a power that rises to 1 as time goes to 0.

    .. math:: \log \psi_t(x_t) = \frac{\log r(\hat x(x_t))}{1 + (v_t - v_0) h}

    where :math:`v_t` is :func:`remaining_variance` and :math:`h` the steepest curvature of :math:`-\log r`. Where data
    are round and normal, and the factor is normal in orthogonal directions, this is :math:`E[r(x) \mid x_t]` up to its
    normalizer. Without the power a narrow factor would be read far too sharply while little is known of the data.

    Attributes:
        factor: The factor.
        steepest: :math:`h` for each place, shape (\*batch).

    References:
        Wu, Trippe, Naesseth, Blei and Cunningham (2023), Practical and Asymptotically Exact Conditional Sampling in
        Diffusion Models, section 3, for the twist; Song, Vahdat, Mardani and Kautz (2023), Pseudoinverse-Guided
        Diffusion Models for Inverse Problems, section 3, for a factor as wide as what is not known.
    """

    factor: SiteFactor
    steepest: Tensor

    @staticmethod
    def of(factor: SiteFactor, particles: int) -> Twist:
        """Reads the curvature off differences of gradients about expected data, by draws of its own.

        The differences are as long as the data's scale: of factors that are not normal it is a curvature over that
        length.
        """
        denoiser, base = factor.denoiser, factor.layer.base_loc
        last = base.new_ones(())
        noise = torch.randn(particles, *factor.batch, *factor.layer.event_shape, dtype=base.dtype, device=base.device)
        start = denoiser(denoiser.scales(last)[1] * noise, last, factor.context).data
        at_start, bent = _slope(factor, start), noise
        for _ in range(_POWERS):
            moved = start + denoiser.data_scale * _unit(bent, denoiser.event_dim)
            bent = (at_start - _slope(factor, moved)) / denoiser.data_scale
        return Twist(factor, _root_mean_square(bent, denoiser.event_dim).mean(0))

    def __call__(self, noisy: Tensor, time: Tensor) -> Twisted:
        r"""What is known of noisy values.

        Args:
            noisy: Shape (particles, \*batch, \*event).
            time: A number.

        Raises:
            ProgramError: When the program's density is no number.
        """
        found, pull = estimate_and_pull(self.factor.denoiser, noisy, time, self.factor.context)
        log_factor, of_factor = torch.func.vjp(self.factor, found.data)  # type: ignore[misc]
        if log_factor.isnan().any():
            raise ProgramError(
                f"the model's density is NaN at a value of site '{self.factor.name}' that the diffusion may have. "
                f"Remedy: let its other sites have parameters inside their constraints for every value, as by exp or "
                f"softplus."
            )
        power = self.power(time)
        slope = of_factor(power.expand(log_factor.shape))[0].nan_to_num(posinf=0.0, neginf=0.0)
        return Twisted(found, power * log_factor, pull(slope))

    def power(self, time: Tensor) -> Tensor:
        r"""The power at a time, shape (\*batch)."""
        denoiser = self.factor.denoiser
        variance = remaining_variance(denoiser, time) - remaining_variance(denoiser, torch.zeros_like(time))
        return 1 / (1 + variance * self.steepest)


_POWERS = 4
"""Iterations for the steepest curvature."""

_LEAP = 0.1
"""Share of the log signal-to-noise ratio in the spacing of times."""

_HALVINGS = 40
"""Of the interval in which a time's ratio is sought."""


def information_grid(denoiser: Any, steps: int, like: Tensor) -> Tensor:
    r"""Times from 1 to 0 between which a noisy value tells about equally more of its datum.

    Evenly spaced in :math:`\log(1 + s^2 e^{\lambda_t}) + c \lambda_t`. The first part is twice the information of one
    number about normal data of scale :math:`s`, so that no step is much coarser than the others. The second, a tenth of
    the log signal-to-noise ratio, keeps the first steps from leaping over all times that tell next to nothing: a leap
    magnifies what a learned denoiser has wrong there.

    Args:
        denoiser: For its noising and the data's scale.
        steps: How many.
        like: A tensor of the dtype and device.

    Returns:
        Shape (steps + 1,).

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> information_grid(Denoiser(TimeMLP(2), CosineNoising()), 3, torch.zeros(1))
        tensor([1.0000, 0.2051, 0.0296, 0.0000])
    """
    ends = torch.tensor([1.0, 0.0], dtype=like.dtype, device=like.device)

    def told(log_snr: Tensor) -> Tensor:
        return (denoiser.data_scale**2 * log_snr.exp()).log1p() + _LEAP * log_snr

    low, high = denoiser.noising.log_snr(ends)
    wanted = torch.linspace(0, 1, steps + 1, dtype=like.dtype, device=like.device)[1:-1]
    wanted = told(low) + wanted * (told(high) - told(low))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = told(middle) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return torch.cat([ends[:1], denoiser.noising.time_of((low + high) / 2), ends[1:]])


def remaining_variance(denoiser: Any, time: Tensor) -> Tensor:
    r"""The variance of a number of the data given its noisy value, were the data normal of that scale.

    .. math:: v_t = \frac{s^2 \sigma_t^2}{\alpha_t^2 s^2 + \sigma_t^2}

    Near data, where it is :math:`\sigma_t^2 / \alpha_t^2`, it is that of any data with a density.

    Args:
        denoiser: For its noising and the data's scale :math:`s`.
        time: Any shape.
    """
    alpha, sigma, scale = denoiser.noising.alpha(time), denoiser.noising.sigma(time), denoiser.data_scale
    variance: Tensor = (scale * sigma) ** 2 / ((alpha * scale) ** 2 + sigma**2)
    return variance


def _slope(factor: SiteFactor, data: Tensor) -> Tensor:
    value, pull = torch.func.vjp(factor, data)  # type: ignore[misc]
    slope: Tensor = pull(torch.ones_like(value))[0]
    return slope.nan_to_num(posinf=0.0, neginf=0.0)


def _root_mean_square(value: Tensor, event_dim: int) -> Tensor:
    return value.square().flatten(value.dim() - event_dim).mean(-1).sqrt()


def _unit(value: Tensor, event_dim: int) -> Tensor:
    size = _root_mean_square(value, event_dim)
    return value / size.reshape(*size.shape, *(1,) * event_dim).clamp(min=torch.finfo(value.dtype).tiny)
