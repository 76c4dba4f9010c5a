"""The density of a site of two numbers, on a grid.

Convention of this module: what has a density is a distribution of pairs, or a program with one observed site of two
numbers and no latent sites, whose evidence of a row is its density. The grid covers the data; without data, draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.diagnostics.fitted_like import to_array
from ppl_genmodels.diagnostics.observations import spread_index
from ppl_genmodels.diagnostics.style import new_axes, styled
from ppl_genmodels.errors import DataError, ProgramError
from ppl_genmodels.inference.evidence import log_evidence
from ppl_genmodels.inference.predictive import sample_prior
from ppl_genmodels.program import as_program
from ppl_genmodels.structure import Structure

__all__ = ["Limits", "describe_density", "has_density", "plot_density"]

Limits = Sequence[Sequence[float]]
"""Lowest and highest value, across and up."""

CELLS = 140
"""Along each side of the grid."""
DRAWN = 2000
MOST_POINTS = 500
BRIGHTEST = 0.998
"""The share of the grid whose density the colours tell apart; narrow peaks above do not darken the rest."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class _Density:
    """Where densities come from: points (row, 2) to log-densities (row,), and draws (row, 2)."""

    log_prob: Callable[[Values], Values]
    draw: Callable[[], Values]


@styled
def plot_density(
    source: Any, data: ArrayLike | None = None, *, limits: Limits | None = None, ax: Axes | None = None
) -> Axes:
    """The density of a site of two numbers as colours, with a colour bar, and data as points over it.

    Args:
        source: A distribution of pairs, a program with one observed site of two numbers and no latent sites, or what
            was fitted of such a program.
        data: Rows, shape (row, 2), drawn as points.
        limits: ((lowest, highest) across, (lowest, highest) up); of the data by default, and without data of draws.
        ax: Where to draw.

    Raises:
        ProgramError: When a row has no density of its own: the program has latent sites, or another number of
            observed sites than one.
        DataError: When the site or the data are not pairs, or the limits do not rise.

    Example:
        >>> import pyro.distributions as dist
        >>> from matplotlib.figure import Figure
        >>> normal = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        >>> ax = plot_density(normal, np.random.default_rng(0).normal(size=(50, 2)), ax=Figure().subplots())
        >>> ax.get_title()
        'density'
    """
    density, points = _density_of(source), _points(data)
    across, up = _grid(density, points, limits)
    values = _on_grid(density, across, up)
    axes: Axes = new_axes(size=(5.8, 4.8)) if ax is None else ax
    top = float(np.quantile(values, BRIGHTEST)) or None
    mesh = axes.pcolormesh(across, up, values.T, cmap="viridis", vmin=0.0, vmax=top, rasterized=True)
    axes.figure.colorbar(mesh, ax=axes, label="density", extend="max", fraction=0.046, pad=0.03)
    if points is not None:
        some = points[spread_index(len(points), MOST_POINTS)]
        axes.scatter(some[:, 0], some[:, 1], s=5, color="white", linewidths=0, alpha=0.7)
    axes.set(
        xlim=(across[0], across[-1]), ylim=(up[0], up[-1]), title="density", xlabel="feature 0", ylabel="feature 1"
    )
    axes.grid(visible=False)
    return axes


def describe_density(source: Any, data: ArrayLike | None = None, *, limits: Limits | None = None) -> str:
    """The mass on the grid, and the mean log-density of the data.

    Args:
        source: As for :func:`plot_density`.
        data: Rows, shape (row, 2).
        limits: Of the grid; see :func:`plot_density`.

    Raises:
        ProgramError: When a row has no density of its own.
        DataError: When the site or the data are not pairs, or the limits do not rise.

    Example:
        >>> import pyro.distributions as dist
        >>> normal = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        >>> describe_density(normal, np.zeros((5, 2)), limits=((-1.0, 1.0), (-9.0, 9.0)))
        'The grid holds 68.3 % of the mass. 5 rows of data have a mean log-density of -1.838 ± 0.000 nats.'
    """
    density, points = _density_of(source), _points(data)
    across, up = _grid(density, points, limits)
    mass = trapezoid(trapezoid(_on_grid(density, across, up), up), across)
    sentence = f"The grid holds {100 * mass:.1f} % of the mass."
    if points is None:
        return sentence
    found = density.log_prob(points)
    error = found.std() / np.sqrt(len(found))
    return f"{sentence} {len(found)} rows of data have a mean log-density of {found.mean():.3f} ± {error:.3f} nats."


