"""Energies as distributions: densities, draws, places in programs, and sums."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels.distributions import Energy, EnergySum
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.models import EnergyModel
from ppl_genmodels.networks import MLP

DRAWS = 10_000


def exact(energy, target):
    energy.log_normalizer = energy.network.log_normalizer
    return energy


def agree(values, target):
    """The moments, to 4.5 standard errors."""
    deviation = target.covariance_matrix.diagonal().sqrt()
    assert ((values.mean(0) - target.mean).abs() < 4.5 * deviation / len(values) ** 0.5).all()
    covariance = target.covariance_matrix
    error = ((covariance**2 + deviation[:, None] ** 2 * deviation**2) / len(values)).sqrt()
    assert ((values.T.cov() - covariance).abs() < 4.5 * error).all()


def test_with_its_normalizer_it_is_the_density(program, target):
    x = target.sample((7,))
    energy = exact(program.density(), target)
    torch.testing.assert_close(energy.log_prob(x), target.log_prob(x))
    precision = torch.linalg.inv(target.covariance_matrix)
    torch.testing.assert_close(energy.score(x), (target.mean - x) @ precision)


def test_draws_have_the_moments_of_the_density(program, target):
    torch.manual_seed(0)
    energy = program.density()
    longer = Energy(energy.network, (2,), start=energy.start, steps=150, step_size=energy.step_size)
    agree(longer.sample((DRAWS,)), target)


def test_the_score_has_a_gradient_in_the_parameters(program, target):
    program.density().score(target.sample((3,))).square().sum().backward()
    assert program.network.precision.grad.abs().sum() > 0


def test_it_is_drawn_and_observed_under_plates():
    network = MLP(3, 1, hidden=(8,))

    def model(x=None):
        with pyro.plate("data", 4), pyro.plate("more", 2):
            return pyro.sample("x", Energy(network, (3,), steps=3), obs=x)

    drawn = model()
    assert drawn.shape == (2, 4, 3)
    site = poutine.trace(model).get_trace(drawn).nodes["x"]
    assert site["fn"].log_prob(drawn).shape == (2, 4)
    assert len(drawn.flatten(0, 1).unique(dim=0)) == 8


def test_images_have_energies_too():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8, 1))
    energy = Energy(network, (1, 4, 4), steps=2)
    assert energy.log_prob(energy.sample((5,))).shape == (5,)
    assert energy.score(torch.zeros(5, 1, 4, 4)).shape == (5, 1, 4, 4)


def test_a_weighted_sum_of_two_normal_energies_samples_the_exact_product(program, target):
    """The product of powers of normal densities is the normal density whose precision is the weighted sum."""
    torch.manual_seed(0)
    other = dist.MultivariateNormal(torch.tensor([-1.0, 1.0]).double(), torch.tensor([[0.5, 0.2], [0.2, 1.0]]).double())
    weights = [0.5, 2.0]
    precisions = [
        w * torch.linalg.inv(each.covariance_matrix) for w, each in zip(weights, (target, other), strict=True)
    ]
    precision = sum(precisions)
    loc = torch.linalg.solve(precision, sum(p @ each.mean for p, each in zip(precisions, (target, other), strict=True)))
    product = dist.MultivariateNormal(loc, precision_matrix=precision)
    step = 0.4 * product.covariance_matrix.diagonal()
    composed = Energy(
        EnergySum([program.density(), other], weights), (2,), start=program.start, steps=150, step_size=step
    )
    agree(composed.sample((DRAWS,)), product)
    x = product.sample((5,))
    constant = composed.log_prob(x) - product.log_prob(x)
    torch.testing.assert_close(constant, constant[:1].expand(5))


def ring(x):
    return -0.5 * ((x.norm(dim=-1) - 2.0) / 0.35).square()


def bell(x):
    return -0.5 * ((x - torch.tensor([1.5, 0.5])) / 1.2).square().sum(-1)


def test_a_classifier_cannot_tell_a_sum_of_known_energies_from_the_exact_product():
    """The product on a fine grid can be drawn from; an accuracy of 1/2 says that the samples are alike."""
    torch.manual_seed(0)
    axis = torch.linspace(-8, 8, 801)
    points = torch.cartesian_prod(axis, axis)
    cells = dist.Categorical(logits=ring(points) + bell(points)).sample((1000,))
    exact = points[cells] + (torch.rand(1000, 2) - 0.5) * 16 / 800
    composed = EnergySum([lambda x: -ring(x), lambda x: -bell(x)])
    start = dist.Normal(torch.zeros(2), 2.0).to_event(1)
    drawn = Energy(composed, (2,), start=start, steps=300, step_size=0.05).sample((1000,))
    neighbours = KNeighborsClassifier(20)
    told = diagnostics.classifier_two_sample(drawn, exact, classifier=neighbours)
    assert told.accuracy < 0.5 + 4 * told.standard_error
    alone = Energy(lambda x: -ring(x), (2,), start=start, steps=300, step_size=0.05).sample((1000,))
    assert diagnostics.classifier_two_sample(alone, exact, classifier=neighbours).accuracy > 0.7


def test_the_parameters_of_what_is_summed_are_the_sum_s():
    network = MLP(2, 1, hidden=(4,))
    together = EnergySum([network, Energy(network, (2,))], [1.0, -1.0])
    assert len(list(together.parameters())) == len(list(network.parameters()))
    x = torch.randn(5, 2)
    torch.testing.assert_close(together(x), torch.zeros(5))


def test_the_program_begins_as_the_normal_density_of_its_data():
    x = torch.randn(500, 3) * torch.tensor([0.1, 1.0, 20.0]) + 5
    program = EnergyModel(data_dim=3, hidden=(8,), steps=20)
    objective = ppl.objectives.score_matching("x", kind="sliced")
    ppl.fit(program, x, objective=objective, steps=1, batch_size=500, progress=False, optimizer=slow)
    normal = dist.Normal(x.mean(0), x.std(0)).to_event(1)
    torch.testing.assert_close(program.density().log_prob(x), normal.log_prob(x), atol=1e-3, rtol=1e-4)
    torch.manual_seed(0)
    drawn = program.density().sample((2000,))
    assert ((drawn.mean(0) - x.mean(0)).abs() < 5 * x.std(0) / 2000**0.5).all()


def slow(parameters):
    return torch.optim.SGD(parameters, lr=1e-9)


def test_what_cannot_be_is_refused():
    with pytest.raises(ProgramError, match=r"gives \(4, 2\) for values of shape \(4, 3\), expected \(4,\)"):
        Energy(MLP(3, 2), (3,)).log_prob(torch.zeros(4, 3))
    with pytest.raises(OptionError, match=r"start has batch shape \(3,\) and event shape \(\)"):
        Energy(MLP(3, 1), (3,), start=dist.Normal(torch.zeros(3), 1.0))
    with pytest.raises(OptionError, match="steps=0"):
        Energy(MLP(3, 1), (3,), steps=0)
    with pytest.raises(OptionError, match="2 energies and 1 weights"):
        EnergySum([MLP(3, 1), MLP(3, 1)], [1.0])
