"""Annealed importance sampling finds normalizers that are known."""

import math

import pyro.distributions as dist
import pytest
import torch

from ppl_genmodels.distributions import Energy, EnergySum
from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference import annealed_importance


def standard(dim, scale):
    return dist.Normal(torch.zeros(dim).double(), scale).to_event(1)


@pytest.mark.parametrize(("dim", "levels"), [(2, 200), (16, 500)])
def test_the_normalizer_of_a_normal_energy_is_found(dim, levels):
    """Of a normal density with full covariance, from one that is twice as broad."""
    generator = torch.Generator().manual_seed(dim)
    factor = torch.randn(dim, dim, generator=generator).double()
    precision = torch.linalg.inv(factor @ factor.mT / dim + 0.3 * torch.eye(dim))
    loc = torch.randn(dim, generator=generator).double()
    exact = 0.5 * (dim * math.log(2 * math.pi) - torch.linalg.slogdet(precision)[1].item())
    found = annealed_importance(
        lambda x: -0.5 * ((x - loc) @ precision * (x - loc)).sum(-1), standard(dim, 2.0), levels=levels
    )
    assert found.standard_error < 0.03
    assert found.value == pytest.approx(exact, abs=4.5 * found.standard_error)
    assert found.value == pytest.approx(exact, abs=0.1)


def two_wells(x):
    return -2 * (x[..., 0].square() - 1.5).square() - x[..., 1].square() + 0.5 * x[..., 0] * x[..., 1]


def ring(x):
    return -0.5 * ((x.norm(dim=-1) - 2) / 0.3).square()


def funnel(x):
    return -0.5 * (x[..., 1] / 1.5).square() - 0.5 * (x[..., 0] * (-x[..., 1] / 2).exp()).square()


@pytest.mark.parametrize("log_density", [two_wells, ring, funnel], ids=lambda each: each.__name__)
def test_in_two_dimensions_it_is_the_quadrature(log_density):
    axis = torch.linspace(-40, 40, 2001).double()
    grid = torch.cartesian_prod(axis, axis)
    exact = (log_density(grid).logsumexp(0) + 2 * math.log(80 / 2000)).item()
    found = annealed_importance(log_density, standard(2, 3.0), chains=2000, levels=300)
    assert found.standard_error < 0.03
    assert found.value == pytest.approx(exact, abs=0.1)
    assert found.value == pytest.approx(exact, abs=4.5 * found.standard_error)


def test_the_standard_error_is_that_of_repetitions():
    found = [annealed_importance(ring, standard(2, 3.0), chains=200, levels=10, seed=seed) for seed in range(40)]
    values, errors = (torch.tensor([getattr(f, name) for f in found]) for name in ("value", "standard_error"))
    assert values.std().item() == pytest.approx(errors.square().mean().sqrt().item(), rel=0.35)  # 11 % for one


def test_more_levels_make_it_more_exact():
    coarse, fine = (annealed_importance(ring, standard(2, 3.0), levels=levels) for levels in (5, 200))
    assert fine.standard_error < 0.5 * coarse.standard_error
    assert fine.effective_sample_size > 2 * coarse.effective_sample_size


def test_a_product_of_densities_has_the_normalizer_of_their_overlap():
    """The product of two normal densities integrates to their convolution at the distance of their means."""
    first, second = standard(2, 1.0), dist.Normal(torch.tensor([1.0, -2.0]).double(), 0.7).to_event(1)
    product = Energy(EnergySum([first, second]), (2,), start=standard(2, 2.0))
    exact = dist.Normal(torch.zeros(2).double(), (1 + 0.7**2) ** 0.5).to_event(1).log_prob(torch.tensor([1.0, -2.0]))
    found = annealed_importance(product)
    assert found.value == pytest.approx(exact.item(), abs=4.5 * found.standard_error)


def test_the_seed_decides_and_the_random_state_stays():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again = (annealed_importance(ring, standard(2, 3.0), levels=5, seed=3) for _ in range(2))
    assert first == again
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_cannot_be_is_refused():
    with pytest.raises(OptionError, match="needs a start"):
        annealed_importance(ring)
    with pytest.raises(OptionError, match="levels=0"):
        annealed_importance(ring, standard(2, 1.0), levels=0)
