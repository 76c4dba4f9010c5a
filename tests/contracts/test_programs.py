"""Laws that every program of the catalogue obeys."""

import inspect
import json
from dataclasses import dataclass

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels.errors import OptionError, UnknownNameError
from ppl_genmodels.models import EightSchools, catalogue
from ppl_genmodels.probe import probe_model
from ppl_genmodels.program import Program
from ppl_genmodels.structure import is_deterministic, sample_sites

PARTICLES = 7


@dataclass(frozen=True)
class Example:
    """Options, data that go with them, and the sites to be found, with their plates."""

    options: dict[str, object]
    data: dict[str, Tensor]
    sites: dict[str, tuple[str, ...]]

    def cast(self, dtype: torch.dtype) -> dict[str, Tensor]:
        return {k: v.to(dtype) if v.is_floating_point() else v for k, v in self.data.items()}


def _regression(rows=9):
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(rows, 3, generator=generator),
        "y": torch.randn(rows, generator=generator),
    }


def _grey_images(levels, rows=5):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(levels, (rows, 1, 4, 4), generator=generator) / (levels - 1)


_AUTOENCODER_SITES = {"z": ("data",), "x": ("data",)}
_GROUPS = torch.arange(9) % 4

EXAMPLES = {
    "vae": Example({"data_dim": 6, "latent_dim": 2}, {"x": torch.eye(5, 6)}, _AUTOENCODER_SITES),
    "conv_vae": Example(
        {"image_shape": (1, 5, 4), "latent_dim": 2, "channels": (3, 4), "likelihood": "gaussian"},
        {"x": torch.linspace(0, 1, 100).reshape(5, 1, 5, 4)},
        _AUTOENCODER_SITES,
    ),
    "glow": Example(
        {"image_shape": (1, 4, 4), "levels": 4, "depth": 1, "hidden": 4},
        {"x": _grey_images(levels=4)},
        {"v": ("data",), "x": ("data",)},
    ),
    "real_nvp": Example(
        {"image_shape": (1, 4, 4), "levels": 4, "depth": 1, "hidden": 4, "dequantization": "variational"},
        {"x": _grey_images(levels=4)},
        {"v": ("data",), "x": ("data",)},
    ),
    "continuous_flow": Example(
        {"data_dim": 3, "hidden": (8,), "solver": "midpoint", "steps": 2}, {"x": _regression()["x"]}, {"x": ("data",)}
    ),
    "diffusion": Example(
        {
            "event_shape": (3,),
            "width": 8,
            "blocks": 1,
            "solver": "midpoint",
            "steps": 2,
            "data_scale": float(_regression()["x"].numpy().std()),
        },
        {"x": _regression()["x"]},
        {"x": ("data",)},
    ),
    "conditional_diffusion": Example(
        {
            "event_shape": (3,),
            "width": 8,
            "blocks": 1,
            "classes": 3,
            "solver": "midpoint",
            "steps": 2,
            "data_scale": float(_regression()["x"].numpy().std()),
        },
        {"x": _regression()["x"], "y": torch.arange(9) % 3},
        {"y": ("data",), "x": ("data",)},
    ),
    "image_diffusion": Example(
        {
            "image_shape": (1, 4, 4),
            "levels": 4,
            "width": 8,
            "scales": 1,
            "solver": "midpoint",
            "steps": 2,
            "data_scale": 2 * float(_grey_images(levels=4).numpy().std()),
        },
        {"x": _grey_images(levels=4)},
        {"v": ("data",), "x": ("data",)},
    ),
    "binomial_diffusion": Example(
        {"event_shape": (4,), "width": 8, "blocks": 1, "steps": 3},
        {"x": torch.eye(5, 4)},
        {"z_3": ("data",), "z_2": ("data",), "z_1": ("data",), "x": ("data",)},
    ),
    "gan": Example(
        {"event_shape": (3,), "latent_dim": 2, "hidden": (8,), "classes": 3},
        {"x": _regression()["x"], "y": torch.arange(9) % 3},
        {"y": ("data",), "z": ("data",), "x": ("data",)},
    ),
    "adversarial_autoencoder": Example(
        {"event_shape": (1, 5, 4), "latent_dim": 2, "hidden": (8,), "channels": (3, 4), "likelihood": "gaussian"},
        {"x": torch.linspace(0, 1, 100).reshape(5, 1, 5, 4)},
        _AUTOENCODER_SITES,
    ),
    "bigan": Example(
        {"event_shape": (6,), "latent_dim": 2, "hidden": (8,), "bounded": True},
        {"x": torch.eye(5, 6)},
        _AUTOENCODER_SITES,
    ),
    "info_gan": Example(
        {"event_shape": (3,), "categories": 3, "continuous": 2, "latent_dim": 2, "hidden": (8,)},
        {"x": _regression()["x"]},
        {"c": ("data",), "u": ("data",), "z": ("data",), "x": ("data",)},
    ),
    "symbol_gan": Example(
        {"length": 6, "symbols": 4, "latent_dim": 2, "width": 4, "blocks": 1, "kernel": 3},
        {"x": torch.arange(30).reshape(5, 6) % 4},
        {"z": ("data",), "v": ("data",), "x": ("data",)},
    ),
    "vae_gan": Example(
        {"event_shape": (6,), "latent_dim": 2, "hidden": (8,), "bounded": True},
        {"x": torch.eye(5, 6)},
        _AUTOENCODER_SITES,
    ),
    "cycle_gan": Example(
        {"x_dim": 3, "y_dim": 2, "hidden": (8,)},
        {"x": _regression()["x"], "y": _regression()["x"][:, :2].cos()},
        {"x": ("data",), "y": ("data",), "x_cycle": ("data",), "y_cycle": ("data",)},
    ),
    "energy_model": Example({"data_dim": 3, "hidden": (8,), "steps": 2}, {"x": _regression()["x"]}, {"x": ("data",)}),
    "walkback": Example(
        {"data_dim": 3, "hidden": (8,), "steps": 2, "data_scale": float(torch.eye(5, 3).numpy().std())},
        {"x": torch.eye(5, 3)},
        {"s_2": ("data",), "s_1": ("data",), "x": ("data",)},
    ),
    "spline_flow": Example({"data_dim": 3, "layers": 1, "hidden": (8,)}, {"x": _regression()["x"]}, {"x": ("data",)}),
    "flow_regression": Example({"num_features": 3, "layers": 1, "hidden": (8,)}, _regression(), {"y": ("data",)}),
    "linear_regression": Example({"num_features": 3}, _regression(), {"intercept": (), "slope": (), "y": ("data",)}),
    "hierarchical_regression": Example(
        {"num_features": 3, "num_groups": 4},
        {**_regression(), "group": _GROUPS},
        {
            "intercept_mean": (),
            "intercept_scale": (),
            "slope": (),
            "noise_scale": (),
            "intercept_offset": ("groups",),
            "intercept": ("groups",),
            "y": ("data",),
        },
    ),
    "eight_schools": Example(
        {},
        EightSchools.data(),
        {"mu": (), "tau": (), "eta": ("schools",), "theta": ("schools",), "y": ("schools",)},
    ),
}


