r"""A denoiser: what a network says of the data and of the noise in a noisy value.

Convention of this module: :math:`x_t = \alpha_t x + \sigma_t \epsilon`. Values have the shape (\*batch, \*event), times
(\*batch) or any shape that broadcasts to it; time runs from 0, data, to 1, noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.importance import TimeImportance
from ppl_genmodels.networks.noising import Noising

__all__ = ["Denoised", "Denoiser", "Predicts"]

Predicts = Literal["noise", "data", "velocity", "score", "preconditioned"]


@dataclass(frozen=True)
class Denoised:
    r"""What is known of a noisy value: the expected data and noise, which say the same.

    Attributes:
        data: :math:`E[x \mid x_t]`, shape (\*batch, \*event).
        noise: :math:`E[\epsilon \mid x_t]`, of the same shape.
        alpha: The data's scale, with a dim of size 1 for each event dim.
        sigma: The noise's scale, with a dim of size 1 for each event dim.
        widening: Where the log-variance of a step of the chain lies between the posterior's, 0, and that of the step
            towards the noise, 1; of the values' shape, or None where it is the posterior's.
    """

    data: Tensor
    noise: Tensor
    alpha: Tensor
    sigma: Tensor
    widening: Tensor | None = None

    @property
    def score(self) -> Tensor:
        r"""The gradient of the log-density of the noisy value, :math:`-E[\epsilon \mid x_t] / \sigma_t`."""
        return -self.noise / self.sigma

    @property
    def velocity(self) -> Tensor:
        r""":math:`\alpha_t \epsilon - \sigma_t x`."""
        return self.alpha * self.noise - self.sigma * self.data


class Denoiser(nn.Module):
    r"""A network with the noising that it is made for and what its output stands for.

    ============== =======================================================
    it predicts    the output is
    ============== =======================================================
    noise          :math:`\epsilon`
    data           :math:`x`
    velocity       :math:`\alpha_t \epsilon - \sigma_t x`
    score          :math:`-\epsilon / \sigma_t`
    preconditioned the residual of the best linear estimate of :math:`x`, to unit variance
    ============== =======================================================

    Args:
        network: Called with values, scaled to unit variance, their times, shape (\*batch), and the context if there is
            one; any module that gives an output of the values' shape.
        noising: How much noise there is at each time.
        predicts: What the output stands for.
        event_dim: How many dims one value has: 1 for vectors, 3 for images.
        data_scale: The data's standard deviation, about.
        learned_variance: Whether the network has twice as many outputs, in the first event dim, the further ones for
            the variance of the chain's steps; these learn from the bound of a chain, ``denoising(steps=...)``, alone.

    Raises:
        OptionError: When ``predicts`` is none of these.

    References:
        Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models, section 3.2, for the noise; Salimans and
        Ho (2022), Progressive Distillation, section 4, for the velocity; Karras, Aittala, Aila and Laine (2022),
        Elucidating the Design Space of Diffusion-Based Generative Models, table 1, for the preconditioned; Nichol and
        Dhariwal (2021), Improved Denoising Diffusion Probabilistic Models, section 3.1, for the learned variance.

    Example:
        >>> import torch
        >>> from ppl_genmodels.networks import CosineNoising, TimeMLP
        >>> denoiser = Denoiser(TimeMLP(2), CosineNoising(), predicts="velocity")
        >>> found = denoiser(torch.zeros(5, 2), torch.tensor(0.3))
        >>> found.data.shape, found.score.shape
        (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        network: nn.Module,
        noising: Noising,
        predicts: Predicts = "noise",
        event_dim: int = 1,
        data_scale: float = 1.0,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        if predicts not in get_args(Predicts):
            listed = ", ".join(map(repr, get_args(Predicts)))
            raise OptionError(f"Denoiser: predicts={predicts!r}, expected one of {listed}.")
        self.network, self.noising = network, noising
        self.predicts, self.event_dim, self.data_scale = predicts, event_dim, data_scale
        self.learned_variance, self.importance = learned_variance, TimeImportance()

    def forward(self, noisy: Tensor, time: Tensor, context: Tensor | None = None) -> Denoised:
        r"""What the network says of noisy values.

        Args:
            noisy: Shape (\*batch, \*event).
            time: Shape (\*batch), or one that broadcasts to it.
            context: What the network is given beside them.
        """
        alpha, sigma = self.scales(time)
        spread = (alpha**2 * self.data_scale**2 + sigma**2).sqrt()
        batch = noisy.shape[: noisy.dim() - self.event_dim]
        given = () if context is None else (context,)
        output = self.network(noisy / spread, time.expand(batch), *given)
        if not self.learned_variance:
            return self._denoised(noisy, output, alpha, sigma, spread)
        output, widening = output.chunk(2, -self.event_dim)
        return replace(self._denoised(noisy, output, alpha, sigma, spread), widening=(widening + 1) / 2)

    def scales(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """The scales of data and noise, each with a dim of size 1 for each event dim."""
        time = time.reshape(*time.shape, *(1,) * self.event_dim)
        return self.noising.scales(time)

    def noisy(self, data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        r"""Data with noise, :math:`\alpha_t x + \sigma_t \epsilon`."""
        alpha, sigma = self.scales(time)
        return alpha * data + sigma * noise

    def _denoised(self, noisy: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor, spread: Tensor) -> Denoised:
        if self.predicts in ("noise", "score"):
            noise = output if self.predicts == "noise" else -sigma * output
            return Denoised((noisy - sigma * noise) / alpha, noise, alpha, sigma)
        if self.predicts == "velocity":
            total = alpha**2 + sigma**2
            data, noise = (alpha * noisy - sigma * output) / total, (sigma * noisy + alpha * output) / total
            return Denoised(data, noise, alpha, sigma)
        data = output if self.predicts == "data" else self._preconditioned(noisy, output, alpha, sigma, spread)
        return Denoised(data, (noisy - alpha * data) / sigma, alpha, sigma)

    def _preconditioned(self, noisy: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor, spread: Tensor) -> Tensor:
        kept = alpha * self.data_scale**2 / spread**2
        return kept * noisy + sigma * self.data_scale / spread * output
