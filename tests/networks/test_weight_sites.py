"""Networks whose weights are sites: the same functions, drawn from a prior, under particles, guides, fit and infer."""

import copy

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.guides import Amortized, AutoDiagonalNormal, AutoNormal
from ppl_genmodels.inference import compile_step
from ppl_genmodels.networks import MLP, weight_sites

X = torch.tensor([[0.3, -1.0], [1.2, 0.4], [-0.5, 2.0], [0.1, 0.2]])
Y = torch.tensor([0.5, -0.3, 1.1, 0.2])
NAMES = [f"network.layers.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")]


class Regression(nn.Module):
    """A network of weights, seen through noise."""

    def __init__(self, network=None):
        super().__init__()
        self.network = weight_sites(MLP(2, 1, hidden=(3,)) if network is None else network)

    def model(self, x, y=None):
        mean = self.network(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def test_it_computes_what_the_network_computes_at_the_same_weights():
    plain = MLP(2, 1, hidden=(3,))
    held = {f"network.{name}": value.detach() for name, value in plain.named_parameters()}
    drawn = poutine.condition(weight_sites(plain), held)(X)
    assert torch.equal(drawn, plain(X))


def test_particles_are_each_computed_with_their_own_weights():
    plain, particles = MLP(2, 1, hidden=(3,)), 5
    network = weight_sites(plain)
    with poutine.trace() as traced, pyro.plate("particles", particles, dim=-2):
        together = network(X)
    assert together.shape == (particles, len(X), 1)
    for particle in range(particles):
        state = {name: traced.trace.nodes[f"network.{name}"]["value"][particle, 0] for name in plain.state_dict()}
        state = {n: v.reshape(p.shape) for (n, v), p in zip(state.items(), plain.parameters(), strict=True)}
        plain.load_state_dict(state)
        torch.testing.assert_close(together[particle], plain(X))


def test_the_network_given_is_left_as_it_was():
    plain = MLP(2, 1, hidden=(3,))
    before = copy.deepcopy(plain.state_dict())
    weight_sites(plain)
    assert type(plain.layers[0]) is nn.Linear
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())


def test_sites_have_the_prior_and_the_names_of_the_parameters():
    network = weight_sites(MLP(2, 1, hidden=(3,)), prior=dist.Laplace(0.0, 0.2), name="f")
    trace = poutine.trace(network).get_trace(X)
    sites = {name: node["fn"] for name, node in trace.nodes.items() if node["type"] == "sample"}
    assert list(sites) == [name.replace("network", "f") for name in NAMES]
    weight = sites["f.layers.0.weight"]
    assert weight.batch_shape == ()
    assert weight.event_shape == (3, 2)
    value = torch.ones(3, 2)
    torch.testing.assert_close(weight.log_prob(value), dist.Laplace(0.0, 0.2).log_prob(value).sum())
    assert not list(network.parameters())


def test_layers_of_other_kinds_keep_their_parameters():
    network = weight_sites(nn.Sequential(nn.Linear(2, 3, bias=False), nn.LayerNorm(3), nn.Linear(3, 1)))
    assert [name for name, _ in network.named_parameters()] == ["1.weight", "1.bias"]
    trace = poutine.trace(network).get_trace(X)
    assert [n for n, node in trace.nodes.items() if node["type"] == "sample"] == [
        "network.0.weight",
        "network.2.weight",
        "network.2.bias",
    ]


def test_double_precision_is_that_of_the_network():
    assert weight_sites(MLP(2, 1, hidden=(3,)).double())(X.double()).dtype == torch.float64
    assert weight_sites(MLP(2, 1, hidden=(3,))).double()(X.double()).dtype == torch.float64


@pytest.mark.parametrize("make", [AutoNormal, AutoDiagonalNormal, lambda model: Amortized(model, nn.Linear(2, 2))])
@pytest.mark.parametrize("particles", [1, 3])
def test_guides_serve_the_weights(make, particles):
    program = Regression()
    whole = ppl.Program(program.model, make(program.model))
    structure = whole.structure(X, Y)
    assert [site.name for site in structure.latent] == NAMES
    assert structure.site("y").parents == tuple(NAMES)
    obj.elbo().loss(whole, X, Y, num_particles=particles).backward()
    assert all(parameter.grad.isfinite().all() for name, parameter in whole.named_parameters() if "encoder" not in name)


def test_the_traced_step_gives_the_eager_values():
    """Both from one random state; the first four values of each."""
    values = []
    for mode in ("off", "trace"):
        torch.manual_seed(0)
        program = Regression()
        whole = ppl.Program(program.model, AutoNormal(program.model))
        whole.structure(X, Y)
        step = compile_step(obj.elbo(), whole, torch.optim.SGD(whole.parameters(), 0.01), mode=mode)
        torch.manual_seed(1)
        values.append(torch.stack([step(X, Y) for _ in range(4)]))
    torch.testing.assert_close(*values)


def test_fit_and_infer_find_the_posterior_of_a_linear_layer():
    """Bayesian linear regression: the mean-field posterior's means are those of the exact one."""
    torch.manual_seed(0)
    program = Regression(nn.Linear(2, 1))
    data = {"x": X.numpy(), "y": Y.numpy()}
    design = torch.cat([X, torch.ones(len(X), 1)], 1)
    precision = torch.eye(3) + design.T @ design / 0.25
    exact = torch.linalg.solve(precision, design.T @ Y / 0.25)
    fitted = ppl.fit(
        (program.model, AutoNormal(program.model)),
        data,
        steps=600,
        num_particles=10,
        optimizer=lambda parameters: torch.optim.Adam(parameters, 0.02),
        progress=False,
    )
    posterior = fitted.infer(data, num_samples=400).posterior
    draws = np.concatenate(
        [posterior[name].values.reshape(400, -1) for name in ("network.weight", "network.bias")], axis=1
    )
    deviation = (1 / precision.diagonal()).sqrt().numpy()  # of the mean-field optimum
    assert (np.abs(draws.mean(0) - exact.numpy()) < 0.5 * deviation).all()


def test_bad_input_is_refused_with_the_remedy():
    with pytest.raises(ProgramError, match=r"Sequential has no torch.nn.Linear.*networks.MLP"):
        weight_sites(nn.Sequential(nn.ReLU()))
    with pytest.raises(OptionError, match=r"prior=.*expected a distribution of numbers.*Normal\(0.0, 1.0\)"):
        weight_sites(MLP(2, 1), prior=dist.Normal(torch.zeros(3), 1.0))
    with pytest.raises(OptionError, match=r"name='a.b'.*without dots"):
        weight_sites(MLP(2, 1), name="a.b")
