"""What a program is: where its parameters live, its plates, and what its guide must be."""

import copy

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from torch import nn

from ppl_genmodels import Program, as_program
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import ProgramError
from ppl_genmodels.models import VAE, EightSchools

X = torch.arange(12.0).reshape(4, 3) % 2


def model(x=None):
    rows = 1 if x is None else len(x)
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", rows):
        z = pyro.sample("z", dist.Normal(mean, 1.0))
        with pyro.plate("inner", 3):
            pyro.sample("x", dist.Normal(z, 1.0), obs=None if x is None else x.T)


def guide(x=None):
    loc = pyro.param("loc", torch.zeros(()))
    scale = pyro.param("scale", torch.ones(()), constraint=dist.constraints.positive)
    pyro.sample("mean", dist.Normal(loc, scale))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.mean(1), 1.0))


def test_structure_names_plates_sites_and_what_is_local():
    structure = Program(model, guide).structure(X)
    assert [plate.name for plate in structure.plates] == ["data", "inner"]
    assert (structure.data_plate, structure.max_plate_nesting, structure.data_dim) == ("data", 2, -1)
    assert [(site.name, site.kind, site.plates) for site in structure.sites] == [
        ("mean", "latent", ()),
        ("z", "latent", ("data",)),
        ("x", "observed", ("inner", "data")),
    ]
    assert [structure.is_local(name) for name in ("mean", "z", "x")] == [False, True, True]


def test_the_data_plate_is_the_one_around_the_observation_not_the_first():
    def grouped(x):
        with pyro.plate("groups", 2):
            offset = pyro.sample("offset", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(offset[torch.arange(len(x)) % 2], 1.0), obs=x)

    structure = Program(grouped, AutoNormal(grouped)).structure(X[:, 0])
    assert structure.data_plate == "data"
    assert not structure.is_local("offset")


def test_parents_are_traced_through_the_model():
    structure = Program(model, guide).structure(X)
    assert {site.name: site.parents for site in structure.sites} == {"mean": (), "z": ("mean",), "x": ("z",)}


