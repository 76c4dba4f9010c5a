"""The flows that are timed, in normflows.

Convention of this module: its networks are plain perceptrons of the widths that the others have, not its residual ones,
and the layers of its masked flows are turned round, so that log-densities take one pass of the network. Features change
sides between layers by its permutation.
"""

from __future__ import annotations

from typing import Any

import normflows
import torch
from normflows.flows.neural_spline.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressive
from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling
from torch import Tensor, nn

from benchmarks.flow_cases import BINS, BOUND, HIDDEN, IMAGE, LAYERS, Case, Density, moved

__all__ = ["normflows_flow"]

SPLINE = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}


def normflows_flow(case: Case) -> Density | None:
    """The flow of a case; None for a continuous flow, which normflows does not have.

    Example:
        >>> normflows_flow(Case("MAF", 6, rows=3)).parameters
        16164
        >>> normflows_flow(Case("continuous", 6, rows=3)) is None
        True
    """
    if case.family == "continuous":
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = normflows.distributions.DiagGaussian(case.shape, trainable=False)
        flow = normflows.NormalizingFlow(base, _layers(case))
        with torch.no_grad():
            flow.log_prob(torch.randn(8, *case.shape))  # sets its ActNorm
    moved(flow)
    return Density(flow, flow.log_prob, lambda rows: flow.sample(rows)[0], flow.sample)


def _layers(case: Case) -> list[nn.Module]:
    made = {"MAF": _affine, "NSF": _spline, "RealNVP": _coupling, "spline coupling": _spline_coupling}
    layers: list[nn.Module] = []
    for number in range(LAYERS[case.family]):
        if case.family == "Glow":
            layers.append(normflows.flows.GlowBlock(IMAGE[0], HIDDEN[0]))
        else:
            permutation = [normflows.flows.Permute(case.features, "swap")] if number else []
            layers += [*permutation, made[case.family](case.features)]
    return layers


def _affine(features: int) -> nn.Module:
    layer = normflows.flows.MaskedAffineAutoregressive(features, HIDDEN[0], num_blocks=1, use_residual_blocks=False)
    return normflows.flows.Reverse(layer)


def _spline(features: int) -> nn.Module:
    layer = MaskedPiecewiseRationalQuadraticAutoregressive(
        features, HIDDEN[0], num_blocks=1, use_residual_blocks=False, init_identity=False, **SPLINE
    )
    return normflows.flows.Reverse(layer)


def _coupling(features: int) -> nn.Module:
    given = features - features // 2
    return normflows.flows.AffineCouplingBlock(normflows.nets.MLP([given, *HIDDEN, 2 * (features - given)]))


def _spline_coupling(features: int) -> nn.Module:
    mask = (torch.arange(features) >= features - features // 2).int()
    return normflows.flows.Reverse(PiecewiseRationalQuadraticCoupling(mask, _Perceptron, **SPLINE))


class _Perceptron(normflows.nets.MLP):
    """A perceptron that is called with a context."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__([inputs, *HIDDEN, outputs])
        self.hidden_features = HIDDEN[-1]

    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        """The outputs."""
        found: Tensor = super().forward(x)
        return found
