r"""How a game stands: what is measured of its critic and of the side that learns.

Convention of this module: of each site one side learns, the guide's where it has the site and the model's otherwise,
and the other is learned from. Samples are those of the first site that the model draws for, shape (rows, \*event).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ppl_genmodels.errors import OptionError
from ppl_genmodels.objectives.divergences import Divergence
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.two_sides import Sides

__all__ = ["MEASURES", "critic_measures", "sample_measures"]

MEASURES = ("accuracy", "calibration", "push", "spread", "duplicates", "precision", "coverage", "course")
"""What is measured of every game; ``modes`` and ``data modes`` where it is told what a mode is."""

NEIGHBOURS = 5
"""The distance to the neighbour of this number is the radius of a row's neighbourhood."""

TWIN = 0.01
"""Samples nearer to one another than this share of the usual distance between neighbours are the same."""

BINS = 10


def critic_measures(player: Any, run: Run) -> tuple[dict[str, float], Tensor, Tensor]:
    r"""What is measured of the critic, and the samples of both sides.

    - ``accuracy``: share of values told rightly, by the log-ratio's sign, or, where the critic does not tell it, by the
      middle between its mean scores of the sides;
    - ``calibration``: the mean difference between the share of values that are the first side's and the probability
      that the critic gives to it, over ten bins of that probability; NaN where it does not tell it;
    - ``push``: the slope of the program's cost at the side that learns, times the distance between the sides, in parts
      of the estimated divergence: far below one where the gradient vanishes.

    References:
        Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, equation 3; Arjovsky and
        Bottou (2017), Towards Principled Methods for Training Generative Adversarial Networks, section 2.2.1.

    Args:
        player: What both players see.
        run: The run.

    Returns:
        The measures, and the samples of the side that learns and of the other.
    """
    with torch.no_grad():
        sides = player.sides(run)
    learns = [name in {**run.guide.nodes, **run.guide.deterministic} for name in player.sites]
    for each, first, second in zip(learns, *sides, strict=True):
        (first if each else second).requires_grad_((first if each else second).is_floating_point())
    with torch.enable_grad():
        scores = player.scores(sides)
        push = _push(player.divergence, scores, sides)
    first, second = scores[0].detach(), scores[1].detach()
    odds, middle = _log_odds(player.divergence, first, second), 0.5 * (first.mean() + second.mean())
    told = (first - middle, second - middle) if odds is None else odds
    accuracy = 0.5 * ((told[0] > 0).double().mean() + (told[1] < 0).double().mean())
    calibration = math.nan if odds is None else _calibration(*odds)
    chosen = next((number for number, each in enumerate(learns) if not each), 0)
    samples = (sides.first[chosen], sides.second[chosen])[:: 1 if learns[chosen] else -1]
    found = {"accuracy": accuracy, "calibration": calibration, "push": push}
    return {name: float(value) for name, value in found.items()}, samples[0].detach(), samples[1].detach()


def _log_odds(divergence: Divergence, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor] | None:
    """The log-ratios that the scores of both sides tell, or None."""
    try:
        return divergence.log_ratio(first), divergence.log_ratio(second)
    except OptionError:
        return None


def _push(divergence: Divergence, scores: tuple[Tensor, Tensor], sides: Sides) -> Tensor:
    """The slope of the cost, over what it would be if it led straight to the other side."""
    values = [value for pair in zip(*sides, strict=True) for value in pair if value.requires_grad]
    slopes = torch.autograd.grad(divergence.cost(*scores).sum(), values, allow_unused=True)
    square = [slope.square().flatten(1).sum(1) for slope in slopes if slope is not None]
    apart = [(one - other).detach().square().flatten(1).sum(1) for one, other in zip(*sides, strict=True)]
    if not square:
        return torch.tensor(torch.nan)
    estimate = divergence.bound(*scores).mean().detach().abs().clamp(min=1e-6)
    return torch.stack(square).sum(0).sqrt().mean() * torch.stack(apart).sum(0).mean().sqrt() / estimate


def _calibration(first: Tensor, second: Tensor) -> Tensor:
    probability = torch.cat([first, second]).sigmoid().double()
    truth = torch.cat([torch.ones_like(first), torch.zeros_like(second)]).double()
    place = (probability * BINS).long().clamp(max=BINS - 1)
    excess = torch.zeros(BINS, dtype=torch.double, device=place.device).index_add_(0, place, truth - probability)
    return excess.abs().sum() / len(truth)


def sample_measures(samples: Tensor, data: Tensor, modes: Callable[[Tensor], int] | None = None) -> dict[str, float]:
    r"""What is measured of samples beside what they are to be like.

    - ``spread``: their variance over that of the data;
    - ``duplicates``: the share of them that are another of them but for rounding, less that of the data;
    - ``precision``: the share of them that lie in a neighbourhood of the data;
    - ``coverage``: the share of the data with a sample in their neighbourhood;
    - ``course``: how far their mean is from the data's along one direction, in the data's standard deviations;
    - ``modes``, ``data modes``: how many the function finds among either.

    Args:
        samples: Shape (rows, \*event).
        data: Shape (rows, \*event).
        modes: From values to how many modes or classes they are of.

    References:
        Kynkäänniemi and others (2019), Improved Precision and Recall Metric, equation 1; Naeem and others (2020),
        Reliable Fidelity and Diversity Metrics for Generative Models, equation 4.

    Example:
        >>> data = torch.linspace(0, 1, 101)[:, None]
        >>> found = sample_measures(data[:51], data)
        >>> found["precision"], round(found["coverage"], 2), round(found["course"], 2)
        (1.0, 0.52, -0.85)
    """
    drawn, given = (values.flatten(1).double() for values in (samples, data))
    among, between = _distances(given, given), _distances(drawn, given)
    radius = among.kthvalue(min(NEIGHBOURS, len(given) - 1), dim=1).values
    twin = TWIN * among.min(1).values.median()
    duplicates = [(each.min(1).values <= twin).double().mean() for each in (_distances(drawn, drawn), among)]
    inside = between <= radius
    direction = torch.randn(given.shape[1], dtype=torch.double, generator=torch.Generator().manual_seed(0))
    drawn_along, given_along = drawn @ direction.to(given), given @ direction.to(given)
    found = {
        "spread": drawn.var(0).sum() / given.var(0).sum(),
        "duplicates": (duplicates[0] - duplicates[1]).clamp(min=0),
        "precision": inside.any(1).double().mean(),
        "coverage": inside.any(0).double().mean(),
        "course": (drawn_along.mean() - given_along.mean()) / given_along.std(),
    }
    counts = {} if modes is None else {"modes": modes(samples), "data modes": modes(data)}
    return {name: float(value) for name, value in (found | counts).items()}


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean, a row's own left out where both are the same."""
    found = torch.cdist(first, second)
    return found.fill_diagonal_(torch.inf) if first is second else found
