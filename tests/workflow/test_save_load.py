"""Save then load: the same numbers, for every kind of program, and no code is run from the folder."""

import json
import os
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels.errors import CheckpointError, RunFolderError
from ppl_genmodels.guides import Amortized, AutoLowRankMultivariateNormal, AutoMultivariateNormal, AutoNormal
from ppl_genmodels.models import (
    VAE,
    ConvVAE,
    EightSchools,
    HierarchicalRegression,
    LinearRegression,
)

ROWS = 12
GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.randn(ROWS, 6, generator=GENERATOR)
TABLE = {
    "x": torch.randn(ROWS, 3, generator=GENERATOR),
    "y": torch.randn(ROWS, generator=GENERATOR),
}
GROUPED = {**TABLE, "group": torch.arange(ROWS) % 4}


def with_guide(program, guide=AutoNormal, **options):
    return program.model, guide(program.model, **options)


def scales():
    """A model and a guide as plain functions, their parameters in pyro.param statements."""

    def model(x=None):
        noise = pyro.param("noise", torch.tensor(0.5), constraint=dist.constraints.positive)
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(6), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, noise).to_event(1), obs=x)

    def guide(x=None):
        weight = pyro.param("guide.weight", torch.full((6,), 0.3))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(weight * x, 0.5).to_event(1))

    return model, guide


