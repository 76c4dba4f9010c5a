"""The surrogate: a zero whose gradient is what the draws of the guide's sites do not let through.

Convention of this module: which estimator serves a site is read from the site; one without a reparameterization and
without an estimator gets the score function, so that no gradient is silently biased.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ppl_genmodels.handlers.estimator import Estimator
from ppl_genmodels.handlers.score_function import ScoreFunction
from ppl_genmodels.objectives.alternatives import SiteAlternatives
from ppl_genmodels.objectives.parts import Parts
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.structure import Node

__all__ = ["estimator_of", "surrogate"]

_DEFAULT = ScoreFunction()


def estimator_of(node: Node) -> Estimator | None:
    """The gradient estimator of a site of the guide; None for one that the pathwise gradient passes.

    A guide that has no parameters says so by ``infer={"parameter_free": True}`` at its sites, which need none either.

    Args:
        node: The site's node in the guide's trace.
    """
    chosen: Estimator | None = node["infer"].get("gradient")
    needed = not (node["fn"].has_rsample or node["infer"].get("parameter_free"))
    return _DEFAULT if chosen is None and needed else chosen


def surrogate(run: Run, parts: Callable[[], Parts], evaluate: Callable[[Run], Parts]) -> Tensor | float:
    """The sum of the surrogates of the guide's sites.

    Args:
        run: The run.
        parts: Gives the parts of the objective on this run.
        evaluate: Gives them on another run.

    Returns:
        A scalar with value zero.
    """
    estimators = {name: estimator_of(node) for name, node in run.guide.latent.items()}
    served = {name: one for name, one in estimators.items() if one is not None}
    if not served:
        return 0.0
    found = parts()
    total: Tensor | float = 0.0
    for name, estimator in served.items():
        total = total + estimator.surrogate(SiteAlternatives(run, run.guide.nodes[name], found, evaluate))
    return total
