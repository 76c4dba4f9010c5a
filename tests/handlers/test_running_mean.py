"""The running mean as a baseline: what it remembers, and where that is kept."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.handlers.running_mean import RunningMean

X = torch.tensor([0.5, -1.0, 2.0])


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.logits, self.means = nn.Parameter(torch.zeros(3)), torch.tensor([-1.0, 0.0, 1.0])

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("k.of", dist.Categorical(logits=self.logits))

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k.of", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(self.means[k], 1.0), obs=x + 10)


def test_it_is_the_weighted_mean_of_earlier_values():
    mean, values = RunningMean(decay=0.8, count=1), torch.tensor([3.0, -1.0, 2.0])
    mean.add("k")
    read = [mean("k", value.reshape(1)).item() for value in (*values, torch.tensor(0.0))]
    weights = torch.tensor([0.64, 0.8, 1.0])
    expected = [0.0, 3.0, (0.8 * 3.0 - 1.0) / 1.8, ((weights * values).sum() / weights.sum()).item()]
    assert read == pytest.approx(expected, rel=1e-5)


def test_nothing_is_remembered_without_gradient():
    mean = RunningMean()
    mean.add("k")
    with torch.no_grad():
        mean("k", torch.ones(2))
    assert mean("k", torch.ones(2)).tolist() == [0.0, 0.0]


def test_the_memory_is_a_part_of_the_program():
    program = handlers.score_function(Mixture(), baseline="running_mean")
    program.probe(X)
    plain = len(handlers.score_function(Mixture()).state_dict())
    (name,) = [name for name in program.state_dict() if "of_k/of" in name]
    assert name not in program.weights()
    assert len(program.state_dict()) == plain + 1
    before = program.state_dict()[name].clone()
    obj.elbo().loss(program, X)
    assert not torch.equal(program.state_dict()[name], before)


def test_variance_is_below_none_after_some_steps():
    """Costs of 50 nats with a common level: what a constant baseline is for."""

    def variance(baseline):
        torch.manual_seed(0)
        program = Mixture()
        inner = handlers.score_function(program, baseline=baseline)
        found = [torch.autograd.grad(obj.elbo().loss(inner, X), program.logits)[0] for _ in range(220)]
        return torch.stack(found[20:]).var(0).sum()

    assert variance("running_mean") < 0.5 * variance("none")


def test_training_resumes_with_what_was_remembered(tmp_path):
    def trained(epochs, **options):
        program = handlers.score_function(Mixture(), baseline="running_mean")
        options = {"batch_size": 1, "progress": False, "compile": "off"} | options
        ppl.fit(program, X.numpy(), objective=obj.elbo(), epochs=epochs, **options)
        return program.state_dict()

    whole, _ = trained(4), trained(2, out=tmp_path / "run")
    resumed = trained(4, out=tmp_path / "run", resume=True)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_the_saved_program_is_read_without_the_handler(tmp_path):
    program = Mixture()
    wrapped = handlers.score_function(program, baseline="running_mean")
    ppl.fit(wrapped, X.numpy(), objective=obj.elbo(), epochs=1, progress=False).save(tmp_path / "run")
    other = Mixture()
    ppl.load(tmp_path / "run", program=other)
    assert torch.equal(other.logits, program.logits)
