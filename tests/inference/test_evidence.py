"""The importance-weighted bound against evidences that are known."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_genmodels import as_program
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import OptionError
from ppl_genmodels.guides import AutoDiagonalNormal, AutoNormal
from ppl_genmodels.handlers import mask_missing
from ppl_genmodels.inference import evidence, posterior
from ppl_genmodels.inference.evidence import log_evidence
from ppl_genmodels.objectives import Run

NAN = float("nan")


def bound(program, data, num_particles, seed=0):
    return log_evidence(as_program(program), Rows.of(data), num_particles, seed)


@pytest.mark.parametrize("num_particles", [1, 7, 250])
def test_an_exact_guide_gives_the_evidence_itself(linear_gaussian, mixture, num_particles):
    program = linear_gaussian()
    received = bound(program, program.x, num_particles)
    torch.testing.assert_close(received, program.marginal().log_prob(program.x).detach(), atol=1e-4, rtol=1e-4)
    program = mixture()
    expected = program.components(program.x).logsumexp(-1) - math.log(3)
    torch.testing.assert_close(bound(program, program.x, num_particles), expected.detach(), atol=1e-4, rtol=1e-4)


def test_an_exact_guide_of_a_shared_site_gives_the_evidence_of_all_rows(shared_slope):
    program = shared_slope()
    received = bound(program, program.data, 3)
    assert received.shape == ()
    torch.testing.assert_close(received, program.evidence(), atol=1e-2, rtol=1e-4)


def test_the_bound_rises_with_the_particles_of_a_worse_guide(linear_gaussian):
    """In the mean over rows, whose standard error the differences exceed."""
    program = linear_gaussian(spread=4.0)
    x = program.x.repeat(40, 1)
    exact = program.marginal().log_prob(x).detach()
    gaps = [exact - bound(program, x, count) for count in (1, 5, 50, 1000)]
    for worse, better in itertools.pairwise(gaps):
        difference = worse - better
        assert difference.mean() > 2 * difference.std() / len(exact) ** 0.5
    # The bound of one particle is the evidence less the divergence, which is known.
    divergence = 0.5 * (2 * 4.0 - 2 - 2 * math.log(4.0))
    assert abs(gaps[0].mean() - divergence) < 4 * gaps[0].std() / len(exact) ** 0.5
    assert abs(gaps[-1].mean()) < 0.01


def test_the_bound_of_a_shared_site_rises_too(shared_slope):
    program = shared_slope(spread=4.0)
    exact = program.evidence()
    few, many = (
        torch.stack([exact - bound(program, program.data, count, seed) for seed in range(20)]) for count in (1, 200)
    )
    assert few.mean() > many.mean() > -0.05
    assert many.abs().mean() < 0.1


def test_the_bound_is_the_log_mean_weight(linear_gaussian):
    """Jensen: the mean of its exponential is the evidence, whatever the guide."""
    program = linear_gaussian(spread=1.5)
    x = program.x[:2].repeat(400, 1)
    received = bound(program, x, 10).exp().reshape(400, 2)
    exact = program.marginal().log_prob(program.x[:2]).exp().detach()
    error = received.std(0) / 400**0.5
    assert ((received.mean(0) - exact).abs() < 4 * error).all()


@pytest.mark.parametrize("group", [1, 3, 100])
def test_particles_taken_in_groups_are_one_sum(linear_gaussian, group, monkeypatch):
    monkeypatch.setattr(evidence, "GROUP", group)
    """The mean of the groups' own bounds would lie up to 0.3 lower."""
    program = linear_gaussian(spread=2.0)
    exact = program.marginal().log_prob(program.x).detach()
    gap = exact - bound(program, program.x, 100)
    assert abs(gap.mean()) < 4 * gap.std() / len(gap) ** 0.5 < 0.04


@pytest.mark.parametrize("rows", [1, 32, 33])
def test_one_number_for_each_row(linear_gaussian, rows):
    program = linear_gaussian()
    assert bound(program, program.x[:rows], 3).shape == (rows,)


