"""Data that cannot be used: the message names the array, what it held, and what to do."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

import ppl_genmodels as ppl
from ppl_genmodels.errors import DataError, ProgramError
from ppl_genmodels.guides import AutoNormal
from ppl_genmodels.models import VAE, HierarchicalRegression, SplineFlow

NAN, ROWS = float("nan"), 300
X = (torch.rand(ROWS, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(6)


class Empty(Dataset):
    def __len__(self):
        return 0


def vae(**options):
    return VAE(**({"data_dim": 6, "latent_dim": 2, "hidden": (4,)} | options))


def fit(data, program=None, **settings):
    settings = {"steps": 2, "batch_size": 16, "progress": False} | settings
    return ppl.fit(vae() if program is None else program, data, **settings)


def refused(message, data, program=None, error=DataError, **settings):
    with pytest.raises(error, match=message) as caught:
        fit(data, program, **settings)
    assert "Remedy: " in str(caught.value)


UNUSABLE = {
    "empty": (np.zeros((0, 6)), r"data is empty: shape \(0, 6\)"),
    "no columns": (np.zeros((4, 0)), r"data is empty: shape \(4, 0\)"),
    "empty list": ([], r"data is empty: shape \(0,\)"),
    "a number": (3.0, r"data is the single number 3\.0, expected rows"),
    "a name": ("digits", r"data is 'digits', expected numbers.*ppl_genmodels\.data\.load"),
    "text": (np.array([["a", "b"]]), r"data has dtype <U1, expected numbers\. Remedy: encode text"),
    "objects": (pd.DataFrame({"a": [1.0], "b": ["x"]}), r"data has dtype object, expected numbers"),
    "complex": (np.ones((3, 6), dtype=complex), r"data has dtype complex128, expected numbers"),
    "complex tensor": (torch.ones(3, 6, dtype=torch.complex64), r"data has dtype torch\.complex64, expected numbers"),
    "dates": (np.array(["2020-01-01"], dtype="datetime64"), r"data has dtype datetime64\[D\], expected numbers"),
    "ragged": ([[1.0, 2.0], [3.0]], r"data is no array: .*Remedy: give rows of one length"),
    "no arrays": ({}, r"data holds no array"),
    "unequal": ({"x": X, "y": X[:3]}, r"different numbers of rows: x 300, y 3\. Remedy: give each array one row"),
    "unequal pair": ((X, X[:3]), r"different numbers of rows: data 300, data\[1\] 3"),
    "empty data set": (Empty(), r"a Empty without .* or an empty one, cannot be used"),
    "endless data set": (Endless(), r"a Endless without a length .* cannot be used"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_data_is_refused(name):
    data, message = UNUSABLE[name]
    refused(message, data)


def test_data_that_were_forgotten_are_asked_for():
    refused(r"VAE\.guide needs data: 'x' is None", None, error=ProgramError)
    refused(r"observes nothing \(it draws 'x'\) and there is no guide", None, SplineFlow(2), error=ProgramError)
    refused(r"x is None, expected numbers", {"x": None})


def test_the_same_is_said_of_held_out_data_and_of_new_data():
    refused(r"validation is empty: shape \(0, 6\)", X, validation=X[:0])
    with pytest.raises(DataError, match=r"data is empty: shape \(0, 6\)\. Remedy"):
        fit(X).infer(X[:0])


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_infinity_is_found_wherever_it_is(value, kind):
    spoiled = X.numpy().copy()
    spoiled[271, 4] = value
    refused(
        r"x is infinite at index \(271, 4\)\. Remedy: remove that row, or mark the value as missing",
        {"x": kind(spoiled)},
    )


def test_another_shape_than_the_program_takes():
    refused(r"'x' has shape \(\d, 5\), expected \(rows, 6\)", X[:, :5])
    refused(r"'x' has shape \(\d,\), expected \(rows, 6\)", X[:, 0])
    refused(r"'x' has shape \(\d, 2, 3\).*x\.reshape\(-1, 6\)", X.reshape(ROWS, 2, 3))


def test_another_shape_than_a_plain_function_takes():
    def model(x):
        with pyro.plate("data", len(x)):
            loc = x @ pyro.param("weight", torch.zeros(6, 2))
            pyro.sample("x", dist.Normal(loc.mean(-1), 1.0), obs=x[:, 0])

    refused(
        r"the model failed after site 'weight', run on argument 1 float32\(\d, 5\): .*shapes",
        X[:, :5],
        model,
        ProgramError,
    )


def test_integers_where_the_program_takes_reals():
    refused(
        r"'x' has dtype torch\.int64, expected the program's own, torch\.float32", X.long(), vae(likelihood="gaussian")
    )


def test_new_data_of_another_shape_or_dtype():
    fitted = fit(X)
    with pytest.raises(DataError, match=r"each row of data has shape \(5,\), .* rows of shape \(6,\)\. Remedy"):
        fitted.infer(X[:, :5])
    with pytest.raises(
        DataError, match=r"data has dtype int64, the program was fitted on float32\. Remedy: convert it"
    ):
        fitted.log_evidence(X.long())
    with pytest.raises(DataError, match=r"the data are 2 arrays, the fit's were 1\. Remedy"):
        fitted.reconstruct((X, X))


def test_held_out_data_of_another_shape_are_found_before_the_first_step():
    refused(r"the validation data cannot be used: .*'x' has shape \(\d, 5\)", X, validation=X[:9, :5])


OUTSIDE = {
    "pixel above one": (
        "bernoulli",
        lambda x: x.__setitem__((250, 3), 2.0),
        r"values run from 0 to 2\. Remedy: binarise",
    ),
    "pixel below zero": ("bernoulli", lambda x: x.__setitem__((250, 3), -1.0), r"values run from -1 to 1"),
    "grey pixel": ("bernoulli", lambda x: x.__setitem__((250, 3), 0.5), r"'x' has 1 values that BernoulliLikelihood"),
    "level too high": ("categorical", lambda x: x.__setitem__((250, 3), 4.0), r"give integers 0 to 3, or set levels"),
    "level between two": ("categorical", lambda x: x.__setitem__((250, 3), 1.5), r"CategoricalLikelihood cannot have"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_pixels_outside_the_support_are_found_in_any_row(name):
    """The row is far from the first batch; a fit that met it later would have begun in vain."""
    likelihood, spoil, message = OUTSIDE[name]
    spoiled = X.clone()
    spoil(spoiled)
    refused(message, spoiled, vae(likelihood=likelihood, levels=4))


@pytest.mark.parametrize("value", [-1, 4])
def test_labels_out_of_range_are_found_in_any_row(value):
    group = torch.arange(ROWS) % 4
    group[287] = value
    program = HierarchicalRegression(num_features=6, num_groups=4)
    data = {"x": X, "group": group, "y": X.sum(1)}
    refused(
        r"'group' has values from .* expected 0 to 3 \(num_groups=4\)", data, (program.model, AutoNormal(program.model))
    )


@pytest.mark.parametrize(
    ("likelihood", "value"),
    [
        (dist.Poisson, -1.0),
        (dist.Poisson, 0.5),
        (lambda rate: dist.Exponential(rate), -0.5),
        (lambda rate: dist.Beta(rate, rate), 1.5),
        (lambda rate: dist.Bernoulli(logits=rate), 0.5),
    ],
)
def test_values_outside_a_distributions_support_name_the_site(likelihood, value):
    def model(x):
        with pyro.plate("data", len(x)):
            rate = pyro.param("rate", torch.tensor(1.0), constraint=dist.constraints.positive)
            pyro.sample("count", likelihood(rate), obs=x)

    counts = torch.ones(ROWS)
    counts[222] = value
    refused(r"site 'count' cannot price its value: .* where its support is", counts, model, ProgramError)


def test_values_outside_the_support_in_held_out_data():
    spoiled = X[:100].clone()
    spoiled[77, 3] = 2.0
    refused(r"the validation data cannot be used: .*values run from 0 to 2", X, validation=spoiled)


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))

    def model(self, x, y=None):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * self.weight).sum(-1), 1.0), obs=y)


def test_nan_in_a_covariate_cannot_be_masked():
    holed = X.clone()
    holed[240, 2] = NAN
    message = r"the data have 1 NaN \(first in x at index \(240, 2\)\) and the program fails on them"
    refused(message, {"x": holed, "y": X.sum(1)}, Regression())
    fitted = fit({"x": X, "y": X.sum(1)}, Regression())
    with pytest.raises(DataError, match=message):
        fitted.infer({"x": holed, "y": X.sum(1)})


def test_nan_that_reaches_a_site_names_it():
    class Quiet(Regression):
        def model(self, x, y=None):
            with pyro.plate("data", len(x)):
                loc = (x * self.weight).sum(-1)
                pyro.sample("y", dist.Normal(loc, 1.0, validate_args=False), obs=y)

    holed = X.clone()
    holed[240, 2] = NAN
    refused(
        r"the data have 1 NaN .* and they reach site 'y', which is not an observation",
        {"x": holed, "y": X.sum(1)},
        Quiet(),
    )


def test_nan_in_a_multivariate_site_cannot_be_masked():
    def model(x):
        with pyro.plate("data", len(x)):
            loc = pyro.param("loc", torch.zeros(6))
            pyro.sample("x", dist.MultivariateNormal(loc, torch.eye(6)), obs=x)

    holed = X.clone()
    holed[240, 2] = NAN
    message = r"site 'x': single entries of MultivariateNormal are not independent and cannot be left out"
    with pytest.raises((DataError, ProgramError), match=message):
        fit(holed, model)


def test_labels_that_do_not_fit_the_rows():
    with pytest.raises(DataError, match=r"dim 'data' has length 300, got 2 labels"):
        fit(X).infer(X, num_samples=2, coords={"data": ["a", "b"]})
