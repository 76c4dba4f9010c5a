"""The flows that are timed, in Zuko.

Convention of this module: the distribution is made anew at each call, ``flow()``, as Zuko's users make it. Importing
Zuko switches off torch's validation of arguments, which is switched on again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform

from benchmarks.flow_cases import BINS, BOUND, HIDDEN, LAYERS, TOLERANCE, Case, Density, moved

_VALIDATES = Distribution._validate_args
import zuko  # noqa: E402

Distribution._validate_args = _VALIDATES
Transform.call_and_ladj = zuko.transforms._call_and_ladj  # its import does so; this holds should it have been undone

__all__ = ["zuko_flow"]

SPLINE = {
    "univariate": partial(zuko.transforms.MonotonicRQSTransform, bound=BOUND),
    "shapes": [(BINS,), (BINS,), (BINS - 1,)],
}


def zuko_flow(case: Case) -> Density | None:
    """The flow of a case; None for images, for which Zuko has no layers.

    Example:
        >>> zuko_flow(Case("MAF", 6, rows=3)).parameters
        16164
        >>> zuko_flow(Case("Glow", 784, rows=3)) is None
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = _made(case)
    if flow is None:
        return None
    moved(flow)

    def sample_and_log_prob(rows: int) -> tuple[Tensor, Tensor]:
        drawn: tuple[Tensor, Tensor] = flow().rsample_and_log_prob((rows,))
        return drawn

    network = flow.transform.ode if case.family == "continuous" else None
    return Density(
        flow, lambda x: flow().log_prob(x), lambda rows: flow().sample((rows,)), sample_and_log_prob, network
    )


def _made(case: Case) -> Any:
    options = {"transforms": LAYERS[case.family], "hidden_features": HIDDEN}
    makers = {
        "MAF": partial(zuko.flows.MAF, **options),
        "NSF": partial(zuko.flows.MAF, **options, **SPLINE),
        "RealNVP": partial(zuko.flows.RealNVP, **options),
        "spline coupling": partial(zuko.flows.RealNVP, **options, **SPLINE),
        "continuous": partial(zuko.flows.CNF, hidden_features=HIDDEN, rtol=TOLERANCE, atol=TOLERANCE),
    }
    return makers[case.family](case.features) if case.family in makers else None
