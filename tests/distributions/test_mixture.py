"""Mixtures of any distributions: torch's own where there is one, densities that integrate to one where not."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels.distributions import Flow, Mixture
from ppl_genmodels.errors import OptionError
from ppl_genmodels.transforms import Autoregressive, Coupling, Spline

LOGITS = torch.tensor([[0.3, -1.0, 0.7], [2.0, 0.1, -0.5]])
LOC, SCALE = torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([0.5, 1.0, 2.0])


def normals(event=False):
    """Ours and torch's, of batch shape (2,)."""
    if event:
        parts = [dist.Normal(torch.stack([m, -m]), s).to_event(1) for m, s in zip(LOC, SCALE, strict=True)]
        scale = SCALE.unsqueeze(-1).expand(2, 3, 2)
        inner = dist.Normal(torch.stack([LOC, -LOC], -1).expand(2, 3, 2), scale).to_event(1)
    else:
        parts = [dist.Normal(m, s) for m, s in zip(LOC, SCALE, strict=True)]
        inner = dist.Normal(LOC.expand(2, 3), SCALE.expand(2, 3))
    return Mixture(LOGITS, parts), dist.MixtureSameFamily(dist.Categorical(logits=LOGITS), inner)


@pytest.mark.parametrize("event", [False, True])
def test_of_normals_it_is_torchs_own(event):
    mine, theirs = normals(event)
    value = 3 * torch.randn(7, *theirs.batch_shape, *theirs.event_shape, generator=torch.Generator().manual_seed(0))
    assert mine.batch_shape == theirs.batch_shape
    assert mine.event_shape == theirs.event_shape
    torch.testing.assert_close(mine.log_prob(value), theirs.log_prob(value))
    torch.testing.assert_close(mine.mean, theirs.mean)
    torch.testing.assert_close(mine.variance, theirs.variance)
    wide = mine.expand((4, 2))
    assert wide.sample((5,)).shape == (5, 4, *theirs.batch_shape, *theirs.event_shape)
    torch.testing.assert_close(wide.log_prob(value[:4]), theirs.log_prob(value[:4]))


def test_moments_of_draws_are_those_of_the_mixture():
    mine, theirs = normals()
    torch.manual_seed(0)
    draws, count = mine.sample((20_000,)), 20_000
    errors = (draws.mean(0) - theirs.mean) / (theirs.variance / count).sqrt()
    assert errors.abs().max() < 4
    square = (draws - theirs.mean) ** 2
    errors = (square.mean(0) - theirs.variance) / (square.std(0) / count**0.5)
    assert errors.abs().max() < 4


def flows():
    torch.manual_seed(1)
    number = nn.ModuleList([Autoregressive(1, (4,), Spline(bins=6, bound=3.0))])
    with torch.no_grad():
        for parameter in number.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return Mixture(
        torch.tensor([0.5, -0.5]),
        [Flow(dist.Normal(torch.zeros(1), 1.0).to_event(1), number), dist.Laplace(torch.ones(1), 0.7).to_event(1)],
    )


def test_a_flow_beside_a_laplace_integrates_to_one_and_learns():
    mixture = flows()
    grid = torch.linspace(-20, 20, 40_001).unsqueeze(-1)
    total = torch.trapezoid(mixture.log_prob(grid).exp(), grid.squeeze(-1))
    assert total.item() == pytest.approx(1.0, abs=1e-3)
    mixture.log_prob(grid[::100]).sum().backward()
    found = mixture.components[0].transforms[0].parameters()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in found)


def test_draws_of_a_flow_and_a_laplace_follow_the_density():
    """The share of draws below some points is the integral up to there."""
    mixture = flows()
    torch.manual_seed(2)
    draws = mixture.sample((10_000,))
    for point in (-1.0, 0.0, 1.0, 2.0):
        grid = torch.linspace(-20, point, 20_001).unsqueeze(-1)
        expected = torch.trapezoid(mixture.log_prob(grid).exp(), grid.squeeze(-1)).item()
        error = (expected * (1 - expected) / 10_000) ** 0.5
        assert (draws < point).float().mean().item() == pytest.approx(expected, abs=4 * error)


def test_it_serves_at_a_site_and_in_a_graph():
    layers = nn.ModuleList([Coupling(2, (4,)), Coupling(2, (4,), swap=True)])
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)

    def mixture(logits):
        return Mixture(logits, [Flow(base, layers), base])

    with pyro.plate("particles", 3, dim=-2), pyro.plate("data", 5):
        assert pyro.sample("x", mixture(torch.zeros(2))).shape == (3, 5, 2)

    def run(logits):
        found = mixture(logits)
        drawn = found.sample((6,))
        return drawn, found.log_prob(drawn)

    with pyro.validation_enabled(False):
        graph = make_fx(run)(torch.zeros(2))
    torch.manual_seed(3)
    expected = run(torch.tensor([1.0, -1.0]))
    torch.manual_seed(3)
    torch.testing.assert_close(graph(torch.tensor([1.0, -1.0])), expected)


def test_what_does_not_fit_is_refused():
    normal = dist.Normal(0.0, 1.0)
    with pytest.raises(OptionError, match=r"2 components and logits of shape \(3,\).*Remedy"):
        Mixture(torch.zeros(3), [normal, normal])
    with pytest.raises(OptionError, match=r"0 components.*Remedy"):
        Mixture(torch.zeros(0), [])
    with pytest.raises(OptionError, match=r"event shapes \(\), \(2,\), expected one\. Remedy"):
        Mixture(torch.zeros(2), [normal, dist.Normal(torch.zeros(2), 1.0).to_event(1)])
