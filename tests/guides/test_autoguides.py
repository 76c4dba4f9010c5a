"""Pyro's autoguides as the guide of a program, unchanged: one draw or many, parameters in the module."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor

from ppl_genmodels import guides
from ppl_genmodels.objectives import elbo
from ppl_genmodels.program import Program

SCHOOLS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])


def eight_schools(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", 8):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * eta, 12.0), obs=y)


def local(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        w = pyro.sample("w", dist.Gamma(2.0, 1.0))
        pyro.sample("x", dist.Normal(z.sum(-1) * w, 1.0), obs=x)


def mixed(x: Tensor) -> None:
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z + p[..., 0], 1.0), obs=x)


def a_list(model):
    """A normal for the first site and point estimates for the rest."""
    first = {"eight_schools": "mu", "local": "z", "mixed": "p"}[model.__name__]
    guide = guides.AutoGuideList(model)
    guide.append(guides.AutoNormal(poutine.block(model, expose=[first])))
    guide.append(guides.AutoDelta(poutine.block(model, hide=[first])))
    return guide


AUTOGUIDES = {
    "normal": guides.AutoNormal,
    "diagonal": guides.AutoDiagonalNormal,
    "multivariate": guides.AutoMultivariateNormal,
    "low_rank": guides.AutoLowRankMultivariateNormal,
    "flow": guides.AutoFlow,
    "delta": guides.AutoDelta,
    "list": a_list,
}


@pytest.fixture(params=[eight_schools, local, mixed], ids=lambda model: model.__name__)
def model(request):
    return request.param


@pytest.fixture(params=AUTOGUIDES)
def program(request, model):
    torch.manual_seed(0)
    program = Program(model, AUTOGUIDES[request.param](model))
    program.structure(SCHOOLS)
    return program


def test_the_bound_is_pyros_on_the_same_noise(program, model):
    torch.manual_seed(1)
    terms = elbo().evaluate(program, SCHOOLS)
    ours = (terms["log_lik"] - terms["kl"]).sum().item()
    torch.manual_seed(1)
    with program.scope():
        pyros = -Trace_ELBO().loss(model, program.source[1], SCHOOLS)
    assert ours == pytest.approx(pyros, rel=1e-4)


@pytest.mark.parametrize("particles", [1, 4])
def test_every_parameter_gets_a_gradient_and_the_store_stays_empty(program, particles):
    parameters = dict(program.named_parameters())
    elbo().loss(program, SCHOOLS, num_particles=particles).backward()
    assert parameters
    assert all(p.grad.isfinite().all() for p in parameters.values())
    assert list(dict(program.named_parameters())) == list(parameters)
    assert not pyro.get_param_store()


def test_particles_are_draws_in_a_plate_to_the_left(program):
    structure = program.structure(SCHOOLS)
    with pyro.plate("_particles", 4, dim=-1 - structure.max_plate_nesting):
        trace = poutine.trace(program.guide).get_trace(SCHOOLS)
    for site in structure.latent:
        single = tuple(site.batch_shape) or (1,)
        assert trace.nodes[site.name]["value"].shape == (4, *single, *site.event_shape)