class Hierarchy(nn.Module):
    """A global scale and local latents, for an amortized guide."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(2, 6)

    def model(self, x=None):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.3))
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), scale.unsqueeze(-1)).to_event(1))
            k = pyro.sample("k", dist.Categorical(logits=torch.zeros(3)))
            loc = self.decoder(z) + k.unsqueeze(-1)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)


def amortized():
    model = Hierarchy().model
    return model, Amortized(model, nn.Sequential(nn.Linear(6, 8), nn.Tanh()))


CATALOGUE = {
    "vae": lambda: (VAE(6, 2, hidden=(5, 4), likelihood="gaussian"), PIXELS),
    "vae, categorical": lambda: (
        VAE(6, 2, hidden=(), likelihood="categorical", levels=3),
        torch.arange(72).reshape(12, 6) % 3,
    ),
    "conv_vae": lambda: (ConvVAE((1, 2, 3), 2, channels=(3,), likelihood="gaussian"), PIXELS.reshape(ROWS, 1, 2, 3)),
}

OWN = {
    "linear regression": (lambda: with_guide(LinearRegression(3)), TABLE),
    "hierarchical regression": (lambda: with_guide(HierarchicalRegression(3, 4)), GROUPED),
    "eight schools": (lambda: with_guide(EightSchools(), AutoMultivariateNormal), EightSchools.data()),
    "low rank": (lambda: with_guide(LinearRegression(3), AutoLowRankMultivariateNormal, rank=2), TABLE),
    "plain functions": (scales, PIXELS),
    "amortized": (amortized, PIXELS),
}


def fit(program, data, **settings):
    torch.manual_seed(0)
    settings = {"steps": 4, "batch_size": ROWS, "progress": False} | settings
    return ppl.fit(program, data, **settings)


def assert_same(loaded, fitted, data):
    mine, theirs = (run.infer(data, num_samples=5, seed=3, predictive=True) for run in (loaded, fitted))
    for group in theirs.groups():
        assert mine[group].equals(theirs[group]), group
    assert torch.equal(loaded.log_evidence(data, 7, seed=1), fitted.log_evidence(data, 7, seed=1))
    for name, value in fitted.reconstruct(data).items():
        assert torch.equal(loaded.reconstruct(data)[name], value)
    assert loaded.history.equals(fitted.history)
    assert loaded.card == json.loads(json.dumps(fitted.card))
    assert str(loaded.objective) == str(fitted.objective)
    assert loaded.structure.data_plate == fitted.structure.data_plate


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_catalogue_program_is_built_again(name, tmp_path):
    program, data = CATALOGUE[name]()
    fitted = fit(program, data, validation=0.25)
    fitted.save(tmp_path)
    torch.manual_seed(99)
    loaded = ppl.load(tmp_path)
    assert type(loaded.program) is type(program)
    assert loaded.program.options == program.options
    assert_same(loaded, fitted, data)


@pytest.mark.parametrize("name", OWN)
def test_any_other_program_is_given_and_gets_its_weights(name, tmp_path):
    make, data = OWN[name]
    fitted = fit(make(), data)
    fitted.save(tmp_path)
    torch.manual_seed(99)
    assert_same(ppl.load(tmp_path, program=make()), fitted, data)


def test_a_fit_with_a_folder_is_saved(tmp_path):
    fitted = fit(VAE(6, 2, hidden=(5,), likelihood="gaussian"), PIXELS, out=tmp_path)
    assert_same(ppl.load(tmp_path), fitted, PIXELS)


def test_double_precision_comes_back(tmp_path):
    fitted = fit(VAE(6, 2, hidden=(5,), likelihood="gaussian"), PIXELS, precision="64-true")
    fitted.save(tmp_path)
    loaded = ppl.load(tmp_path)
    assert {parameter.dtype for parameter in loaded.program.parameters()} == {torch.float64}
    assert_same(loaded, fitted, PIXELS)


def test_saved_twice_is_the_newest(tmp_path):
    program = VAE(6, 2, hidden=(5,), likelihood="gaussian")
    fitted = fit(program, PIXELS)
    fitted.save(tmp_path)
    with torch.no_grad():
        program.likelihood.log_scale.fill_(-1.0)
    fitted.save(tmp_path)
    loaded = ppl.load(tmp_path)
    assert loaded.program.likelihood.log_scale == -1.0
    loaded.save(tmp_path)


def test_missing_values_after_loading(tmp_path):
    holed = PIXELS.clone()
    holed[3, 2] = float("nan")
    fitted = fit(VAE(6, 2, hidden=(5,), likelihood="gaussian"), holed)
    fitted.save(tmp_path)
    assert_same(ppl.load(tmp_path), fitted, holed)


def saved(folder, program=None, data=PIXELS):
    program = VAE(6, 2, hidden=(5,), likelihood="gaussian") if program is None else program
    fit(program, data).save(folder)
    return folder


def test_a_program_of_ones_own_must_be_given(tmp_path):
    saved(tmp_path, scales())
    with pytest.raises(CheckpointError, match=r"program of its own, model \+ guide, .*Remedy: load\(path, program="):
        ppl.load(tmp_path)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            lambda: VAE(6, 3, hidden=(5,), likelihood="gaussian"),
            r"parts\.0\.decoder\.\S+ has shape \(5, 2\) there and has shape \(5, 3\) here\. Remedy: build the",
        ),
        (
            lambda: VAE(6, 2, hidden=(5, 5), likelihood="gaussian"),
            r"parts\.0\.decoder\.layers\.2\.bias has shape \(6,\) there and has shape \(5,\) here",
        ),
        (
            lambda: VAE(5, 2, hidden=(5,), likelihood="gaussian"),
            r"does not fit the run in .*'x' has shape \(2, 6\)",
        ),
        (scales, r"belong to another program: params\.guide/weight is absent there and has shape \(6,\) here"),
    ],
)
def test_weights_of_another_architecture_are_refused(program, message, tmp_path):
    saved(tmp_path)
    given = program()
    with pytest.raises(CheckpointError, match=message):
        ppl.load(tmp_path, program=given)


def test_a_folder_of_another_run_is_not_written_over(tmp_path):
    saved(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = fit(VAE(6, 2, hidden=(5,), likelihood="gaussian"), PIXELS)
    with pytest.raises(RunFolderError, match=r"holds another run\. Remedy: save into another folder"):
        other.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    fitted = fit(VAE(6, 2, likelihood="gaussian"), PIXELS)
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunFolderError, match=r"could not write .*file.*Remedy"):
            fitted.save(path)


DAMAGES = [
    ("card.json", lambda path: path.unlink(), r"holds no run: there is no card\.json\. Remedy: give the folder"),
    ("card.json", lambda path: path.write_text('{"program": '), r"card\.json cannot be read: .*Remedy"),
    ("card.json", lambda path: path.write_text("[1, 2]"), r"card\.json is not the card of a run: it has no 'program'"),
    ("card.json", lambda path: path.write_text('{"program": {}}'), r"it has no 'inputs'\. Remedy: restore the file"),
    ("program.safetensors", lambda path: path.unlink(), r"program\.safetensors cannot be read: .*Remedy"),
    (
        "program.safetensors",
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        r"program\.safetensors cannot be read",
    ),
    ("history.csv", lambda path: path.unlink(), r"history\.csv cannot be read: .*Remedy"),
    ("history.csv", lambda path: path.write_text("a,b\n1,x\n"), r"history\.csv cannot be read"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES)
def test_a_damaged_run_is_refused_by_the_name_of_its_file(name, damage, message, tmp_path):
    damage(saved(tmp_path) / name)
    with pytest.raises(CheckpointError, match=message):
        ppl.load(tmp_path)


def test_an_option_that_the_catalogue_has_no_more_is_named(tmp_path):
    card = json.loads((saved(tmp_path) / "card.json").read_text())
    card["program"]["options"]["colour"] = "red"
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"cannot be built again.*no option 'colour' of program 'vae'.*Remedy"):
        ppl.load(tmp_path)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    folder = saved(tmp_path / "run")
    for name in ("program.pt", "card.pkl", "history.pkl"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    ppl.load(folder)
    assert not (tmp_path / "sprung").exists()


def test_the_global_random_state_is_left_by_loading_a_given_program(tmp_path):
    saved(tmp_path, scales())
    program = scales()
    before = torch.get_rng_state()
    ppl.load(tmp_path, program=program)
    assert torch.equal(torch.get_rng_state(), before)