GUIDED = [name for name in catalogue.names() if hasattr(catalogue.entry(name), "guide")]


def roles(program):
    """The program's model and, where it has one, its guide."""
    return [getattr(program, role) for role in ("model", "guide") if hasattr(program, role)]


def traces(program, data):
    """Of the guide, where the program has one, and of the model at its draws."""
    guide = [poutine.trace(program.guide).get_trace(**data)] if hasattr(program, "guide") else []
    model = poutine.replay(program.model, trace=guide[0]) if guide else program.model
    return [*guide, poutine.trace(model).get_trace(**data)]


@pytest.fixture(params=sorted(catalogue.names()))
def name(request):
    return request.param


@pytest.fixture
def example(name):
    return EXAMPLES[name]


@pytest.fixture
def program(name, example):
    torch.manual_seed(0)
    return catalogue.build(name, **example.options)


def test_every_program_has_an_example_here():
    assert set(EXAMPLES) == set(catalogue.names())


def test_sites_and_plates_keep_their_names(program, example):
    structure = probe_model(program.model, (), example.data)
    assert {site.name: site.plates for site in structure.sites} == example.sites
    assert all(plate.dim == -1 for plate in structure.plates)


@pytest.mark.parametrize("name", GUIDED)
def test_the_guide_samples_the_latent_sites(program, example):
    structure = Program(program.model, program.guide).structure(**example.data)
    assert structure.latent


def test_it_runs_without_the_data_that_are_optional(program, example):
    parameters = inspect.signature(program.model).parameters.values()
    required = {p.name: example.data[p.name] for p in parameters if p.default is p.empty}
    trace = poutine.trace(program.model).get_trace(**required)
    assert all(trace.nodes[site]["value"].isfinite().all() for site in example.sites)
    nodes = sample_sites(trace).values()
    assert not any(node["is_observed"] and not is_deterministic(node) for node in nodes)


def test_log_densities_are_finite_at_every_site(program, example):
    for trace in traces(program, example.data):
        trace.compute_log_prob()
        assert all(node["log_prob"].isfinite().all() for node in sample_sites(trace).values())


