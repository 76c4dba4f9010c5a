"""Fit: what it accepts, what it returns, and what it leaves on disk."""

import json
import warnings

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import NonFiniteError
from ppl_genmodels.guides import Amortized, AutoNormal
from ppl_genmodels.inference import Callback
from ppl_genmodels.models import VAE, EightSchools, LinearRegression

ROWS = 40
X = (torch.rand(ROWS, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def vae(seed=0):
    torch.manual_seed(seed)
    return VAE(data_dim=6, latent_dim=2, hidden=(5,))


def fit(program=None, data=X, **settings):
    settings = {"steps": 6, "batch_size": 16, "progress": False} | settings
    return ppl.fit(vae() if program is None else program, data, **settings)


SOURCES = {
    "array": X.numpy(),
    "double array": X.double().numpy(),
    "booleans": X.bool().numpy(),
    "frame": pd.DataFrame(X.numpy()),
    "dict": {"x": X},
    "tuple": (X,),
    "list": X.tolist(),
    "data set": TensorDataset(X),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_data_in_any_container_give_the_same_fit(name):
    expected, received = fit(data=X), fit(data=SOURCES[name])
    assert received.history["objective"].equals(expected.history["objective"])
    idata = received.infer(SOURCES[name], num_samples=4, seed=0)
    assert idata.posterior.equals(expected.infer(X, num_samples=4, seed=0).posterior)


def test_a_loader_is_taken_batch_by_batch():
    loader = DataLoader(TensorDataset(X), batch_size=16, shuffle=True)
    fitted = fit(data=loader, steps=None, epochs=2)
    assert len(fitted.history) == 6
    assert fitted.card["data"]["rows"] == ROWS
    assert fitted.infer(loader, num_samples=2, seed=0).posterior.sizes["data"] == ROWS
    again = fit(data=DataLoader(TensorDataset(X), batch_size=16, shuffle=True), steps=None, epochs=2)
    assert again.history["objective"].equals(fitted.history["objective"])


def test_held_out_data_may_be_given():
    fitted = fit(validation=X[:10], steps=3)
    assert fitted.history["validation"].notna().tolist() == [False, False, True]
    assert fit(validation=0.25, steps=3).card["data"]["rows"] == 30


def test_the_program_given_is_the_one_fitted():
    program = vae()
    before = [parameter.detach().clone() for parameter in program.parameters()]
    fitted = fit(program)
    assert fitted.program is program
    assert not any(torch.equal(a, b) for a, b in zip(before, program.parameters(), strict=True))
    assert not program.training


def test_fitting_again_goes_on_from_the_weights():
    program = vae()
    first, second = fit(program, steps=150), fit(program, steps=150)
    assert second.history["objective"][:20].mean() > first.history["objective"][:20].mean() + 0.1


PROGRAMS = {
    "own class": lambda: vae(),
    "pair": lambda: (vae().model, vae().guide),
    "amortized": lambda: (lambda model: (model, Amortized(model, nn.Linear(6, 4))))(vae().model),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_objective_rises(name):
    history = fit(PROGRAMS[name](), steps=150, optimizer=lambda p: torch.optim.Adam(p, lr=0.01)).history["objective"]
    assert history[-30:].mean() > history[:3].mean() + 0.2


def test_a_model_without_latents_is_fitted_by_maximum_likelihood():
    def model(x=None):
        loc = pyro.param("loc", torch.zeros(6))
        scale = pyro.param("scale", torch.ones(6), constraint=dist.constraints.positive)
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", dist.Normal(loc, scale).to_event(1), obs=x)

    fitted = fit(model, steps=150, batch_size=ROWS, optimizer=lambda p: torch.optim.Adam(p, lr=0.1))
    x = fitted.sample(20_000, seed=0)["x"]
    assert (x.mean(0) - X.mean(0)).abs().max() < 0.03
    assert (x.std(0) - X.std(0, correction=0)).abs().max() < 0.03


def test_global_latents_by_an_autoguide():
    """Mean field finds the exact mean of a normal posterior; half a posterior standard deviation is allowed."""
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(1))
    data = {"x": x, "y": x @ torch.tensor([2.0, -1.0]) + 0.5}
    program = LinearRegression(num_features=2, noise_scale=0.5)
    settings = {
        "batch_size": 30,
        "steps": 190,
        "num_particles": 20,
        "optimizer": lambda p: torch.optim.Adam(p, lr=0.05),
    }
    fitted = fit((program.model, AutoNormal(program.model)), data, **settings)
    design = torch.cat([torch.ones(30, 1), x], 1)
    covariance = torch.linalg.inv(design.T @ design / 0.5**2 + torch.eye(3))
    exact = covariance @ design.T @ data["y"] / 0.5**2
    posterior = fitted.infer(data, num_samples=500, seed=0).posterior
    means = [posterior[name].mean(("chain", "draw")).values.reshape(-1) for name in ("intercept", "slope")]
    assert np.abs((np.concatenate(means) - exact.numpy()) / covariance.diagonal().sqrt().numpy()).max() < 0.5


def test_missing_values_are_masked():
    holed = X.clone()
    holed[torch.rand(ROWS, 6, generator=torch.Generator().manual_seed(2)) < 0.3] = float("nan")
    fitted = fit(data=holed, steps=150, validation=holed[:5], optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    assert np.isfinite(fitted.history["objective"]).all()
    assert fitted.history["objective"][-30:].mean() > fitted.history["objective"][:30].mean() + 0.1
    assert fitted.card["data"]["missing"] == int(holed.isnan().sum())


def test_missing_values_may_be_in_the_held_out_data_alone():
    holed = X[:10].clone()
    holed[3, 2] = float("nan")
    assert np.isfinite(fit(validation=holed, steps=3).history["validation"].iloc[-1])


def test_the_card_records_the_run():
    card = fit(validation=0.25, num_particles=3, seed=7).card
    assert card["program"] == {
        "name": "vae",
        "catalogue": True,
        "options": vae().options,
        "parameters": sum(parameter.numel() for parameter in vae().parameters()),
    }
    assert card["objective"] == "E_q[log p(x|z)] - KL[q(z|x) || p(z)]"
    assert card["divergences"] == {"z": "closed form"}
    assert card["settings"]["seed"] == 7
    assert card["settings"]["num_particles"] == 3
    assert card["metrics"]["steps"] == 6
    assert card["metrics"]["validation"] is not None
    assert {"ppl_genmodels", "pyro", "torch"} <= card["versions"].keys()
    json.dumps(card)


def test_the_folder_holds_json_csv_and_safetensors_alone(tmp_path):
    fitted = fit(out=tmp_path / "run")
    files = sorted(str(path.relative_to(tmp_path / "run")) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "card.json",
        "checkpoints/000000006/state.json",
        "checkpoints/000000006/tensors.safetensors",
        "history.csv",
        "program.safetensors",
    ]
    assert json.loads((tmp_path / "run" / "card.json").read_text())["id"] == fitted.card["id"]
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 6


def test_no_warning_leaks(tmp_path):
    """A whole life of a run, every warning an error, those of Lightning and of Pyro among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit(validation=0.25, early_stopping=3, out=tmp_path)
        fit(validation=0.25, early_stopping=3, out=tmp_path, steps=9, resume=True)
        fitted.log_evidence(X[:3], 2)
        fitted.reconstruct(X[:3])
        fitted.sample(2)
        ppl.load(tmp_path)
        fit((EightSchools().model, AutoNormal(EightSchools().model)), EightSchools.data(), batch_size=8)


NOISE = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
EXPLOSION = 60


class Exploding(nn.Module):
    """Divides by one, and adds a root whose derivative at one is zero, until a callback makes the one a zero."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))
        self.register_buffer("divisor", torch.ones(()))
        self.register_buffer("inside", torch.ones(()))

    def model(self, x=None):
        root = ((self.loc - self.loc.detach()).abs() + self.inside).sqrt()
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + self.loc / self.divisor + root, 1.0).to_event(1), obs=x)

    def guide(self, x=None):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))


