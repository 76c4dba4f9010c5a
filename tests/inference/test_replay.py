"""Runs replayed from graphs: the eager numbers bit for bit, and eager wherever that cannot be."""

import random
import re
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import as_program
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.guides import Amortized, AutoMultivariateNormal, AutoNormal
from ppl_genmodels.handlers import mask_missing
from ppl_genmodels.inference import CompileWarning, replay
from ppl_genmodels.inference.evidence import log_evidence
from ppl_genmodels.inference.posterior import sample_posterior
from ppl_genmodels.inference.predictive import reconstruct, sample_prior
from ppl_genmodels.inference.replay import Replay
from ppl_genmodels.models import VAE

GROUPS = ("posterior", "log_likelihood", "sample_stats", "posterior_predictive", "observed_data")
X = torch.randn(150, 6, generator=torch.Generator().manual_seed(0))
MISSING = X.masked_fill(torch.arange(900).reshape(150, 6) % 7 == 0, torch.nan)


class OneHot(nn.Module):
    """A mixture whose classes are one-hot, with a number of trials that is not drawn in the guide's network."""

    def __init__(self):
        super().__init__()
        self.means, self.logits = nn.Parameter(torch.randn(3, 6)), nn.Linear(6, 3)

    def model(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=x.new_zeros(3)))
            pyro.sample("x", dist.Normal(y @ self.means, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.OneHotCategorical(logits=self.logits(x)))


class Hierarchy(nn.Module):
    """A global scale and a latent of each row."""

    def model(self, x=None):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.3))
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(6), scale.unsqueeze(-1)).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def regression(x):
    weight = pyro.sample("weight", dist.Normal(torch.zeros(5), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal((x[:, 1:] * weight).sum(-1), 0.5), obs=x[:, 0])


def layer(x=None):
    """Weights of a linear layer, which broadcasts over rows and not over draws."""
    weight = pyro.sample("weight", dist.Normal(torch.zeros(1, 5), 1.0).to_event(2))
    inputs, y = (torch.ones(1, 5), None) if x is None else (x[:, 1:], x[:, 0])
    with pyro.plate("data", len(inputs)):
        pyro.sample("y", dist.Normal(nn.functional.linear(inputs, weight)[:, 0], 0.5), obs=y)


def vae():
    return VAE(6, 2, hidden=(8,), likelihood="gaussian").eval()


def hierarchy():
    model = Hierarchy().model
    return model, Amortized(model, nn.Linear(6, 4))


CASES = {
    "vae": (vae, X),
    "missing values": (lambda: mask_missing(vae()), MISSING),
    "one-hot classes": (OneHot, X),
    "global and local": (hierarchy, X),
    "global alone": (lambda: (regression, AutoMultivariateNormal(regression)), X),
    "one draw at a time": (lambda: (layer, AutoNormal(layer)), X),
}


@pytest.fixture(params=[*CASES, "linear_gaussian", "shared_slope", "mixture", "nested", "crossed"])
def case(request):
    """A program and its data."""
    torch.manual_seed(0)
    if request.param in CASES:
        make, data = CASES[request.param]
        return as_program(make()), Rows.of(data)
    program = request.getfixturevalue(request.param)()
    return as_program(program), Rows.of(program.data if hasattr(program, "data") else program.x)


def arrays(draws):
    return {f"{group} {name}": array for group in GROUPS for name, array in getattr(draws, group).items()}


def assert_same(traced, eager):
    assert traced.keys() == eager.keys()
    for name, value in eager.items():
        np.testing.assert_array_equal(traced[name], value, err_msg=name)


@pytest.fixture
def graphs(monkeypatch):
    """Every graph that is replayed, by what it does."""
    made, traced = [], Replay._trace

    def watched(self, *inputs):
        done = traced(self, *inputs)
        made.extend([self.what] if done else [])
        return done

    monkeypatch.setattr(Replay, "_trace", watched)
    return made


@pytest.mark.parametrize("chunk_size", [None, 10])
def test_traced_draws_are_the_eager_ones_bit_for_bit(case, graphs, chunk_size):
    settings = {"num_samples": 5, "chunk_size": chunk_size, "predictive": True, "seed": 2}
    eager, traced = (arrays(sample_posterior(*case, **settings, compile=mode)) for mode in ("off", "trace"))
    assert {"the model", "the model without its observations"} <= set(graphs)
    assert_same(traced, eager)


def test_traced_evidence_and_reconstructions_are_the_eager_ones(case, graphs):
    for num_particles in (3, 130):  # one group of particles, and two of different size
        traced = log_evidence(*case, num_particles, compile="trace")
        assert torch.equal(traced, log_evidence(*case, num_particles, compile="off"))
    assert_same(reconstruct(*case, 4, compile="trace"), reconstruct(*case, 4, compile="off"))
    assert {"the weight", "the mean"} <= set(graphs)


def test_samples_made_one_by_one_are_traced_too(graphs):
    """The draws follow one another in one stream of random numbers, which tracing leaves where it was."""
    traced, eager = (sample_prior(as_program(layer), 8, seed=1, compile=mode) for mode in ("trace", "off"))
    assert graphs == ["the model without data"]
    assert_same(traced, eager)


@pytest.mark.own_compile
def test_graphs_are_made_where_they_pay(graphs, monkeypatch):
    """With as many blocks as it takes, once a layout comes back; the last block, which is smaller, is not traced."""
    monkeypatch.setattr(replay, "WORTH_TRACING", 5)
    monkeypatch.setattr(replay, "WORTH_LOADING", 5)
    program = as_program(vae())
    sample_posterior(program, Rows.of(X[: 4 * 32 + 20]), 2)
    assert graphs == []
    sample_posterior(program, Rows.of(X.repeat(2, 1)[: 5 * 32 + 20]), 2)
    assert graphs == ["the guide"]
    sample_posterior(program, Rows.of(X.repeat(2, 1)), 2, compile="off")
    assert graphs == ["the guide"]


def test_what_the_first_trace_loads_is_counted(monkeypatch):
    monkeypatch.setattr(replay, "sys", type("Fresh", (), {"modules": {}}))
    assert replay._worth() == replay.WORTH_LOADING
    monkeypatch.setattr(replay, "sys", type("Warm", (), {"modules": {"torch._inductor": None}}))
    assert replay._worth() == replay.WORTH_TRACING


def test_graphs_of_one_draw_serve_the_next(graphs):
    """Two layouts: whole chunks and the last one."""
    program = as_program((layer, AutoNormal(layer)))
    sample_posterior(program, Rows.of(X), 6, chunk_size=100, compile="trace")
    assert graphs == ["the model"] * 2


def test_what_has_changed_between_calls_is_seen():
    """Parameters and modules may change as they like: graphs end with the call."""
    program = vae()
    infer = lambda mode: arrays(sample_posterior(as_program(program), Rows.of(X), 3, compile=mode))  # noqa: E731
    first = infer("trace")
    with torch.no_grad():
        next(program.encoder.parameters()).mul_(2.0)
    program.decoder = nn.Linear(2, 6)
    second = infer("trace")
    assert not np.array_equal(first["posterior z"], second["posterior z"])
    assert_same(second, infer("off"))


class Rejecting(nn.Module):
    """A latent angle, drawn by rejection in a loop of Python."""

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            angle = pyro.sample("angle", dist.VonMises(0.0, 1.0))
            pyro.sample("x", dist.Normal(angle, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("angle", dist.VonMises(0.5 * x, 2.0))


def test_draws_that_need_python_are_made_eagerly_and_the_line_is_named(graphs):
    program, rows = as_program(Rejecting()), Rows.of(X[:, 0].contiguous())
    line = r'the guide cannot be traced.*test_replay\.py, line \d+: pyro\.sample\("angle", dist\.VonMises\(0\.5 \* x'
    with pytest.warns(CompileWarning, match=line):
        traced = sample_posterior(program, rows, 4, compile="trace")
    assert graphs == ["the model"] * 1
    assert_same(arrays(traced), arrays(sample_posterior(program, rows, 4, compile="off")))


def looking(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x if x.sum() > 0 else -x, 1.0))
    return z


def dicing(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x + random.random(), 1.0))


def local(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@pytest.mark.parametrize(
    ("guide", "message"),
    [(looking, "if x.sum() > 0"), (dicing, "the guide cannot be traced and runs eagerly: its numbers differ")],
)
def test_guides_that_would_not_replay_are_run_eagerly(guide, message, graphs):
    with pytest.warns(CompileWarning, match=re.escape(message)):
        sample_posterior(as_program((local, guide)), Rows.of(X[:, 0].contiguous()), 4, compile="trace")
    assert "the guide" not in graphs


def test_a_block_that_is_not_finite_is_run_eagerly_and_named():
    """The 100th row gives the guide a scale of zero; the error is the eager one."""

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, torch.where(x == 7.0, 0.0, 1.0)))

    x = torch.zeros(150)
    x[100] = 7.0
    program = as_program((local, guide))
    program.probe(x[:50])
    messages = []
    for mode in ("off", "trace"):
        with pytest.raises(Exception, match="scale") as caught:
            sample_posterior(program, Rows.of(x), 4, compile=mode)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_nothing_is_said_where_all_can_be_traced(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        sample_posterior(*case, 3, compile="trace")
