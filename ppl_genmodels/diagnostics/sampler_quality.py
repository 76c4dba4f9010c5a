"""How good a diffusion's samples are after few and many steps of each sampler, told against data.

Convention of this module: a table has a row for each sampler and number of steps; samples come from one seed, so that
the deterministic samplers start at the same noise. Heun's method asks the denoiser twice in a step, the others once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from ppl_genmodels.diagnostics.diffusion_noise import draw_noise, own_seed
from ppl_genmodels.diagnostics.mmd import mmd_test
from ppl_genmodels.diagnostics.style import new_axes, styled
from ppl_genmodels.diagnostics.two_sample import classifier_two_sample
from ppl_genmodels.distributions.samplers import Sampler, generate

__all__ = ["describe_sampler_quality", "plot_sampler_quality", "sampler_quality"]


def sampler_quality(
    flow: Any,
    data: Any,
    *,
    samplers: Iterable[Sampler] = get_args(Sampler),
    steps: Iterable[int] = (5, 10, 20, 50, 100),
    context: Tensor | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Two-sample tests of a diffusion's samples against data, for every sampler and number of steps.

    Args:
        flow: The :class:`~ppl_genmodels.transforms.ProbabilityFlow` of the denoiser.
        data: Held-out data, shape (rows, \*event), in the units that the diffusion has; as many samples are drawn.
        samplers: As :func:`~ppl_genmodels.distributions.samplers.generate` has them.
        steps: Of each sampler.
        context: What the denoiser is given, shape (rows, features).
        seed: Of the draws and of the tests.

    Returns:
        Columns ``sampler``, ``steps``, ``accuracy`` of the classifier, its ``standard_error``, ``squared_mmd``, and its
        ``p_value``.

    Raises:
        DataError: When there are fewer than 20 data, or events differ in shape.
        OptionError: When there is no such sampler, or a number of steps is no positive integer.

    Example:
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> from ppl_genmodels.transforms import ProbabilityFlow
        >>> flow = ProbabilityFlow(Denoiser(TimeMLP(2), CosineNoising()), (2,))
        >>> sampler_quality(flow, torch.randn(20, 2), samplers=["ddim"], steps=[2]).columns.tolist()
        ['sampler', 'steps', 'accuracy', 'standard_error', 'squared_mmd', 'p_value']
    """
    numbers = list(steps)
    rows = [(sampler, number) for sampler in samplers for number in numbers]
    return pd.DataFrame([_tested(flow, data, sampler, number, context, seed) for sampler, number in rows])


@styled
def plot_sampler_quality(frame: pd.DataFrame, axes: Any = None) -> NDArray[Any]:
    """The classifier's accuracy and the squared discrepancy over steps, a line for each sampler.

    Args:
        frame: As :func:`sampler_quality` gives it.
        axes: Two; new ones when None.

    Returns:
        The two axes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> frame = pd.DataFrame({"sampler": ["ddim"] * 2, "steps": [5, 10], "accuracy": [0.8, 0.6]})
        >>> left, right = plot_sampler_quality(frame.assign(standard_error=0.02, squared_mmd=0.1), Figure().subplots(2))
        >>> left.get_ylabel(), right.get_ylabel()
        ("classifier's accuracy", 'squared MMD')
    """
    made = new_axes(1, 2, (9.0, 3.6)) if axes is None else axes
    panels: NDArray[Any] = np.atleast_1d(made).ravel()
    left: Axes
    left, right = panels
    for name, lines in frame.groupby("sampler", sort=False):
        left.errorbar(
            lines["steps"], lines["accuracy"], lines["standard_error"], label=name, marker="o", markersize=4, capsize=2
        )
        right.plot(lines["steps"], lines["squared_mmd"], label=name, marker="o", markersize=4)
    left.axhline(0.5, color="#717581", linestyle=":")
    right.axhline(0.0, color="#717581", linestyle=":")
    left.set(ylabel="classifier's accuracy")
    right.set(ylabel="squared MMD")
    for panel in panels:
        panel.set(xlabel="steps", xscale="log")
        counts = sorted(frame["steps"].unique())
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.minorticks_off()
    right.legend()
    return panels


def describe_sampler_quality(frame: pd.DataFrame) -> str:
    """The sampler and the number of steps at which samples are hardest to tell from data.

    Of those within one standard error of the best, that of fewest steps.

    Args:
        frame: As :func:`sampler_quality` gives it.

    Example:
        >>> frame = pd.DataFrame({"sampler": ["ddim"] * 3, "steps": [5, 10, 50], "accuracy": [0.8, 0.61, 0.6]})
        >>> describe_sampler_quality(frame.assign(standard_error=0.02, squared_mmd=0.1))
        'ddim with 10 steps is within one standard error of the best: a classifier tells its samples from data with an
        accuracy of 0.610 ± 0.020 (0.5 by chance).'
    """
    best = frame.sort_values("accuracy").iloc[0]
    near = frame[frame["accuracy"] <= best["accuracy"] + best["standard_error"]]
    chosen = near.sort_values(["steps", "accuracy"]).iloc[0]
    return (
        f"{chosen['sampler']} with {chosen['steps']} steps is within one standard error of the best: a classifier "
        f"tells its samples from data with an accuracy of {chosen['accuracy']:.3f} ± {chosen['standard_error']:.3f} "
        f"(0.5 by chance)."
    )


def _tested(flow: Any, data: Any, sampler: Sampler, steps: int, context: Tensor | None, seed: int) -> dict[str, Any]:
    drawn = _drawn(flow, len(data), sampler, steps, context, seed)
    told, apart = classifier_two_sample(drawn, data, seed=seed), mmd_test(drawn, data, seed=seed)
    return {
        "sampler": sampler,
        "steps": steps,
        "accuracy": told.accuracy,
        "standard_error": told.standard_error,
        "squared_mmd": apart.squared_mmd,
        "p_value": apart.p_value,
    }


@torch.no_grad()
def _drawn(flow: Any, rows: int, sampler: Sampler, steps: int, context: Tensor | None, seed: int) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(own_seed(seed))
        return generate(flow.denoiser, draw_noise(flow, rows), sampler, steps, context)