class Explosion(Callback):
    def __init__(self, where):
        self.where = where

    def after_step(self, training):
        if training.step == EXPLOSION and self.where is not None:
            getattr(training.program.source, self.where).zero_()


def explode(where, program, folder, **settings):
    return fit(program, NOISE, steps=100, batch_size=10, out=folder, callbacks=[Explosion(where)], **settings)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("divisor", r"step 60: the objective is not finite \(term log_lik\); first at site 'x' in the model"),
        ("inside", r"step 60: the objective is finite and its gradient is not, for parameters parts\.0\.loc"),
    ],
)
def test_a_run_that_explodes_keeps_what_it_had(where, message, tmp_path):
    program, calm = Exploding(), Exploding()
    with pytest.raises(NonFiniteError, match=rf"{message}.* The update was not made\. Remedy:") as caught:
        explode(where, program, tmp_path)
    fitted = caught.value.fitted
    assert fitted.card["metrics"]["steps"] == len(fitted.history) == EXPLOSION
    assert fitted.program is program
    expected = fit(calm, NOISE, steps=EXPLOSION, batch_size=10).program.loc
    assert torch.equal(program.loc, expected)
    getattr(program, where).fill_(1.0)
    assert fitted.log_evidence(torch.zeros(3, 2), 5).isfinite().all()
    fitted.save(tmp_path / "saved")
    assert torch.equal(ppl.load(tmp_path / "saved", program=Exploding()).program.loc, expected)


def test_after_an_explosion_the_last_good_checkpoint_goes_on(tmp_path):
    with pytest.raises(NonFiniteError):
        explode("divisor", Exploding(), tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000050"]
    resumed = explode(None, Exploding(), tmp_path, resume=True)
    whole = explode(None, Exploding(), None)
    assert torch.equal(resumed.program.loc, whole.program.loc)
    assert resumed.history["step"].tolist() == list(range(1, 101))


def test_an_objective_of_several_terms_is_fitted():
    objective = obj.log_lik() - obj.Linear(0.0, 1.0, steps=5) * obj.kl("z") + 0.1 * obj.entropy("z")
    fitted = fit(objective=objective)
    assert {"log_lik", "kl[z]", "entropy[z]"} <= set(fitted.history.columns)
    assert fitted.objective is objective