def test_what_leaves_the_tensors_may_enter_all_that_comes_after_it():
    """By way of numpy, of a Python number, and of a branch; not what is drawn before, and not what stays a tensor."""

    def leaving(x):
        early = pyro.sample("early", dist.Normal(0.0, 1.0))
        pyro.sample("before", dist.Normal(early, 1.0))
        away = torch.as_tensor(np.sin(early.detach().numpy()))
        pyro.sample("numpy", dist.Normal(away, 1.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        width = 1.0 if scale > 0.5 else float(scale)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(width, 1.0), obs=x[:, 0])

    sites = Program(leaving, AutoNormal(leaving)).structure(X).sites
    parents = {site.name: site.parents for site in sites}
    assert parents["before"] == parents["numpy"] == ("early",)
    assert parents["x"] == ("early", "scale")


def test_where_provenance_is_refused_all_sites_before_are_parents():
    def refusing(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            if type(z) is not torch.Tensor:
                raise TypeError("plain tensors only")
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    structure = Program(refusing, AutoNormal(refusing)).structure(X)
    assert structure.site("x").parents == ("z",)


def test_parents_are_traced_through_deterministic_sites():
    structure = Program(EightSchools().model).prior().structure()
    parents = {site.name: site.parents for site in structure.sites}
    assert parents == {"mu": (), "tau": (), "eta": (), "theta": ("mu", "tau", "eta"), "y": ("theta",)}


def test_a_notebook_shows_the_graph_with_its_plates():
    shown = as_program(VAE(data_dim=3, latent_dim=2))._repr_html_()
    assert shown.startswith("<svg")
    assert "data" in shown
    needs_data = Program(guide)._repr_html_()
    assert needs_data.startswith("<pre>")
    assert "object of type" in needs_data


def test_param_statements_become_parameters_of_the_program_and_the_global_store_stays_empty():
    pyro.clear_param_store()
    program = Program(model, guide)
    program.probe(X)
    assert sorted(name for name, _ in program.named_parameters()) == ["params.loc", "params.scale"]
    obj.elbo().loss(program, X, num_particles=3).backward()
    assert all(p.grad is not None for p in program.parameters())
    assert list(pyro.get_param_store()) == []


@pytest.mark.parametrize("make_guide", [AutoNormal, AutoMultivariateNormal])
def test_autoguides_keep_their_parameters_out_of_the_global_store(make_guide):
    pyro.clear_param_store()
    program = Program(model, make_guide(model))
    obj.elbo("monte_carlo").loss(program, X, num_particles=2).backward()
    assert len(list(program.parameters())) > 0
    assert all(p.grad is not None for p in program.parameters())
    assert list(pyro.get_param_store()) == []


def test_modules_that_plain_functions_refer_to_are_found():
    network = nn.Linear(3, 2)

    def with_network(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(network(x).sum(1), 1.0), obs=x.sum(1))

    assert {id(p) for p in Program(with_network).parameters()} == {id(p) for p in network.parameters()}


def test_methods_of_one_module_give_its_parameters_once():
    vae = VAE(data_dim=3, latent_dim=2)
    assert len(list(Program(vae.model, vae.guide).parameters())) == len(list(vae.parameters()))


def test_the_same_object_gives_the_same_program_and_survives_a_copy():
    vae = VAE(data_dim=3, latent_dim=2)
    assert as_program(vae) is as_program(vae)
    copied = copy.deepcopy(vae)
    assert as_program(copied) is not as_program(vae)
    next(copied.parameters()).data.zero_()
    assert not next(vae.parameters()).eq(0).all()
    assert set(vae.state_dict()) == set(copied.state_dict())


def test_probing_leaves_the_random_state_as_it_was():
    before = torch.get_rng_state()
    Program(model, guide).probe(X)
    assert torch.equal(before, torch.get_rng_state())


def test_the_prior_is_read_from_a_run_without_data():
    prior = Program(model, guide).prior()
    assert prior.structure().observed == ()
    assert prior.structure().plate("data").size == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda x: pyro.sample("mean", dist.Normal(0.0, 1.0)), r"the guide misses 'z'.*pyro.sample\(\"z\""),
        (lambda x: (guide(x), pyro.sample("w", dist.Normal(0.0, 1.0))), r"samples 'w', which the model has not"),
        (None, r"latent sites 'mean', 'z' and there is no guide.*Amortized"),
    ],
)
def test_a_guide_that_misses_or_adds_a_site_is_refused(bad, message):
    with pytest.raises(ProgramError, match=message):
        Program(model, bad).probe(X)


def test_a_misspelt_site_is_suggested():
    def misspelt(x):
        pyro.sample("meen", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(ProgramError, match="It samples 'meen': is that the same site"):
        Program(model, misspelt).probe(X)


def test_a_guide_of_another_shape_is_refused_with_both_shapes():
    def flat(x):
        pyro.sample("mean", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(ProgramError, match=r"site 'mean' has shape \(2,\) in the guide and \(\) in the model"):
        Program(model, flat).probe(X)


def test_a_site_that_does_not_fit_its_plate_is_named_with_the_plate():
    def wrong(x):
        with pyro.plate("data", 5):
            pyro.sample("x", dist.Normal(torch.zeros(4), 1.0), obs=x[:, 0])

    with pytest.raises(ProgramError, match=r"the model failed.*plate\('data'\).*site x"):
        Program(wrong).probe(X)


@pytest.mark.parametrize("bad", [3, "vae", VAE, (model, 3), (VAE, None)])
def test_what_is_no_program_is_refused(bad):
    with pytest.raises(ProgramError, match="Remedy"):
        as_program(bad)


def test_param_without_an_initial_value_is_refused():
    def empty(x):
        pyro.param("a/b")

    with pytest.raises(ProgramError, match="no initial value"):
        Program(empty).probe(X)
