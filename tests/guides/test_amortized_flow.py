"""Flows in the amortized guide: they start as nothing, serve every support and plate, and close the gap."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from ppl_genmodels import fit, load
from ppl_genmodels.distributions import Flow
from ppl_genmodels.guides import Amortized, inverse_autoregressive, planar, spline
from ppl_genmodels.inference import compile_step
from ppl_genmodels.objectives import elbo
from ppl_genmodels.program import as_program
from ppl_genmodels.transforms import Autoregressive

LAYERS = {
    "planar": planar(3, (8,)),
    "inverse autoregressive": inverse_autoregressive(2, (8,)),
    "spline": spline(2, (8,), bins=4),
}
PRIORS = {
    "normal": dist.Normal(0.0, 1.0),
    "normal matrix": dist.Normal(torch.zeros(3, 2), 1.0).to_event(2),
    "gamma": dist.Gamma(2.0, 1.0),
    "uniform vector": dist.Uniform(torch.tensor([0.0, -1.0]), torch.tensor([1.0, 4.0])).to_event(1),
    "dirichlet": dist.Dirichlet(torch.ones(4)),
    "correlation": dist.LKJCholesky(3, 1.0),
}
SITES = ("top", "outer", "element", "last")
X = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))


def chain(prior):
    """A global site, a local one, one in an inner plate, a discrete one, and a child of all."""

    def mean(value):
        events = tuple(range(-prior.event_dim, 0))
        return value.mean(events) if events else value

    def model(x):
        data, inner = pyro.plate("data", len(x), dim=-1), pyro.plate("inner", 3, dim=-2)
        top = mean(pyro.sample("top", prior))
        with data:
            outer, kind = mean(pyro.sample("outer", prior)), pyro.sample("kind", dist.Bernoulli(0.3))
        with data, inner:
            element = mean(pyro.sample("element", prior))
        with data:
            last = mean(pyro.sample("last", prior))
            total = top + outer + kind + element.sum(-2, keepdim=True) + last
            pyro.sample("x", dist.Normal(total.unsqueeze(-1) * torch.ones(2), 1.0).to_event(1), obs=x)

    return model


def guided(prior, layers):
    """The guide with layers, and the plain one with the same heads."""
    model = chain(prior)
    both = []
    for flow in (layers, None):
        torch.manual_seed(0)
        guide = Amortized(model, nn.Linear(2, 4), flow)
        guide(X)
        both.append(guide)
    return both


def moved(guide):
    """With parameters away from where they start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return guide


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("prior", PRIORS)
def test_it_starts_as_the_guide_without_layers(layers, prior):
    with_layers, plain = guided(PRIORS[prior], LAYERS[layers])
    trace = poutine.trace(with_layers).get_trace(X)
    other = poutine.trace(poutine.replay(plain, trace=trace)).get_trace(X)
    for name in (*SITES, "kind"):
        value = trace.nodes[name]["value"]
        expected = other.nodes[name]["fn"].log_prob(value)
        torch.testing.assert_close(trace.nodes[name]["fn"].log_prob(value), expected, atol=1e-3, rtol=1e-3)
    assert isinstance(trace.nodes["last"]["fn"], Flow)
    assert not isinstance(trace.nodes["kind"]["fn"], Flow)
    assert plain.state_dict().keys() < with_layers.state_dict().keys()


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("prior", PRIORS)
def test_draws_of_many_particles_have_the_density_that_the_inverse_gives(layers, prior):
    guide = moved(guided(PRIORS[prior], LAYERS[layers])[0].double())
    x = X.double()
    with pyro.plate("_particles", 4, dim=-3):
        trace = poutine.trace(guide).get_trace(x)
    shapes = {"top": (4, 1, 1), "outer": (4, 1, 5), "element": (4, 3, 5), "last": (4, 1, 5)}
    for name, shape in shapes.items():
        fn, value = trace.nodes[name]["fn"], trace.nodes[name]["value"]
        assert fn.support.check(value).all()
        log_prob = fn.log_prob(value)
        assert log_prob.shape == fn.batch_shape == shape
        torch.testing.assert_close(fn.log_prob(value.clone()), log_prob, atol=1e-6, rtol=1e-6)


def test_every_layer_has_a_gradient_and_rows_may_be_of_any_number():
    for layers in LAYERS.values():
        guide = moved(guided(PRIORS["dirichlet"], layers)[0])
        program = as_program((guide.model, guide))
        elbo().loss(program, X[:3], num_particles=5).backward()
        slopes = {name: each.grad for name, each in guide.flows.named_parameters()}
        assert slopes
        assert all(slope.isfinite().all() and slope.abs().sum() > 0 for slope in slopes.values())


