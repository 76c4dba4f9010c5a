"""Contrastive divergence: a gradient that vanishes at the truth, and chains that go on."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels.distributions import Energy, ReplayBuffer
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.objectives import contrastive_divergence, log_lik

ROWS = 20_000


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("name", ["network.loc", "network.precision"])
def test_the_gradient_vanishes_at_the_truth(program, target, at_zero, persistent, name):
    torch.manual_seed(0)
    program.chains = ReplayBuffer((2,), ROWS, restart=0.0).double()
    program.chains.keep(torch.arange(ROWS), target.sample((ROWS,)))
    at_zero(contrastive_divergence("x", steps=5, persistent=persistent), program, target.sample((ROWS,)), name)


def test_long_chains_give_the_gradient_of_the_likelihood(program, target):
    """Of the normal density's own likelihood, at parameters that are not the data's."""
    torch.manual_seed(0)
    x = target.sample((ROWS,)) * 1.3 + 0.4
    contrastive_divergence(steps=100).loss(program, x).backward()
    network = program.network
    loc, precision = (p.detach().clone().requires_grad_() for p in (network.loc, network.precision))
    (-dist.MultivariateNormal(loc, precision_matrix=precision).log_prob(x).mean()).backward()
    centered = target.sample((ROWS,)) - target.mean
    error_of_loc = (centered @ network.precision.detach()).std(0) / ROWS**0.5
    error = (0.5 * centered[:, :, None] * centered[:, None]).std(0) / ROWS**0.5
    symmetric = (network.precision.grad + network.precision.grad.T) / 2
    assert ((network.loc.grad - loc.grad).abs() < 4.5 * error_of_loc).all()
    assert ((symmetric - (precision.grad + precision.grad.T) / 2).abs() < 4.5 * error).all()
    assert precision.grad.abs().max() > 20 * error.max()


def test_the_normalizer_has_no_part_in_it(program, target):
    contrastive_divergence(steps=1).loss(program, target.sample((10,))).backward()
    assert program.log_normalizer.grad.abs() < 1e-12


def test_chains_go_on_only_where_a_gradient_is_taken(program, target):
    objective, x = contrastive_divergence(steps=3, persistent=True), target.sample((20,))
    objective.evaluate(program, x)
    assert not program.chains.begun.any()
    objective.loss(program, x)
    assert program.chains.begun.sum() == 20
    assert torch.equal((program.chains.values != 0).any(-1), program.chains.begun)


def test_all_chains_begin_at_the_start_and_later_some_anew():
    torch.manual_seed(0)
    buffer, start = ReplayBuffer((2,), 1000, restart=0.2), dist.Normal(torch.full((2,), 9.0), 0.1).to_event(1)
    places, values = buffer.take(1000, start)
    assert (values > 5).all()
    buffer.keep(places, torch.zeros(1000, 2))
    places, values = buffer.take(1000, start)
    anew = (values[:, 0] > 5).sum().item()
    assert anew == pytest.approx(200, abs=4.5 * (1000 * 0.2 * 0.8) ** 0.5)
    assert len(places.unique()) == 1000


def test_more_rows_than_chains_are_served(program, target):
    contrastive_divergence(steps=1, persistent=True).loss(program, target.sample((120,))).backward()
    assert program.network.loc.grad.isfinite().all()


def test_training_resumes_where_the_chains_were(program, target, tmp_path):
    x = target.sample((64,))
    begun = {name: value.clone() for name, value in program.state_dict().items()}

    def trained(epochs, **options):
        program.load_state_dict(begun)
        objective = contrastive_divergence("x", steps=2, persistent=True)
        options = {"batch_size": 16, "precision": "64-true", "compile": "off", "progress": False} | options
        ppl.fit(program, x, objective=objective, epochs=epochs, **options)
        return {name: value.clone() for name, value in program.state_dict().items()}

    whole = trained(4)
    trained(2, out=tmp_path / "run")
    resumed = trained(4, out=tmp_path / "run", resume=True)
    assert not torch.equal(whole["chains.values"], begun["chains.values"])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_what_cannot_be_is_refused(program, target):
    x = target.sample((3,))

    def plain(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)

    def without(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", Energy(program.network, (2,), start=program.start), obs=x)

    with pytest.raises(OptionError, match="steps=0"):
        contrastive_divergence(steps=0)
    with pytest.raises(OptionError, match="restart=2"):
        ReplayBuffer((2,), restart=2)
    with pytest.raises(ProgramError, match="the distribution of site 'x' is not an energy"):
        contrastive_divergence("x").loss(plain, x.float())
    with pytest.raises(ProgramError, match="has no chains that could go on"):
        contrastive_divergence(persistent=True).loss(without, x)
    assert log_lik().evaluate(program, x)["log_lik"].shape == (3,)
