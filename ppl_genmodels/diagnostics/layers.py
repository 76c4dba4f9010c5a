"""The path of points through the layers of a flow of two numbers, from noise to data.

Convention of this module: the first panel holds draws of the base, each later one the same draws behind a layer; a
continuous layer has panels for times between. A point keeps its colour, which is its direction from the middle of the
base.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor
from torch.distributions.transforms import ComposeTransform, _InverseTransform
from torchdiffeq import odeint

from ppl_genmodels.diagnostics.fitted_like import to_array
from ppl_genmodels.diagnostics.observations import spread_index
from ppl_genmodels.diagnostics.style import new_axes, styled
from ppl_genmodels.errors import DataError, PplError, ProgramError
from ppl_genmodels.program import as_program
from ppl_genmodels.structure import sample_sites
from ppl_genmodels.transforms import Continuous, call_and_ladj
from ppl_genmodels.transforms.bijection import sum_rightmost

__all__ = ["describe_layers", "flow_of", "has_layers", "plot_layers"]

MOST_PANELS = 10
COLUMNS = 5
POINTS = 1500
BETWEEN = (0.25, 0.5, 0.75)
"""Times of the further panels of a continuous layer."""

Values = NDArray[np.float64]


@styled
def plot_layers(source: Any, axes: Any = None) -> NDArray[Any]:
    """Points before and behind each layer of a flow, from noise to data, each in the colour of where it came from.

    Args:
        source: A flow of pairs (a distribution with a base and transforms), a program with a site of that kind, or what
            was fitted of such a program.
        axes: As many as there are layers and one more; new ones when None. Of more than nine layers some are left out,
            evenly.

    Returns:
        The axes, one-dimensional: the noise first, the data last.

    Raises:
        DataError: When the distribution is no flow of pairs.
        ProgramError: When the program has no site of that kind, or cannot run without data.

    Example:
        >>> from matplotlib.figure import Figure
        >>> import pyro.distributions as dist
        >>> from ppl_genmodels.distributions import Flow
        >>> from ppl_genmodels.transforms import ActNorm, Coupling
        >>> flow = Flow(dist.Normal(torch.zeros(2), 1.0).to_event(1), [Coupling(2), ActNorm(2)])
        >>> [panel.get_title() for panel in plot_layers(flow, Figure().subplots(3))]
        ['noise', '1: Coupling', '2: ActNorm']
    """
    steps = _path(flow_of(source))
    shown = spread_index(len(steps), MOST_PANELS if axes is None else np.size(axes))
    panels: NDArray[Any] = _new_panels(len(shown)) if axes is None else np.atleast_1d(axes).ravel()
    start = steps[0].points - steps[0].points.mean(0)
    direction = np.arctan2(start[:, 1], start[:, 0])
    for number, panel in zip(shown, panels, strict=False):
        points = steps[number].points
        panel.scatter(points[:, 0], points[:, 1], c=direction, cmap="hsv", vmin=-np.pi, vmax=np.pi, s=5, linewidths=0)
        _frame(panel, points, steps[number].name)
    return panels


def describe_layers(source: Any) -> str:
    """The mean change of log-volume along the flow, and the layer with the largest.

    Args:
        source: As for :func:`plot_layers`.

    Raises:
        DataError: When the distribution is no flow of pairs.
        ProgramError: When the program has no site of that kind, or cannot run without data.

    Example:
        >>> import pyro.distributions as dist
        >>> from ppl_genmodels.distributions import Flow
        >>> from torch.distributions.transforms import AffineTransform
        >>> stretch = AffineTransform(torch.zeros(2), torch.tensor([2.0, 3.0]))
        >>> describe_layers(Flow(dist.Normal(torch.zeros(2), 1.0).to_event(1), [stretch]))
        'From noise to data log-volumes change by 1.79 nats on average; the most, 1.79, in layer 1 (AffineTransform).'
    """
    steps = _path(flow_of(source))[1:]
    changes = np.array([step.log_volume for step in steps])
    most = int(np.abs(changes).argmax())
    number, _, kind = steps[most].name.partition(": ")
    return (
        f"From noise to data log-volumes change by {changes.sum():.2f} nats on average; the most, {changes[most]:.2f}, "
        f"in layer {number} ({kind})."
    )


def flow_of(source: Any) -> Any:
    """The flow of pairs that ``source`` is or that one of its sites has.

    Args:
        source: A distribution, a program, or what was fitted.

    Raises:
        DataError: When the distribution is no flow of pairs.
        ProgramError: When the program has no site of that kind, or cannot run without data.

    Example:
        >>> from ppl_genmodels.models import SplineFlow
        >>> type(flow_of(SplineFlow(2, layers=1, hidden=(8,)))).__name__
        'Flow'
    """
    if hasattr(source, "log_prob"):
        if not _is_flow(source):
            raise DataError(
                f"layers: expected a flow of pairs with its base and transforms, got a {type(source).__name__} with "
                f"the event shape {tuple(source.event_shape)}."
            )
        return source
    program = as_program(source.program if hasattr(source, "log_evidence") else source)
    with torch.no_grad(), torch.random.fork_rng():
        trace = poutine.trace(program.prior().model).get_trace()
    if program.params and hasattr(source, "log_evidence"):
        raise ProgramError(
            f"layers: the fitted values of the pyro.param statements {list(program.params)} are not at hand. Remedy: "
            f"keep parameters in modules, or pass the flow itself."
        )
    flows = [node["fn"] for node in sample_sites(trace).values() if _is_flow(node["fn"])]
    if not flows:
        raise ProgramError(
            f"layers: none of the sites {list(sample_sites(trace))} has a flow of pairs as its distribution. Remedy: "
            f"pass the flow itself."
        )
    return flows[0]


def has_layers(source: Any) -> bool:
    """Whether there is a flow of pairs to show.

    Example:
        >>> from ppl_genmodels.models import SplineFlow
        >>> has_layers(SplineFlow(2, layers=1, hidden=(8,))), has_layers(SplineFlow(3, layers=1, hidden=(8,)))
        (True, False)
    """
    try:
        flow_of(source)
    except PplError:
        return False
    return True


def _is_flow(distribution: Any) -> bool:
    is_carried = hasattr(distribution, "base_dist") and bool(getattr(distribution, "transforms", ()))
    return is_carried and tuple(distribution.event_shape) == (2,) and distribution.batch_shape.numel() == 1


@dataclass(frozen=True)
class _Step:
    """Points (row, 2) behind a layer, its name, and its mean change of log-volume."""

    name: str
    points: Values
    log_volume: float = 0.0


def _path(flow: Any) -> list[_Step]:
    """The same draws before all layers and behind each."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        points = flow.base_dist.sample((POINTS,))
        steps = [_Step("noise", _pairs(points))]
        for number, transform in enumerate(_parts(flow.transforms), start=1):
            steps += [_Step(f"{number}: at {time:g}", _pairs(each)) for time, each in _between(transform, points)]
            points, ladj = call_and_ladj(transform, points)
            ladj = sum_rightmost(ladj, 1 - transform.domain.event_dim)
            steps.append(_Step(f"{number}: {_kind(transform)}", _pairs(points), ladj.mean().item()))
    return steps


