"""Which gradient estimator serves each latent site of a fit, in words for its card and its summary.

Convention of this module: sites that the pathwise gradient passes are not named; biased estimators say so.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.handlers import Estimator
from ppl_genmodels.objectives import Run
from ppl_genmodels.objectives.surrogate import estimator_of
from ppl_genmodels.program import Program
from ppl_genmodels.workflow.checks import hard_inputs

__all__ = ["described", "estimators_in", "summarised"]


def estimators_in(program: Program, rows: Rows) -> dict[str, str]:
    """For each latent site that has an estimator what it is.

    Args:
        program: The program, probed.
        rows: The data.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> def program(x):
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("y", dist.Bernoulli(0.3))
        >>> estimators_in(Program(program, program), Rows.of(torch.zeros(4)))
        {'y': 'ScoreFunction(leave_one_out)'}
    """
    args, kwargs = hard_inputs(program, rows)
    with torch.no_grad():
        latent = Run(program, args, kwargs).guide.latent
    served = {name: estimator_of(node) for name, node in latent.items()}
    return {name: described(estimator) for name, estimator in served.items() if estimator is not None}


def described(estimator: Estimator) -> str:
    """An estimator's name, its baseline, and whether it is biased.

    Example:
        >>> from ppl_genmodels.handlers import GumbelSoftmax, ScoreFunction
        >>> described(GumbelSoftmax()), described(ScoreFunction(baseline="none"))
        ('GumbelSoftmax (biased)', 'ScoreFunction(none)')
    """
    name, baseline = type(estimator).__name__, getattr(estimator, "baseline", None)
    if baseline is not None:
        name += f"({baseline})" if isinstance(baseline, str) else "(learned)"
    return f"{name} (biased)" if estimator.biased else name


def summarised(estimators: Mapping[str, str]) -> str:
    """All of them in one line.

    Example:
        >>> summarised({"y": "GumbelSoftmax (biased)", "k": "DisARM"})
        'y by GumbelSoftmax (biased), k by DisARM'
    """
    return ", ".join(f"{site} by {estimator}" for site, estimator in estimators.items())
