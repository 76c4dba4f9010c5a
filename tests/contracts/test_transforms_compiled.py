"""Layers in compiled steps: traced ones give what eager ones give, buffers included, lowered ones up to rounding."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels.distributions import Flow
from ppl_genmodels.inference import compile_step
from ppl_genmodels.objectives import log_lik
from ppl_genmodels.transforms import (
    ActNorm,
    Additive,
    Autoregressive,
    BatchNorm,
    Coupling,
    InvertibleLinear,
    Permute,
    Residual,
    Spline,
    Whitening,
    first_data,
)

STACKS = {
    "couplings": lambda: [Coupling(2, (8,)), Coupling(2, (8,), Spline(4), swap=True), Coupling(2, (8,), Additive())],
    "autoregressive": lambda: [Autoregressive(2, (8,)), Permute([1, 0]), Autoregressive(2, (8,), Spline(4))],
    "inverse autoregressive": lambda: [Autoregressive(2, (8,), fast="sampling"), InvertibleLinear(2)],
    "set by data": lambda: [Coupling(2, (8,)), ActNorm(2), Whitening(2)],
    "batch norm": lambda: [Coupling(2, (8,)), BatchNorm(2), InvertibleLinear(2)],
    "residual": lambda: [Residual(2, (8,)), Residual(2, (8,), log_det="series")],
}


class Density(nn.Module):
    """A flow for pairs."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.register_buffer("zeros", torch.zeros(2))

    def model(self, x=None):
        base = dist.Normal(self.zeros, 1.0).to_event(1)
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", Flow(base, self.layers), obs=x)


def after_steps(name, mode):
    """The objective of three steps, and what the program is then."""
    torch.manual_seed(0)
    program, x = Density(STACKS[name]()), 1 + 2 * torch.randn(16, 2)
    with torch.no_grad(), first_data():
        Flow(dist.Normal(program.zeros, 1.0).to_event(1), program.layers).log_prob(x)
        for parameter in program.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    step = compile_step(log_lik(), program, torch.optim.Adam(program.parameters(), 1e-2, fused=True), mode=mode)
    return torch.stack([step(x + number) for number in range(3)]), program.state_dict()


@pytest.mark.parametrize("name", STACKS)
def test_traced_steps_give_the_numbers_of_eager_ones(name):
    (eager, expected), (traced, found) = after_steps(name, "off"), after_steps(name, "trace")
    assert torch.equal(traced, eager)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_lowered_steps_give_the_numbers_of_eager_ones_up_to_rounding():
    (eager, expected), (lowered, found) = after_steps("set by data", "off"), after_steps("set by data", "inductor")
    torch.testing.assert_close(lowered, eager, atol=1e-4, rtol=1e-4)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-3, rtol=1e-3)
