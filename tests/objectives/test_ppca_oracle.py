"""Probabilistic PCA: the evidence and the posterior are known, so every bound can be checked against the truth."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from ppl_genmodels import as_program
from ppl_genmodels import objectives as obj

ROWS, DATA_DIM, LATENT_DIM, NOISE = 200, 5, 2, 0.7
PEERS = [(obj.elbo("monte_carlo"), Trace_ELBO), (obj.elbo(), TraceMeanField_ELBO)]


class PPCA(nn.Module):
    """The posterior is Normal(x W M, noise² M), M = (WᵀW + noise² I)⁻¹; ``spread`` scales the guide's covariance."""

    def __init__(self, spread=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.spread, self.shift = spread, nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.loading = torch.randn(DATA_DIM, LATENT_DIM, generator=generator, dtype=torch.float64)
        self.inverse = torch.linalg.inv(self.loading.T @ self.loading + NOISE**2 * torch.eye(LATENT_DIM))
        noise = torch.randn(ROWS, DATA_DIM, generator=generator, dtype=torch.float64)
        self.x = (
            torch.randn(ROWS, LATENT_DIM, generator=generator, dtype=torch.float64) @ self.loading.T + NOISE * noise
        )

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.MultivariateNormal(x.new_zeros(LATENT_DIM), torch.eye(LATENT_DIM).double()))
            pyro.sample("x", dist.Normal(z @ self.loading.T, NOISE).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            mean = x @ self.loading @ self.inverse + self.shift
            pyro.sample("z", dist.MultivariateNormal(mean, NOISE**2 * self.spread * self.inverse))

    def evidence(self):
        covariance = self.loading @ self.loading.T + NOISE**2 * torch.eye(DATA_DIM)
        return dist.MultivariateNormal(torch.zeros(DATA_DIM).double(), covariance).log_prob(self.x)


def value(objective, program, particles=1):
    torch.manual_seed(1)
    return -objective.loss(program, program.x, num_particles=particles).item()


@pytest.mark.parametrize("particles", [1, 4])
def test_elbo_and_iwae_equal_the_evidence_at_the_exact_posterior(particles):
    program = PPCA()
    exact = program.evidence().mean().item()
    assert value(obj.elbo("monte_carlo"), program, particles) == pytest.approx(exact, abs=1e-4)
    assert value(obj.iwae(), program, particles) == pytest.approx(exact, abs=1e-4)


def test_bounds_are_ordered_for_an_imperfect_guide():
    program = PPCA(spread=0.4)
    bounds = [value(obj.elbo(), program, 500)] + [value(obj.iwae(), program, k) for k in (5, 50, 500)]
    assert bounds == sorted(bounds)
    assert bounds[-1] < program.evidence().mean().item()


def test_iwae_in_a_plate_is_the_mean_of_the_data_taken_one_by_one():
    program, particles = PPCA(spread=0.4), 7
    torch.manual_seed(3)
    run = obj.Run(as_program(program), (program.x,), {}, particles)
    weight = obj.log_weight(run)
    by_hand = (weight.logsumexp(0) - math.log(particles)).mean()
    assert value_of(obj.iwae(), run) == pytest.approx(by_hand.item(), abs=1e-12)
    joint = (weight.sum(1).logsumexp(0) - math.log(particles)) / ROWS
    assert abs(joint - by_hand) > 1e-3


@pytest.mark.parametrize(
    ("objective", "theirs"), [(obj.elbo("monte_carlo"), Trace_ELBO), (obj.elbo(), TraceMeanField_ELBO)]
)
@pytest.mark.parametrize("particles", [1, 3])
def test_value_and_gradient_agree_with_pyro_on_the_same_noise(objective, theirs, particles):
    program = PPCA(spread=0.4)
    objective.loss(program, program.x)  # finds the plates, so that both draw the same noise below
    torch.manual_seed(5)
    ours = objective.loss(program, program.x, num_particles=particles)
    (gradient,) = torch.autograd.grad(ours, program.shift)
    torch.manual_seed(5)
    bound = theirs(num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
    expected = bound.differentiable_loss(program.model, program.guide, program.x) / ROWS
    (expected_gradient,) = torch.autograd.grad(expected, program.shift)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-9)
    assert gradient.item() == pytest.approx(expected_gradient.item(), rel=1e-9)


def test_evaluate_gives_each_term_per_datum():
    program = PPCA()
    values = (obj.log_lik() - obj.kl("z") + 0.5 * obj.entropy()).evaluate(program, program.x, num_particles=3)
    assert list(values) == ["log_lik", "kl[z]", "entropy"]
    assert all(value.shape == (ROWS,) for value in values.values())


def test_entropy_in_closed_form_and_from_draws_agree_within_standard_error():
    program, particles = PPCA(), 2000
    torch.manual_seed(0)
    run = obj.Run(as_program(program), (program.x,), {}, particles)
    closed, sampled = (obj.entropy(method=m).values(run)["entropy"] for m in ("closed_form", "monte_carlo"))
    standard_error = sampled.std() / math.sqrt(sampled.numel())
    assert abs(closed.mean() - sampled.mean()) < 4 * standard_error


def value_of(objective, run):
    (values,) = objective.values(run).values()
    return values.mean().item()
