r"""How much noise there is at each time of a diffusion.

Convention of this module: time runs from 0, data, to 1, noise; :math:`x_t = \alpha_t x + \sigma_t \epsilon`. The log
signal-to-noise ratio :math:`\lambda_t = 2 \log \alpha_t - 2 \log \sigma_t`, in nats, falls with time.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError

__all__ = [
    "CosineNoising",
    "EDMNoising",
    "LearnedNoising",
    "LinearNoising",
    "Noising",
    "VarianceExploding",
    "VariancePreserving",
]


class Noising(nn.Module):
    """The scale of the data and of the noise at every time."""

    @abstractmethod
    def log_alpha(self, time: Tensor) -> Tensor:
        """The log of the data's scale, of the shape of ``time``."""

    @abstractmethod
    def log_sigma(self, time: Tensor) -> Tensor:
        """The log of the noise's scale, of the shape of ``time``."""

    def alpha(self, time: Tensor) -> Tensor:
        """The data's scale, of the shape of ``time``."""
        return self.log_alpha(time).exp()

    def sigma(self, time: Tensor) -> Tensor:
        """The noise's scale, of the shape of ``time``."""
        return self.log_sigma(time).exp()

    def scales(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """The scales of data and noise, each of the shape of ``time``."""
        return self.alpha(time), self.sigma(time)

    def log_snr(self, time: Tensor) -> Tensor:
        """The log signal-to-noise ratio, of the shape of ``time``."""
        return 2 * (self.log_alpha(time) - self.log_sigma(time))

    @torch.no_grad()
    def time_of(self, log_snr: Tensor) -> Tensor:
        """The time at which the log signal-to-noise ratio has a value, by bisection; the nearer end beyond both.

        Example:
            >>> noising = VarianceExploding(0.1, 10.0)
            >>> noising.time_of(noising.log_snr(torch.tensor(0.25)))
            tensor(0.2500)
        """
        time = torch.full_like(log_snr, 0.5)
        for halving in range(2, _HALVINGS):
            time = time + torch.where(self.log_snr(time) > log_snr, 0.5**halving, -(0.5**halving))
        return time

    def rates(self, time: Tensor) -> tuple[Tensor, Tensor]:
        r"""Drift and squared diffusion of the process that leads from data to noise.

        .. math:: dx = f_t x \, dt + g_t \, dw, \quad f_t = \frac{d \log \alpha_t}{dt}, \quad
            g_t^2 = 2 \sigma_t^2 \Bigl( \frac{d \log \sigma_t}{dt} - f_t \Bigr)

        Args:
            time: Any shape.

        Returns:
            :math:`f_t` and :math:`g_t^2`, each of the shape of ``time``.

        References:
            Kingma, Salimans, Poole and Ho (2021), Variational Diffusion Models, appendix A.
        """
        ones = torch.ones_like(time)
        _, of_alpha = torch.func.vjp(self.log_alpha, time)  # type: ignore[misc]
        log_sigma, of_sigma = torch.func.vjp(self.log_sigma, time)  # type: ignore[misc]
        (drift,), (growth,) = of_alpha(ones), of_sigma(ones)
        return drift, 2 * (2 * log_sigma).exp() * (growth - drift)


class VariancePreserving(Noising):
    """A noising whose squared scales sum to one, given by its log signal-to-noise ratio."""

    @abstractmethod
    def log_snr(self, time: Tensor) -> Tensor:
        """The log signal-to-noise ratio, of the shape of ``time``."""

    def log_alpha(self, time: Tensor) -> Tensor:
        """Half the log-sigmoid of the ratio."""
        return 0.5 * nn.functional.logsigmoid(self.log_snr(time))

    def log_sigma(self, time: Tensor) -> Tensor:
        """Half the log-sigmoid of minus the ratio."""
        return 0.5 * nn.functional.logsigmoid(-self.log_snr(time))

    def scales(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """The scales of data and noise, by one evaluation of the ratio."""
        log_snr = self.log_snr(time)
        return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


class LinearNoising(VariancePreserving):
    r"""Noise at a rate that rises linearly: :math:`\log \alpha_t = -\tfrac14 t^2 (b - a) - \tfrac12 t a`.

    The continuous limit of the rates 0.0001 to 0.02 in 1000 steps.

    Args:
        start: The rate :math:`a` at time 0.
        end: The rate :math:`b` at time 1.

    Raises:
        OptionError: When the rates are not positive and rising.

    References:
        Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models, section 4; Song and others (2021),
        Score-Based Generative Modeling through Stochastic Differential Equations, equation 32.

    Example:
        >>> LinearNoising().alpha(torch.tensor([0.0, 1.0]))
        tensor([0.9999, 0.0066])
    """

    def __init__(self, start: float = 0.1, end: float = 20.0) -> None:
        super().__init__()
        if not 0 < start < end:
            raise OptionError(f"LinearNoising: expected 0 < start < end, got {start} and {end}. Remedy: 0.1 and 20.")
        self.start, self.end = start, end

    def log_snr(self, time: Tensor) -> Tensor:
        """The log signal-to-noise ratio; least noise is kept at time 0, where there would be none."""
        twice_log_alpha = -time * (0.5 * time * (self.end - self.start) + self.start)
        return twice_log_alpha - _log_of_rest(twice_log_alpha)


class CosineNoising(VariancePreserving):
    r"""Data that fade as a quarter of a cosine.

    .. math:: \alpha_t = \cos\bigl(\tfrac\pi2 \tfrac{t + s}{1 + s}\bigr) / \cos\bigl(\tfrac\pi2 \tfrac{s}{1 + s}\bigr)

    Args:
        offset: :math:`s`, which keeps the first steps from being too small.

    References:
        Nichol and Dhariwal (2021), Improved Denoising Diffusion Probabilistic Models, equation 17.

    Example:
        >>> CosineNoising().alpha(torch.tensor(0.5))
        tensor(0.7027)
    """

    def __init__(self, offset: float = 0.008) -> None:
        super().__init__()
        self.offset = offset

    def log_snr(self, time: Tensor) -> Tensor:
        """The log signal-to-noise ratio; most of it is kept at time 1, where there would be none."""
        angle = 0.5 * math.pi * (time + self.offset) / (1 + self.offset)
        first = math.log(math.cos(0.5 * math.pi * self.offset / (1 + self.offset)))
        twice_log_alpha = 2 * (angle.cos().clamp(min=_LEAST_SIGNAL).log() - first)
        return twice_log_alpha - _log_of_rest(twice_log_alpha)


class LearnedNoising(VariancePreserving):
    r"""A monotone network's log signal-to-noise ratio between two learned ends.

    Args:
        start: The ratio at time 0 before training, in nats.
        end: The ratio at time 1 before training.
        hidden: Width of the network.

    Raises:
        OptionError: When the ratio does not fall.

    References:
        Kingma, Salimans, Poole and Ho (2021), Variational Diffusion Models, section 3.2 and appendix H.

    Example:
        >>> [round(ratio, 2) for ratio in LearnedNoising().log_snr(torch.tensor([0.0, 1.0])).tolist()]
        [10.0, -5.0]
    """

    def __init__(self, start: float = 10.0, end: float = -5.0, hidden: int = 64) -> None:
        super().__init__()
        if not start > end:
            raise OptionError(f"LearnedNoising: the ratio falls with time, got start={start} and end={end}.")
        self.start, self.log_fall = nn.Parameter(torch.tensor(start)), nn.Parameter(torch.tensor(start - end).log())
        self.inner, self.bias = nn.Parameter(torch.randn(hidden).abs()), nn.Parameter(torch.randn(hidden))
        self.outer, self.linear = nn.Parameter(torch.full((hidden,), -3.0)), nn.Parameter(torch.zeros(()))

    def log_snr(self, time: Tensor) -> Tensor:
        """The log signal-to-noise ratio, of the shape of ``time``."""
        low, high = self._rising(torch.zeros_like(time)), self._rising(torch.ones_like(time))
        return self.start - self.log_fall.exp() * (self._rising(time) - low) / (high - low)

    def _rising(self, time: Tensor) -> Tensor:
        softplus = nn.functional.softplus
        bends = torch.sigmoid(softplus(self.inner) * time.unsqueeze(-1) * 4 + self.bias)
        return softplus(self.linear) * time + (softplus(self.outer) * bends).sum(-1)


class VarianceExploding(Noising):
    r""":math:`\alpha_t = 1` and :math:`\sigma_t = a (b / a)^t`.

    Args:
        smallest: :math:`a`.
        largest: :math:`b`, of the order of the largest distance between data.

    Raises:
        OptionError: When the scales are not positive and rising.

    References:
        Song and others (2021), Score-Based Generative Modeling through Stochastic Differential Equations, appendix C.

    Example:
        >>> VarianceExploding(0.01, 100.0).sigma(torch.tensor([0.0, 0.5, 1.0]))
        tensor([1.0000e-02, 1.0000e+00, 1.0000e+02])
    """

    def __init__(self, smallest: float = 0.01, largest: float = 50.0) -> None:
        super().__init__()
        self.smallest, self.largest = _rising_scales("VarianceExploding", smallest, largest)

    def log_alpha(self, time: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(time)

    def log_sigma(self, time: Tensor) -> Tensor:
        """Linear in time."""
        return math.log(self.smallest) + time * math.log(self.largest / self.smallest)


class EDMNoising(Noising):
    r""":math:`\alpha_t = 1` and :math:`\sigma_t = (a^{1/\rho} + t (b^{1/\rho} - a^{1/\rho}))^\rho`.

    Args:
        smallest: :math:`a`, for data of variance about one quarter.
        largest: :math:`b`.
        rho: Larger spends more of the time at small noise.

    Raises:
        OptionError: When the scales are not positive and rising.

    References:
        Karras, Aittala, Aila and Laine (2022), Elucidating the Design Space of Diffusion-Based Generative Models,
        equation 5.

    Example:
        >>> EDMNoising().sigma(torch.tensor([0.0, 1.0]))
        tensor([2.0000e-03, 8.0000e+01])
    """

    def __init__(self, smallest: float = 0.002, largest: float = 80.0, rho: float = 7.0) -> None:
        super().__init__()
        self.smallest, self.largest = _rising_scales("EDMNoising", smallest, largest)
        self.rho = rho

    def log_alpha(self, time: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(time)

    def log_sigma(self, time: Tensor) -> Tensor:
        """The log of the scale, of the shape of ``time``."""
        low, high = self.smallest ** (1 / self.rho), self.largest ** (1 / self.rho)
        return self.rho * (low + time * (high - low)).log()


_HALVINGS = 30
"""Of the interval of time in which a ratio is sought."""

_LEAST_SIGNAL = 1e-3
"""The data's scale that the cosine is kept at, as its last steps would have none."""

_LEAST_NOISE = 1e-4
"""The noise's variance at time 0, as Ho and others' first step has it."""


def _log_of_rest(twice_log_alpha: Tensor) -> Tensor:
    """The log of the noise's variance, never less than the least."""
    return (-torch.expm1(twice_log_alpha)).clamp(min=_LEAST_NOISE).log()


def _rising_scales(owner: str, smallest: float, largest: float) -> tuple[float, float]:
    if not 0 < smallest < largest:
        raise OptionError(f"{owner}: expected 0 < smallest < largest, got {smallest} and {largest}.")
    return smallest, largest
