r"""Progressive generation: what a diffusion expects its data to be, on the way from noise.

Convention of this module: a panel shows the estimates :math:`E[x \mid x_t]` at one time of the ancestral chain, the
noisiest first; a row of images, or a colour of points, is one sample throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from ppl_genmodels.diagnostics.diffusion_noise import draw_noise, own_seed
from ppl_genmodels.diagnostics.fitted_like import to_array
from ppl_genmodels.diagnostics.images import as_images, event_shape, gray_limits, show_images
from ppl_genmodels.diagnostics.observations import spread_index
from ppl_genmodels.diagnostics.style import new_axes, styled
from ppl_genmodels.distributions.reverse_step import reverse_step
from ppl_genmodels.distributions.samplers import time_grid
from ppl_genmodels.errors import DataError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["plot_progressive_generation"]

IMAGES, POINTS = 6, 800


@styled
def plot_progressive_generation(
    flow: Any,
    samples: int | None = None,
    *,
    columns: int = 8,
    steps: int = 100,
    context: Tensor | None = None,
    image_shape: Sequence[int] | None = None,
    seed: int = 0,
    axes: Any = None,
) -> NDArray[Any]:
    r"""The denoiser's estimates of the data along the chain from noise to data, a panel for each of some times.

    Args:
        flow: The :class:`~ppl_genmodels.transforms.ProbabilityFlow` of the denoiser, of images or of pairs.
        samples: How many; by default 6 images, or 800 points.
        columns: How many times are shown.
        steps: Of the chain.
        context: What the denoiser is given, shape (samples, features).
        image_shape: (height, width) or (channels, height, width), where that cannot be told.
        seed: Of the noise.
        axes: One for each column; new ones when None.

    Returns:
        The axes, one-dimensional.

    Raises:
        DataError: When an event is neither an image nor a pair.
        OptionError: When a number is no positive integer.

    References:
        Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models, section 4.3 and figure 6.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> from ppl_genmodels.transforms import ProbabilityFlow
        >>> flow = ProbabilityFlow(Denoiser(TimeMLP(2), CosineNoising()), (2,))
        >>> panels = plot_progressive_generation(flow, 50, columns=3, steps=4, axes=Figure().subplots(1, 3))
        >>> [panel.get_title() for panel in panels]
        ['time 1', '0.5', '0']
    """
    where = "plot_progressive_generation"
    for name, number in {"columns": columns, "steps": steps, "samples": samples or 1}.items():
        check_size(where, name, number)
    shape = image_shape or event_shape(np.empty((1, *flow.event_shape)))
    if shape is None and tuple(flow.event_shape) != (2,):
        raise DataError(
            f"{where}: the event shape {tuple(flow.event_shape)} is neither that of images nor (2,). Remedy: "
            f"image_shape=(height, width), where a datum is an image."
        )
    rows = samples or (POINTS if shape is None else IMAGES)
    estimates = _estimates(flow, rows, steps, context, seed)
    shown = spread_index(len(estimates), columns)
    chosen = np.stack([to_array(estimates[number]) for number in shown]).astype(np.float64)
    panels = _of_points(chosen, axes) if shape is None else _of_images(chosen, shape, axes)
    _label(panels, 1 - shown / steps)
    return panels


@torch.no_grad()
def _estimates(flow: Any, rows: int, steps: int, context: Tensor | None, seed: int) -> list[Tensor]:
    """The expected data at every time of the ancestral chain, from 1 to 0."""
    denoiser, generator = flow.denoiser, torch.Generator(flow.base_loc.device).manual_seed(own_seed(seed))
    times = time_grid(steps, flow.base_loc)
    value = flow.base_scale().reshape(flow.event_shape) * draw_noise(flow, rows, generator)
    estimates = []
    for time, earlier in pairwise(times):
        found = denoiser(value, time, context)
        estimates.append(found.data)
        mean, variance = reverse_step(denoiser, found, value, time, earlier)
        value = mean + variance.sqrt() * draw_noise(flow, rows, generator)
    return [*estimates, denoiser(value, times[-1], context).data]


def _of_images(estimates: NDArray[np.float64], shape: Sequence[int], axes: Any) -> NDArray[Any]:
    count, rows = estimates.shape[:2]
    height, width = shape[-2:]
    size = (0.95 * count + 0.2, 0.9 * rows * height / width + 0.5)
    panels = _panels(count, size, axes)
    limits = gray_limits(estimates[-1])
    for panel, column in zip(panels, estimates, strict=True):
        show_images(panel, as_images(column, shape), 1, limits)
    return panels


def _of_points(estimates: NDArray[np.float64], axes: Any) -> NDArray[Any]:
    panels = _panels(len(estimates), (1.5 * len(estimates) + 0.3, 1.9), axes)
    last = estimates[-1] - estimates[-1].mean(0)
    direction = np.arctan2(last[:, 1], last[:, 0])
    low, high = estimates[-1].min(0), estimates[-1].max(0)
    margin = 0.1 * (high - low) + 1e-6
    for panel, points in zip(panels, estimates, strict=True):
        panel.scatter(*points.T, c=direction, cmap="hsv", vmin=-np.pi, vmax=np.pi, s=4, linewidths=0)
        panel.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
        panel.set(xticks=[], yticks=[])
    return panels


def _panels(count: int, size: tuple[float, float], axes: Any) -> NDArray[Any]:
    made = new_axes(1, count, size) if axes is None else axes
    panels: NDArray[Any] = np.atleast_1d(made).ravel()
    if len(panels) < count:
        raise DataError(f"plot_progressive_generation: got {len(panels)} axes, expected one for each of {count} times.")
    return panels[:count]


def _label(panels: NDArray[Any], times: NDArray[np.float64]) -> None:
    panel: Axes
    for number, (panel, time) in enumerate(zip(panels, times, strict=True)):
        panel.set_title(f"time {time:.2g}" if number == 0 else f"{time:.2g}", fontsize=10, fontweight="normal")