def test_a_plate_of_particles_stands_to_the_left(program, example):
    """Every latent has one draw per particle; a particle's density is that of a run alone."""
    plate = pyro.plate("_particles", PARTICLES, dim=-2)
    trace = poutine.trace(plate(program.model)).get_trace(**example.data)
    trace.compute_log_prob()
    nodes = {n: v for n, v in sample_sites(trace).items() if not is_deterministic(v)}
    latent = {n: v["value"] for n, v in nodes.items() if not v["is_observed"]}
    assert all(len(value.unique(dim=0)) == PARTICLES for value in latent.values())
    alone = poutine.trace(program.model).get_trace(**example.data).nodes
    for i in range(PARTICLES):
        values = {n: value[i].reshape(alone[n]["value"].shape) for n, value in latent.items()}
        single = poutine.trace(poutine.condition(program.model, data=values))
        expected = single.get_trace(**example.data).log_prob_sum()
        together = sum(node["log_prob"][i].sum() for node in nodes.values())
        torch.testing.assert_close(together, expected)


@pytest.mark.parametrize("name", GUIDED)
def test_the_guide_runs_under_particles(program, example):
    plate = pyro.plate("_particles", PARTICLES, dim=-2)
    guide = poutine.trace(plate(program.guide)).get_trace(**example.data)
    model = poutine.trace(poutine.replay(plate(program.model), trace=guide))
    trace = model.get_trace(**example.data)
    trace.compute_log_prob()
    assert trace.nodes["x"]["log_prob"].shape == (PARTICLES, 5)


@pytest.mark.parametrize("particles", [1, PARTICLES])
def test_it_computes_in_double_precision(program, example, particles):
    program.to(torch.float64)
    for role in roles(program):
        role = pyro.plate("_particles", particles, dim=-2)(role)
        trace = poutine.trace(role).get_trace(**example.cast(torch.float64))
        trace.compute_log_prob()
        for node in sample_sites(trace).values():
            assert node["value"].dtype is torch.float64 or not node["value"].is_floating_point()
            assert is_deterministic(node) or node["log_prob"].dtype is torch.float64


def test_it_traces_into_one_graph(program, example):
    """The traced log-density, on other data and another seed, is the eager one."""
    names = list(example.data)

    def log_density(*values):
        data = dict(zip(names, values, strict=True))
        return sum(trace.log_prob_sum() for trace in traces(program, data))

    with pyro.validation_enabled(False):
        graph = make_fx(log_density)(*example.data.values())
    other = [v.flip(0) for v in example.data.values()]
    torch.manual_seed(1)
    expected = log_density(*other)
    torch.manual_seed(1)
    torch.testing.assert_close(graph(*other), expected)


def test_it_is_rebuilt_from_its_options(name, program, example):
    assert program.catalogue_name == name
    assert set(program.options) == set(catalogue.options(name))
    assert example.options.items() <= program.options.items()
    rebuilt = catalogue.build(name, **json.loads(json.dumps(program.options)))
    assert rebuilt.options == program.options
    rebuilt.load_state_dict(program.state_dict())
    log_density = []
    for one in (program, rebuilt):
        torch.manual_seed(2)
        log_density.append(traces(one, example.data)[-1].log_prob_sum())
    assert log_density[0] == log_density[1]


def test_options_are_read_off_data(name, program, example):
    arrays = {key: value.numpy() for key, value in example.data.items()}
    found = catalogue.entry(name).options_for(arrays)
    assert found.keys() <= catalogue.options(name).keys()
    assert found.items() <= program.options.items()
    json.dumps(found)


def test_its_summary_is_one_sentence(name):
    assert catalogue.summary(name).endswith(".")
    assert len(catalogue.summary(name)) < 90


def test_bad_options_are_refused_by_name(name, example):
    with pytest.raises(UnknownNameError, match=f"no option 'colour' of program '{name}'"):
        catalogue.build(name, **example.options, colour="red")
    for option, value in example.options.items():
        if isinstance(value, int) and not isinstance(value, bool):
            with pytest.raises(OptionError, match=f"{option}=0, expected a positive integer"):
                catalogue.build(name, **(example.options | {option: 0}))
        without = {k: v for k, v in example.options.items() if k != option}
        if catalogue.options(name)[option] is catalogue.REQUIRED:
            with pytest.raises(OptionError, match=f"needs {option}"):
                catalogue.build(name, **without)


def test_every_site_follows_the_device_of_the_module(program, example):
    program.to("meta")
    data = {key: value.to("meta") for key, value in example.data.items()}
    with pyro.validation_enabled(False):
        for role in roles(program):
            nodes = sample_sites(poutine.trace(role).get_trace(**data)).values()
            assert all(node["value"].is_meta for node in nodes)