def test_what_is_drawn_is_priced_without_the_inverse():
    """Each network of each site runs once a step, whatever the number of particles."""
    guide, _ = guided(PRIORS["dirichlet"], inverse_autoregressive(2, (8,)))
    program, calls = as_program((guide.model, guide)), []
    program.structure(X)
    for module in guide.modules():
        if isinstance(module, Autoregressive):
            module.network.register_forward_hook(lambda *_: calls.append(1))
    elbo().loss(program, X, num_particles=7)
    assert len(calls) == 2 * len(SITES)


def test_the_elements_of_an_inner_plate_have_their_own_context():
    guide = moved(guided(PRIORS["normal matrix"], LAYERS["spline"])[0])
    fn = poutine.trace(guide).get_trace(X).nodes["element"]["fn"]
    noise = torch.randn(6).expand(3, 5, 6)
    for transform in fn.transforms[:4]:
        noise = transform(noise)
    assert len(noise.reshape(15, 6).unique(dim=0)) == 15


@pytest.mark.parametrize("layers", LAYERS)
def test_a_traced_step_gives_the_eager_numbers(layers):
    values = []
    for mode in ("off", "trace"):
        guide = moved(guided(PRIORS["gamma"], LAYERS[layers])[0])
        program = as_program((guide.model, guide))
        program.structure(X)
        step = compile_step(elbo(), program, torch.optim.Adam(guide.parameters(), 1e-2), mode=mode)
        torch.manual_seed(3)
        values.append(torch.stack([torch.as_tensor(step(X)) for _ in range(3)]))
    torch.testing.assert_close(*values)


NOISE, BEND = 0.3, 1.0


class Bent(nn.Module):
    """Each datum tells how far one number lies above the square of the other."""

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[..., 1] - BEND * z[..., 0] ** 2, NOISE), obs=x[:, 0])


def exact_evidence(x):
    """By quadrature over the first number; the second is integrated in closed form."""
    first = np.linspace(-8, 8, 4001)
    log_joint = dist.Normal(0.0, 1.0).log_prob(torch.tensor(first))
    mean, scale = torch.tensor(-BEND * first**2), math.sqrt(1 + NOISE**2)
    log_joint = log_joint + dist.Normal(mean, scale).log_prob(x.double())
    return log_joint.logsumexp(-1) + math.log(first[1] - first[0])


@pytest.fixture(scope="module")
def bent_fits():
    torch.manual_seed(0)
    x = torch.linspace(-0.5, 2, 256).unsqueeze(-1)  # Below these there are two modes, of which a guide may choose one.
    found = {}
    for name, layers in {"plain": None, "flow": spline(2, (32,))}.items():
        torch.manual_seed(0)
        program = Bent()
        guide = Amortized(program.model, nn.Sequential(nn.Linear(1, 16), nn.Tanh()), layers)
        found[name] = fit(
            (program.model, guide),
            x,
            steps=800,
            batch_size=64,
            num_particles=4,
            optimizer=lambda p: torch.optim.Adam(p, 5e-3, fused=True),
            compile="trace",
            progress=False,
        )
    return found, x


def test_it_closes_the_gap_of_every_datum(bent_fits):
    """The exact evidence less the bound of one draw: below a fifth of what the plain guide leaves."""
    found, x = bent_fits
    exact = exact_evidence(x).mean()
    gaps = {}
    for name, fitted in found.items():
        terms = elbo().evaluate(fitted.program, x, num_particles=200)
        gaps[name] = exact - (terms["log_lik"] - terms["kl"]).mean()
    assert gaps["plain"] > 0.3
    assert -0.02 < gaps["flow"] < gaps["plain"] / 5


def test_the_weighted_evidence_is_the_exact_one(bent_fits):
    found, x = bent_fits
    bound = found["flow"].log_evidence(x, 500, seed=1).double()
    torch.testing.assert_close(bound.mean(), exact_evidence(x).mean(), atol=0.02, rtol=0)


def test_a_saved_guide_comes_back(bent_fits, tmp_path):
    found, x = bent_fits
    found["flow"].save(tmp_path)
    program = Bent()
    encoder = nn.Sequential(nn.Linear(1, 16), nn.Tanh())
    loaded = load(tmp_path, program=(program.model, Amortized(program.model, encoder, spline(2, (32,)))))
    assert torch.equal(loaded.log_evidence(x, 7, seed=2), found["flow"].log_evidence(x, 7, seed=2))
