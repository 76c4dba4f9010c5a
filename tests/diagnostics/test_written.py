"""A posterior that was written as it was made holds what the one in memory holds, variable by variable."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import as_program
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.diagnostics import to_inference_data
from ppl_genmodels.diagnostics.bridge import write_inference_data
from ppl_genmodels.guides import Amortized, AutoMultivariateNormal, AutoNormal
from ppl_genmodels.handlers import mask_missing
from ppl_genmodels.inference.posterior import fill_posterior, sample_posterior
from ppl_genmodels.models import VAE

X = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
MISSING = X.masked_fill(torch.arange(400).reshape(100, 4) % 7 == 0, torch.nan)


def shared_mean(x=None):
    """A global latent, one for each row, and truth values that follow from it."""
    mean = pyro.sample("mean", dist.Normal(torch.zeros(4), 1.0).to_event(1))
    with pyro.plate("data", 1 if x is None else len(x)):
        z = pyro.sample("z", dist.Normal(mean, 1.0).to_event(1))
        pyro.deterministic("positive", z > 0, event_dim=1)
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def mixture(x=None):
    """Whole numbers, in a plate that stands left of another."""
    with pyro.plate("data", 1 if x is None else len(x), dim=-2):
        z = pyro.sample("z", dist.Categorical(torch.ones(3) / 3))
        with pyro.plate("column", 4, dim=-1):
            pyro.sample("x", dist.Normal(z - 1.0, 1.0), obs=x)


def regression(x):
    weight = pyro.sample("weight", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal((x[:, 1:] * weight).sum(-1), 0.5), obs=x[:, 0])


def layer(x):
    """Does not broadcast over draws."""
    weight = pyro.sample("weight", dist.Normal(torch.zeros(1, 3), 1.0).to_event(2))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(nn.functional.linear(x[:, 1:], weight)[:, 0], 0.5), obs=x[:, 0])


def without_plate(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z.reshape(*z.shape, 1, 1), 1.0).expand([*z.shape, 100, 4]).to_event(2), obs=x)


def vae():
    return VAE(4, 2, hidden=(5,), likelihood="gaussian").eval()


def with_guide(model, guide):
    return lambda: (model, guide(model))


def amortized(model):
    return Amortized(model, nn.Linear(4, 5))


CASES = {
    "local": (vae, X),
    "missing": (lambda: mask_missing(vae()), MISSING),
    "global and local": (with_guide(shared_mean, amortized), X),
    "global": (with_guide(regression, AutoMultivariateNormal), X),
    "whole numbers": (with_guide(mixture, amortized), X),
    "one draw at a time": (with_guide(layer, AutoNormal), X),
    "parameters for each row": (with_guide(shared_mean, AutoNormal), X),
    "no plate": (with_guide(without_plate, AutoNormal), X),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("settings", [{}, {"chunk_size": 7, "predictive": True}])
def test_the_variables_are_those_in_memory(name, settings, tmp_path):
    make, data = CASES[name]
    torch.manual_seed(0)
    program, rows = as_program(make()), Rows.of(data)
    settings = {"num_samples": 30, "seed": 1, **settings}
    kept = to_inference_data(sample_posterior(program, rows, **settings))
    path = tmp_path / "posterior.nc"
    written = write_inference_data(path, lambda store: fill_posterior(store, program, rows, **settings))
    assert written.groups() == kept.groups()
    assert written.attrs == kept.attrs
    for group in kept.groups():
        expected, received = kept[group].drop_vars("data", errors="ignore"), written[group]
        assert received.equals(expected), group
        assert {n: v.dtype for n, v in received.items()} == {n: v.dtype for n, v in expected.items()}
        assert received.attrs.keys() == expected.attrs.keys()
    assert written.sample_stats["k_hat"].attrs == kept.sample_stats["k_hat"].attrs
    written.close()


def test_coordinates_are_written_when_they_are_given(tmp_path):
    program, labels = as_program(vae()), {"data": [f"r{i}" for i in range(100)], "z_dim_0": ["a", "b"]}
    written = write_inference_data(
        tmp_path / "posterior.nc", lambda store: fill_posterior(store, program, Rows.of(X), 3), labels
    )
    kept = to_inference_data(sample_posterior(program, Rows.of(X), 3), labels)
    for group in kept.groups():
        assert written[group].equals(kept[group])
    assert written.posterior["z"].sel(data="r7", z_dim_0="b").shape == (1, 3)
    written.close()


def test_rows_without_labels_are_selected_by_number(tmp_path):
    program = as_program(vae())
    with_rows = write_inference_data(
        tmp_path / "posterior.nc", lambda store: fill_posterior(store, program, Rows.of(X), 3)
    )
    assert "data" not in with_rows.posterior.coords
    assert with_rows.posterior["z"].sel(data=7).equals(with_rows.posterior["z"][:, :, 7])
    with_rows.close()
