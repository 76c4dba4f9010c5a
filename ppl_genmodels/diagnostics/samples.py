"""Draws from the prior predictive: a sheet of images, or features beside those of the data.

Convention of this module: of several observed sites the first is drawn, unless one is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ppl_genmodels.diagnostics.fitted_like import FittedLike, image_shape_of, observed_site, site_values, to_array
from ppl_genmodels.diagnostics.images import as_images, event_shape, gray_limits, show_images
from ppl_genmodels.diagnostics.observations import draw_groups, flat_rows, spread_index
from ppl_genmodels.diagnostics.style import new_axes, styled

__all__ = ["describe_samples", "plot_samples"]


@styled
def plot_samples(
    fitted: FittedLike,
    n: int = 60,
    *,
    data: ArrayLike | None = None,
    site: str | None = None,
    image_shape: Sequence[int] | None = None,
    seed: int | None = 0,
    samples: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    r"""A sheet of ``n`` samples as images, or their features where they are no images.

    Args:
        fitted: What was fitted.
        n: How many samples.
        data: Observations of the same site, shape (row, \*event), to compare with.
        site: The observed site; the first when None.
        image_shape: (height, width) or (channels, height, width), where that cannot be told.
        seed: Seed of the draws.
        samples: Draws made before, shape (n, \*event), to draw these instead.
        ax: Where to draw.

    Raises:
        UnknownNameError: When there is no such observed site.
        DataError: When ``image_shape`` does not fit.
        ProgramError: When the program cannot run without data.

    Example:
        >>> import torch, ppl_genmodels as ppl
        >>> from matplotlib.figure import Figure
        >>> program = ppl.models.VAE(data_dim=36, latent_dim=2, hidden=(8,))
        >>> x = torch.rand(64, 36).round()
        >>> fitted = ppl.fit(program, x, steps=20, progress=False)
        >>> ax = plot_samples(fitted, 12, ax=Figure().subplots())
        >>> ax.get_title()
        'x: samples from the program'
    """
    name = observed_site(fitted, site)
    drawn = site_values(fitted, name, fitted.sample(n, seed=seed)[name] if samples is None else samples)
    shape = image_shape or image_shape_of(fitted.program) or event_shape(drawn)
    if shape is not None:
        images = as_images(drawn[:n], shape)
        columns = min(len(images), int(np.ceil(np.sqrt(2.4 * len(images)))))
        axes: Axes = new_axes(size=_sheet_size(images, columns)) if ax is None else ax
        show_images(axes, images, columns, gray_limits(drawn if data is None else data))
    else:
        axes = new_axes(size=(6.4, 4.2)) if ax is None else ax
        draw_groups(axes, _beside(drawn, data))
    axes.set_title(f"{name}: samples from the program")
    return axes


def _beside(samples: NDArray[Any], data: ArrayLike | None) -> dict[str, NDArray[np.float64]]:
    groups = {} if data is None else {"data": flat_rows(data)}
    return groups | {"samples": flat_rows(samples)}


def _sheet_size(images: NDArray[Any], columns: int) -> tuple[float, float]:
    rows = -(-len(images) // columns)
    width = 8.0
    return width, 0.5 + width * rows * images.shape[1] / (columns * images.shape[2])


def describe_samples(samples: ArrayLike, data: ArrayLike | None = None) -> str:
    r"""Mean, spread and diversity of samples, against those of the data where they are given.

    Args:
        samples: Shape (n, \*event).
        data: Shape (row, \*event).

    Example:
        >>> describe_samples(np.eye(2))
        'Samples have mean 0.5 and standard deviation 0.5, and lie 1.41 apart on average.'
    """
    drawn = _complete(flat_rows(to_array(samples)))
    moments = f"mean {drawn.mean():.3g} and standard deviation {drawn.std():.3g}"
    apart = f"lie {_distance(drawn):#.3g} apart on average"
    if data is None:
        return f"Samples have {moments}, and {apart}."
    seen = _complete(flat_rows(to_array(data)))
    return (
        f"Samples have {moments} (data {seen.mean():.3g} and {seen.std():.3g}), "
        f"and {apart} (data {_distance(seen):#.3g})."
    )


def _complete(values: NDArray[np.float64]) -> NDArray[np.float64]:
    complete = values[np.isfinite(values).all(-1)]
    return complete if len(complete) else np.nan_to_num(values)


def _distance(values: NDArray[np.float64], most: int = 200) -> float:
    """Mean Euclidean distance between two different rows."""
    some = values[spread_index(len(values), most)]
    squared = ((some[:, None] - some[None]) ** 2).sum(-1)
    pairs = len(some) * (len(some) - 1)
    return float(np.sqrt(squared).sum() / pairs) if pairs else 0.0