def has_density(structure: Structure) -> bool:
    """Whether each row of a program has a density of its own, of two numbers.

    Example:
        >>> has_density(Structure((), (), None, 0))
        False
    """
    observed = structure.observed
    return not structure.latent and len(observed) == 1 and tuple(observed[0].event_shape) == (2,)


def _density_of(source: Any) -> _Density:
    if hasattr(source, "log_prob"):
        _check_pairs(tuple(source.event_shape))
        return _of_distribution(source)
    if hasattr(source, "log_evidence"):
        _check_density(source.structure)
        return _of_program(lambda rows: source.log_evidence(rows, 1), lambda: source.sample(DRAWN, seed=0))
    program = as_program(source)
    _check_density(program.structure(torch.zeros(2, 2)))
    return _of_program(lambda rows: log_evidence(program, Rows.of(rows), 1), lambda: sample_prior(program, DRAWN))


def _of_distribution(source: Any) -> _Density:
    @torch.no_grad()
    def log_prob(points: Values) -> Values:
        like = draw()
        return _numbers(source.log_prob(torch.as_tensor(points, dtype=like.dtype, device=like.device)))

    def draw() -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return cast(Tensor, source.sample((DRAWN,)))

    return _Density(log_prob, lambda: _numbers(draw()).reshape(-1, 2))


def _of_program(evidence: Callable[[Tensor], Tensor], sample: Callable[[], dict[str, Tensor]]) -> _Density:
    def log_prob(points: Values) -> Values:
        return _numbers(evidence(torch.as_tensor(points, dtype=torch.get_default_dtype())))

    return _Density(log_prob, lambda: _numbers(next(iter(sample().values()))).reshape(-1, 2))


def _numbers(values: Tensor) -> Values:
    return to_array(values).astype(np.float64)


def _check_density(structure: Structure) -> None:
    if structure.latent or len(structure.observed) != 1:
        latent, observed = ([site.name for site in sites] for sites in (structure.latent, structure.observed))
        raise ProgramError(
            f"density: the program has the latent sites {latent} and the observed sites {observed}, expected no latent "
            f"and one observed site. Remedy: pass the distribution of the pairs, or look at plot_samples."
        )
    _check_pairs(tuple(structure.observed[0].event_shape))


def _check_pairs(event_shape: tuple[int, ...]) -> None:
    if event_shape != (2,):
        raise DataError(
            f"density: the site has the event shape {event_shape}, expected (2,). Remedy: plot_samples_and_data "
            f"shows more columns, two by two."
        )


def _points(data: ArrayLike | None) -> Values | None:
    if data is None:
        return None
    points = to_array(data).astype(np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise DataError(f"density: the data have the shape {points.shape}, expected (rows, 2), at least one row.")
    return points


def _grid(density: _Density, points: Values | None, limits: Limits | None) -> tuple[Values, Values]:
    """The places across and up; of draws the farthest are left out."""
    if limits is None:
        seen = np.quantile(density.draw(), [0.005, 0.995], axis=0) if points is None else points
        low, high = seen.min(0), seen.max(0)
        margin = 0.12 * (high - low) + 1e-6
        limits = list(zip(low - margin, high + margin, strict=True))
    if np.shape(limits) != (2, 2) or not all(low < high for low, high in limits):
        raise DataError(f"density: limits={limits}, expected ((lowest, highest), (lowest, highest)), across and up.")
    (left, right), (bottom, top) = limits
    return np.linspace(left, right, CELLS), np.linspace(bottom, top, CELLS)


def _on_grid(density: _Density, across: Values, up: Values) -> Values:
    """The density at each place of the grid, shape (across, up)."""
    points = np.stack(np.meshgrid(across, up, indexing="ij"), -1)
    return np.exp(density.log_prob(points.reshape(-1, 2))).reshape(points.shape[:2])
