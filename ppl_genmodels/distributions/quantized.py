r"""Pixels of few levels as continuous values seen through their cells.

Convention of this module: of :math:`K` levels, level :math:`k` is the grey level :math:`k / (K - 1)` between 0 and 1,
as :func:`ppl_genmodels.data.load` gives it, and the cell of continuous values from :math:`k` to :math:`k + 1`.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["CellUniform", "Quantized", "level_of"]

_NEAR = 1e-3
"""How far a grey level may lie from a level's own, in levels."""


class Quantized(dist.TorchDistribution):
    r"""The grey level that is seen of a continuous value, :math:`x = \lfloor v \rfloor / (K - 1)`, elementwise.

    Values below 0 are seen as the lowest level, values above :math:`K` as the highest. A cell includes both its ends,
    so that what rounding puts on its edge is not lost.

    Its log-density is zero in the cell and :math:`-\infty` outside, so that a density of :math:`v` makes a probability
    of :math:`x`, :math:`P(x) = \int_{\mathrm{cell}(x)} p(v) \, dv`; a guide of :math:`v` given :math:`x` is a
    dequantization, and its evidence bound one on :math:`\log P(x)`.

    Args:
        value: The continuous values.
        levels: :math:`K`, 256 for bytes.

    Raises:
        OptionError: When there are fewer than two levels.

    References:
        Theis, van den Oord and Bethge (2016), A note on the evaluation of generative models, section 3.1; Ho and
        others (2019), Flow++, section 3.1.

    Example:
        >>> seen = Quantized(torch.tensor([0.4, 2.7, 3.1]), levels=4)
        >>> seen.mean
        tensor([0.0000, 0.6667, 1.0000])
        >>> seen.log_prob(torch.tensor([0.0, 1.0, 1.0]))
        tensor([0., -inf, 0.])
    """

    arg_constraints: dict[str, Any] = {"value": constraints.real}  # noqa: RUF012 (torch declares it so)

    def __init__(self, value: Tensor, levels: int = 256, validate_args: bool | None = None) -> None:
        if check_size("Quantized", "levels", levels) < 2:
            raise OptionError(f"Quantized: levels={levels}, expected 2 or more. Remedy: levels=256 for bytes.")
        self.value, self.levels = value, int(levels)
        super().__init__(value.shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The grey levels."""
        return _GreyLevels(self.levels)

    @property
    def mean(self) -> Tensor:
        """The grey level that is seen, of the batch shape."""
        return self.value.floor().clamp(0, self.levels - 1) / (self.levels - 1)

    @property
    def variance(self) -> Tensor:
        """Zero, of the batch shape."""
        return torch.zeros_like(self.value)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Quantized:
        """The same with another batch shape."""
        return Quantized(self.value.expand(batch_shape), self.levels, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""The grey level that is seen, shape (\*sample, \*batch)."""
        return self.mean.detach().expand(torch.Size(sample_shape) + self.batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Zero where the continuous value lies in the cell, minus infinity elsewhere, shape (\*sample, \*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        level = level_of(value, self.levels)
        above = (self.value >= level) | (level == 0)
        below = (self.value <= level + 1) | (level == self.levels - 1)
        return torch.where(above & below, 0.0, -torch.inf).to(self.value.dtype)


class CellUniform(dist.Uniform):
    """Uniform on the cells of levels; its draws are never on an upper end, where rounding could put them.

    Args:
        level: From 0 to the number of levels less one, as a floating dtype.

    References:
        Uria, Murray and Larochelle (2013), RNADE: The real-valued neural autoregressive density-estimator, section 5.1.

    Example:
        >>> cell = CellUniform(torch.full((1000,), 100.0))
        >>> (cell.rsample().floor() == 100).all()
        tensor(True)
    """

    def __init__(self, level: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(level, level + 1, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> CellUniform:
        """The same with another batch shape."""
        return CellUniform(self.low.expand(batch_shape), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws, shape (\*sample, \*batch)."""
        return torch.minimum(super().rsample(torch.Size(sample_shape)), torch.nextafter(self.high, self.low))


def level_of(grey: Tensor, levels: int) -> Tensor:
    """The level of a grey level between 0 and 1: from 0 to the number of levels less one, of the same dtype.

    Example:
        >>> level_of(torch.tensor([0.0, 100 / 255, 1.0]), 256)
        tensor([  0., 100., 255.])
    """
    return (grey * (levels - 1)).round()


class _GreyLevels(constraints.Constraint):
    """Multiples of one over the number of levels less one, from 0 to 1."""

    is_discrete = True

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        level = level_of(value, self.levels)
        near = (value * (self.levels - 1) - level).abs() < _NEAR
        return near & (level >= 0) & (level < self.levels)
