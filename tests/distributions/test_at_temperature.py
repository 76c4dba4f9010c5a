"""Distributions at a temperature: against closed forms, and powers of densities where volumes are preserved."""

import math

import pyro.distributions as dist
import pytest
import torch

from ppl_genmodels.distributions import Flow, LevelCategorical, Quantized, at_temperature
from ppl_genmodels.distributions.mixture import Mixture
from ppl_genmodels.errors import OptionError
from ppl_genmodels.transforms import Additive, Affine, Coupling, InvertibleLinear, Permute

SCALAR = torch.tensor(0.6, dtype=torch.float64)
LOC, SCALE = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 3.0]).double()
TRIL = torch.tensor([[1.0, 0.0], [0.4, 0.7]]).double()


def flow(element):
    torch.manual_seed(0)
    layers = torch.nn.ModuleList([Coupling(2, (8,), element), Permute([1, 0]), Coupling(2, (8,), element)]).double()
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return Flow(dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1), layers)


@pytest.mark.parametrize("temperature", [0.6, SCALAR])
@pytest.mark.parametrize(
    "normal",
    [
        dist.Normal(LOC, SCALE).to_event(1),
        dist.MultivariateNormal(LOC, scale_tril=TRIL),
        dist.Normal(LOC[:1], SCALE[:1]).expand([2]).to_event(1),
    ],
)
def test_a_normal_is_its_density_to_the_power_of_one_over_the_square(normal, temperature):
    """Up to a constant, and normalised."""
    points = torch.randn(50, 2, dtype=torch.float64)
    ratio = at_temperature(normal, temperature).log_prob(points) - normal.log_prob(points) / 0.6**2
    torch.testing.assert_close(ratio, ratio[:1].expand(50))
    axis = torch.linspace(-25, 25, 1001, dtype=torch.float64)
    density = at_temperature(normal, temperature).log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(1001, 1001)
    assert torch.trapezoid(torch.trapezoid(density, axis), axis).item() == pytest.approx(1.0, abs=1e-6)


def test_a_flow_that_preserves_volumes_is_its_density_to_the_power_of_one_over_the_square():
    plain, points = flow(Additive()), torch.randn(50, 2, dtype=torch.float64)
    ratio = at_temperature(plain, 0.6).log_prob(points) - plain.log_prob(points) / 0.6**2
    torch.testing.assert_close(ratio, ratio[:1].expand(50))


def test_a_flow_that_changes_volumes_has_its_base_at_the_temperature():
    plain, noise = flow(Affine()), torch.randn(50, 2, dtype=torch.float64)
    carried = noise
    for transform in plain.transforms:
        carried = transform(carried)
    base = dist.Normal(torch.zeros(2, dtype=torch.float64), 0.6).to_event(1)
    expected = base.log_prob(noise) - plain.base_dist.log_prob(noise) + plain.log_prob(carried)
    torch.testing.assert_close(at_temperature(plain, 0.6).log_prob(carried), expected)


def test_draws_of_a_flow_are_those_of_the_scaled_base():
    plain = flow(Affine())
    torch.manual_seed(3)
    found = at_temperature(plain, 0.6).rsample((4,))
    torch.manual_seed(3)
    noise = plain.base_dist.rsample((4,))
    for transform in plain.transforms:
        noise = transform(0.6 * noise if transform is plain.transforms[0] else noise)
    torch.testing.assert_close(found, noise)


@pytest.mark.parametrize("temperature", [0.6, SCALAR])
@pytest.mark.parametrize("kind", [dist.Categorical, LevelCategorical, dist.OneHotCategorical])
def test_a_categorical_is_its_probabilities_to_the_power_of_one_over_it(kind, temperature):
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]], dtype=torch.float64)
    found = at_temperature(kind(probs=probs), temperature)
    expected = probs ** (1 / 0.6)
    torch.testing.assert_close(found.probs, expected / expected.sum(-1, keepdim=True))
    assert type(found) is kind


def test_a_bernoulli_is_too():
    p = torch.tensor([0.2, 0.9], dtype=torch.float64)
    expected = p ** (1 / 0.6) / (p ** (1 / 0.6) + (1 - p) ** (1 / 0.6))
    torch.testing.assert_close(at_temperature(dist.Bernoulli(p), 0.6).probs, expected)


def test_a_mixture_has_choice_and_components_at_the_temperature():
    logits = torch.tensor([0.0, 1.0])
    mixture = Mixture(logits, [dist.Normal(0.0, 1.0), dist.Normal(3.0, 0.5)])
    x = torch.linspace(-3, 5, 20)
    expected = Mixture(logits / 0.6, [dist.Normal(0.0, 0.6), dist.Normal(3.0, 0.3)]).log_prob(x)
    torch.testing.assert_close(at_temperature(mixture, 0.6).log_prob(x), expected)


def test_a_log_normal_has_its_base_at_the_temperature():
    x = torch.tensor([0.3, 2.0])
    expected = dist.LogNormal(0.5, 0.6 * 0.8).log_prob(x)
    torch.testing.assert_close(at_temperature(dist.LogNormal(0.5, 0.8), 0.6).log_prob(x), expected)


def test_wrappers_keep_shapes_masks_and_moments():
    """Standard deviations by draws, five standard errors."""
    torch.manual_seed(4)
    wrapped = dist.Normal(torch.zeros(3), 2.0).expand([5, 3]).to_event(1).mask(torch.tensor([True, False] * 2 + [True]))
    found = at_temperature(wrapped, 0.5)
    assert (found.batch_shape, found.event_shape) == ((5,), (3,))
    assert (found.log_prob(torch.ones(5, 3)) == 0).tolist() == [False, True, False, True, False]
    draws = found.sample((10_000,))
    assert abs(draws.std().item() - 1.0) < 5 / math.sqrt(2 * draws.numel())


@pytest.mark.parametrize("fn", [dist.Delta(torch.ones(2)).to_event(1), Quantized(torch.ones(2), 4).to_event(1)])
def test_what_is_certain_stays(fn):
    assert torch.equal(at_temperature(fn, 0.1).sample(), fn.sample())


def test_temperature_one_changes_nothing():
    points = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(at_temperature(flow(Affine()), 1.0).log_prob(points), flow(Affine()).log_prob(points))


@pytest.mark.parametrize(
    "fn", [dist.Gamma(1.0, 1.0), dist.Gumbel(0.0, 1.0), dist.Gamma(1.0, 1.0).expand([2]).to_event(1)]
)
def test_other_distributions_are_refused(fn):
    with pytest.raises(OptionError, match=r"no known form at another temperature.*Remedy"):
        at_temperature(fn, 0.5)


def test_a_flow_with_a_linear_map_keeps_its_batch_shape():
    layers = torch.nn.ModuleList([InvertibleLinear(2)])
    plain = Flow(dist.Normal(torch.zeros(2), 1.0).to_event(1), layers).expand((7,))
    assert at_temperature(plain, 0.5).sample((3,)).shape == (3, 7, 2)