def test_one_number_for_all_rows_even_when_there_is_one(shared_slope):
    program = shared_slope()
    one = {name: value[:1] for name, value in program.data.items()}
    assert bound(program, one, 3).shape == ()


def test_seeds_decide_and_the_random_state_is_left(linear_gaussian):
    program = linear_gaussian(spread=3.0)
    before = torch.get_rng_state()
    once = bound(program, program.x, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(bound(program, program.x, 5), once)
    assert not torch.equal(bound(program, program.x, 5, seed=1), once)


def local_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@pytest.mark.parametrize(("guide", "shape"), [(AutoNormal, (40,)), (AutoDiagonalNormal, ())])
def test_autoguides_of_local_latents(guide, shape):
    """AutoNormal has a weight for each row; AutoDiagonalNormal draws all rows together and has one."""
    x = torch.linspace(-1, 1, 40)
    received = bound((local_model, guide(local_model, init_scale=0.7)), x, 2000)
    exact = dist.Normal(0.0, math.sqrt(2)).log_prob(x)
    assert received.shape == shape
    if shape:
        assert (received - exact).abs().mean() < 0.05
    else:
        assert received < exact.sum() + 1.0


def test_missing_values_leave_the_evidence_of_what_was_observed():
    class Exact(torch.nn.Module):
        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z.unsqueeze(-1), 1.0).expand([*z.shape, 2]).to_event(1), obs=x)

        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x.sum(-1) / 3, 1.0))

    x = torch.tensor([[1.0, NAN], [NAN, NAN], [0.5, -0.5]])
    received = bound(mask_missing(Exact()), x, 20_000)
    alone = dist.Normal(0.0, math.sqrt(2)).log_prob(torch.tensor(1.0))
    both = dist.MultivariateNormal(torch.zeros(2), torch.eye(2) + 1).log_prob(x[2])
    np.testing.assert_allclose(received, torch.stack([alone, torch.tensor(0.0), both]), atol=0.03)


def test_at_least_one_particle_is_needed(linear_gaussian):
    program = linear_gaussian()
    with pytest.raises(OptionError, match="num_particles must be at least 1, got 0"):
        bound(program, program.x, 0)


def test_rows_that_share_a_site_are_taken_in_chunks_when_they_do_not_fit(shared_slope, monkeypatch):
    """The draws of the first hundred particles are those of a run of all rows; their weights are summed in another
    order, whose rounding is that of some hundred terms of single precision.
    """
    program, data = shared_slope(), shared_slope().data
    program = as_program((program.model, AutoNormal(program.model, init_scale=0.1)))
    together, seen, traced = bound(program, data, 60), [], Run.trace_particles

    def watched(self, fn):
        seen.append(len(self.kwargs["x"]))
        return traced(self, fn)

    monkeypatch.setattr(evidence, "WHOLE", 75 * 60 - 1)
    monkeypatch.setattr(posterior, "CACHE", 60 * 32)
    monkeypatch.setattr(Run, "trace_particles", watched)
    in_chunks = bound(program, data, 60)
    assert max(seen) == 32
    assert in_chunks.shape == ()
    assert abs(in_chunks - together) < 75 * 2**-23 * abs(together)


def test_groups_of_particles_differ_in_chunks_too(shared_slope, monkeypatch):
    """The bound of a worse guide rises with the particles: groups that repeated themselves would add nothing."""
    program = shared_slope()
    program = as_program((program.model, AutoNormal(program.model, init_scale=0.5)))
    monkeypatch.setattr(evidence, "WHOLE", 0)
    monkeypatch.setattr(evidence, "GROUP", 5)
    one, many = (
        torch.stack([bound(program, shared_slope().data, count, seed) for seed in range(20)]) for count in (5, 60)
    )
    assert many.mean() - one.mean() > 3 * (one.var() / 20 + many.var() / 20) ** 0.5
