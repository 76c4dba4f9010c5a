"""The flows that are timed, in this library.

Convention of this module: the transforms are held by a module, and the distribution is made anew at each call, as a
program makes it.
"""

from __future__ import annotations

import math
from itertools import chain

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from benchmarks.flow_cases import BINS, BOUND, HIDDEN, IMAGE, LAYERS, TOLERANCE, Case, Density, moved
from ppl_genmodels.distributions import Flow
from ppl_genmodels.transforms import (
    ActNorm,
    Affine,
    Autoregressive,
    Bijection,
    ChannelCoupling,
    Continuous,
    Coupling,
    ElementMap,
    InvertibleLinear,
    Spline,
)

__all__ = ["FlowProgram", "Waves", "library_flow"]


class FlowProgram(nn.Module):
    """A program whose one observed site has a flow as its distribution.

    Args:
        case: Which flow.

    Example:
        >>> program = FlowProgram(Case("RealNVP", 2, rows=3))
        >>> program.density().log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    zeros: Tensor
    ones: Tensor

    def __init__(self, case: Case) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.transforms = nn.ModuleList(_layers(case))
        moved(self)
        self.register_buffer("zeros", torch.zeros(case.shape), persistent=False)
        self.register_buffer("ones", torch.ones(case.shape), persistent=False)

    def density(self) -> Flow:
        """The distribution of a row."""
        return Flow(dist.Normal(self.zeros, self.ones).to_event(self.zeros.dim()), self.transforms)

    def model(self, x: Tensor) -> None:
        """Conditions on rows."""
        with pyro.plate("data", len(x)):
            pyro.sample("x", self.density(), obs=x)


class Waves(nn.Module):
    """The velocity field of Zuko's continuous flow: a perceptron of values and waves of the time.

    Args:
        features: Length of the values.
    """

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        sizes = (features + 6, *HIDDEN)
        hidden = chain.from_iterable((nn.Linear(a, b), nn.ELU()) for a, b in zip(sizes[:-1], HIDDEN, strict=True))
        self.network = nn.Sequential(*hidden, nn.Linear(HIDDEN[-1], features))
        self.register_buffer("frequencies", torch.arange(1, 4) * math.pi)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity."""
        angles = self.frequencies * t.unsqueeze(-1)
        waves = torch.cat([angles.cos(), angles.sin()], -1)
        found: Tensor = self.network(torch.cat([waves, x], -1))
        return found


def library_flow(case: Case) -> Density:
    """The flow of a case.

    Example:
        >>> library_flow(Case("MAF", 6, rows=3)).parameters
        16164
    """
    program = FlowProgram(case)

    def sample_and_log_prob(rows: int) -> tuple[Tensor, Tensor]:
        flow = program.density()
        drawn = flow.rsample((rows,))
        return drawn, flow.log_prob(drawn)

    network = program.transforms[0].network if case.family == "continuous" else None
    return Density(
        program,
        lambda x: program.density().log_prob(x),
        lambda rows: program.density().sample((rows,)),
        sample_and_log_prob,
        network,  # type: ignore[arg-type]
    )


def _layers(case: Case) -> list[Bijection]:
    features, count = case.features, LAYERS[case.family]
    if case.family == "Glow":
        return [layer for _ in range(count) for layer in _step_of_glow(IMAGE[0])]
    if case.family == "continuous":
        return [Continuous(features, network=Waves(features), rtol=TOLERANCE, atol=TOLERANCE)]
    if case.family in ("MAF", "NSF"):
        return [Autoregressive(features, HIDDEN, _element(case), reverse=bool(n % 2)) for n in range(count)]
    return [Coupling(features, HIDDEN, _element(case), swap=bool(n % 2)) for n in range(count)]


def _element(case: Case) -> ElementMap:
    return Spline(BINS, BOUND) if case.family in ("NSF", "spline coupling") else Affine()


def _step_of_glow(channels: int) -> list[Bijection]:
    return [
        ChannelCoupling(channels, HIDDEN[0]),
        InvertibleLinear(channels, event_dim=3),
        ActNorm(channels, event_dim=3),
    ]