def _parts(transforms: Iterable[Any]) -> Iterator[Any]:
    """The transforms, those of compositions one by one."""
    for transform in transforms:
        if isinstance(transform, ComposeTransform):
            yield from _parts(transform.parts)
        else:
            yield transform


def _between(transform: Any, points: Tensor) -> Iterator[tuple[float, Tensor]]:
    """Points on their way through a continuous layer, and the time; nothing for layers of another kind."""
    if isinstance(transform, Continuous) and not transform.context_features:
        times = torch.tensor([0.0, *BETWEEN], dtype=points.dtype, device=points.device)
        yield from zip(BETWEEN, odeint(transform.velocity, points, times, rtol=1e-4, atol=1e-4)[1:], strict=True)


def _kind(transform: Any) -> str:
    if isinstance(transform, _InverseTransform):
        return f"inverse {_kind(transform.inv)}"
    return type(getattr(transform, "bijection", transform)).__name__


def _pairs(points: Tensor) -> Values:
    return to_array(points).astype(np.float64).reshape(-1, 2)


def _new_panels(count: int) -> NDArray[Any]:
    rows = -(-count // COLUMNS)
    columns = -(-count // rows)
    panels = np.reshape(new_axes(rows, columns, (2.1 * columns, 2.2 * rows)), -1)
    for panel in panels[count:]:
        panel.set_axis_off()
    return panels[:count]


def _frame(panel: Axes, points: Values, name: str) -> None:
    """Limits around the points, the few farthest left out, and small numbers at the edges."""
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    margin = 0.1 * (high - low) + 1e-6
    (left, bottom), (right, top) = low - margin, high + margin
    panel.set(xlim=(left, right), ylim=(bottom, top))
    panel.set_title(name, fontsize=9)
    panel.tick_params(labelsize=7)
    panel.grid(visible=False)
