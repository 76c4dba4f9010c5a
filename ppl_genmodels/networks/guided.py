r"""A denoiser pulled by the gradient of a log factor: guidance by a classifier, or by what was measured of the data.

Convention of this module: values have the shape (\*batch, \*event); a log factor is in nats, of the batch shape, and
that of one value does not depend on the others. Multiplying the density of the noisy values by a factor :math:`r_t`
adds :math:`\nabla \log r_t(x_t)` to the score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.denoiser import Denoised

__all__ = ["Guided", "estimate_and_pull", "pulled"]

At = Literal["noisy", "data"]


class Guided(nn.Module):
    r"""A denoiser whose score is :math:`\nabla \log p(x_t) + w \nabla \log r_t(x_t)`; it answers as a denoiser itself.

    - ``at="noisy"``: ``log_factor(noisy, time)`` knows noisy values, as a classifier that was trained on them. With
      :math:`r_t(x_t) = E[r(x) \mid x_t]` and weight 1 what is sampled is :math:`p(x) \, r(x)` up to its normalizer.
    - ``at="data"``: ``log_factor(data)`` knows data alone and is read at the expected data, :math:`r(\hat x(x_t))`, its
      gradient passing through the denoiser. This is not the right factor but near data;
      :func:`~ppl_genmodels.inference.diffusion_posterior` corrects what it leaves out.

    Args:
        denoiser: A :class:`~ppl_genmodels.networks.Denoiser`, or what answers as one.
        log_factor: As above; its values have the batch shape.
        weight: How much it pulls.
        at: Which values the factor knows.

    Raises:
        OptionError: When ``at`` is neither of these.

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), section 2.5; Dhariwal and Nichol (2021), Diffusion
        Models Beat GANs on Image Synthesis, section 4, for noisy values; Ho and others (2022), Video Diffusion Models,
        section 3.1, and Chung and others (2023), Diffusion Posterior Sampling for General Noisy Inverse Problems,
        section 3, for data.

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> denoiser = Denoiser(TimeMLP(2), CosineNoising())
        >>> guided = Guided(denoiser, lambda data: -(data - 1).square().sum(-1), at="data")
        >>> noisy, time = torch.zeros(5, 2), torch.tensor(0.3)
        >>> bool((guided(noisy, time).data > denoiser(noisy, time).data).all())
        True
    """

    def __init__(
        self, denoiser: Any, log_factor: Callable[..., Tensor], weight: float | Tensor = 1.0, at: At = "noisy"
    ) -> None:
        super().__init__()
        if at not in get_args(At):
            raise OptionError(f"Guided: at={at!r}, expected one of {', '.join(map(repr, get_args(At)))}.")
        self.denoiser, self.log_factor, self.weight, self.at = denoiser, log_factor, weight, at
        self.noising, self.event_dim, self.data_scale = denoiser.noising, denoiser.event_dim, denoiser.data_scale

    def forward(self, noisy: Tensor, time: Tensor, context: Tensor | None = None) -> Denoised:
        r"""What the denoiser says of noisy values, pulled.

        Args:
            noisy: Shape (\*batch, \*event).
            time: Shape (\*batch), or one that broadcasts to it.
            context: What the denoiser is given beside them; the factor is not.
        """
        if self.at == "noisy":
            batch = noisy.shape[: noisy.dim() - self.event_dim]
            gradient = _gradient(lambda value: self.log_factor(value, time.expand(batch)), noisy)
            return pulled(self.denoiser(noisy, time, context), self.weight * gradient)
        found, pull = estimate_and_pull(self.denoiser, noisy, time, context)
        return pulled(found, self.weight * pull(_gradient(self.log_factor, found.data)))

    def scales(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the denoiser."""
        scales: tuple[Tensor, Tensor] = self.denoiser.scales(time)
        return scales

    def noisy(self, data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Data with noise, as the denoiser has them."""
        noisy: Tensor = self.denoiser.noisy(data, noise, time)
        return noisy


def pulled(found: Denoised, gradient: Tensor) -> Denoised:
    r"""The expected data and noise when the score has :math:`\nabla` more.

    .. math:: \hat x + \frac{\sigma_t^2}{\alpha_t} \nabla, \quad \hat\epsilon - \sigma_t \nabla

    Args:
        found: What a denoiser says.
        gradient: With respect to the noisy values, of their shape.
    """
    data = found.data + found.sigma**2 / found.alpha * gradient
    return replace(found, data=data, noise=found.noise - found.sigma * gradient)


def estimate_and_pull(
    denoiser: Any, noisy: Tensor, time: Tensor, context: Tensor | None = None
) -> tuple[Denoised, Callable[[Tensor], Tensor]]:
    """What a denoiser says, and the map of gradients at the expected data to gradients at the noisy values.

    Args:
        denoiser: The denoiser.
        noisy: Shape (\\*batch, \\*event).
        time: Shape (\\*batch), or one that broadcasts to it.
        context: What the denoiser is given.
    """

    def estimate(value: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found = denoiser(value, time, context)
        parts = {field.name: getattr(found, field.name) for field in fields(found)}
        data = parts.pop("data")
        return data, {name: part for name, part in parts.items() if part is not None}

    data, pull, rest = torch.func.vjp(estimate, noisy, has_aux=True)  # type: ignore[misc]
    return Denoised(data, **rest), lambda gradient: pull(gradient)[0]


def _gradient(log_factor: Callable[..., Tensor], value: Tensor) -> Tensor:
    found, pull = torch.func.vjp(log_factor, value)  # type: ignore[misc]
    gradient: Tensor = pull(torch.ones_like(found))[0]
    return gradient
