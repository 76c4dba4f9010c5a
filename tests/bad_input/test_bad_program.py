"""Programs that cannot be fitted: the message names the site or the plate, and what to write instead."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import NonFiniteError, ProgramError, UnknownNameError
from ppl_genmodels.guides import AutoNormal

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


class Chain(nn.Module):
    """Two latent sites for each row, to be misspelt in tests."""

    def __init__(self, guide_sites=("scale", "latent"), guide_dim=3):
        super().__init__()
        self.linear = nn.Linear(3, guide_dim)
        self.guide_sites = guide_sites

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
            z = pyro.sample("latent", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, scale.unsqueeze(-1)).to_event(1), obs=x)

    def guide(self, x=None):
        with pyro.plate("data", len(x)):
            for name in self.guide_sites:
                if name == "scale":
                    pyro.sample(name, dist.LogNormal(x[..., 0], 1.0))
                else:
                    pyro.sample(name, dist.Normal(self.linear(x), 1.0).to_event(1))


def fit(program, data=X, **settings):
    settings = {"steps": 2, "batch_size": 16, "progress": False} | settings
    return ppl.fit(program, data, **settings)


def refused(message, program, error=ProgramError, **settings):
    with pytest.raises(error, match=message) as caught:
        fit(program, **settings)
    return str(caught.value)


def test_a_guide_that_misses_a_site():
    told = refused(r"the guide misses 'latent', latent in the model", Chain(("scale",)))
    assert 'Remedy: add pyro.sample("latent", ...) to the guide' in told


def test_a_guide_that_misspells_a_site():
    told = refused(r"the guide misses 'latent'", Chain(("scale", "latnt")))
    assert "It samples 'latnt': is that the same site?" in told


def test_a_guide_that_adds_a_site():
    told = refused(
        r"the guide samples 'extra', which the model has not as latent sites", Chain(("scale", "latent", "extra"))
    )
    assert "Remedy: remove it, rename it, or mark it with infer={'is_auxiliary': True}" in told


def test_a_guide_whose_site_has_another_shape():
    refused(r"site 'latent' has shape \(\d+, 2\) in the guide and \(\d+, 3\) in the model .*Remedy", Chain(guide_dim=2))


def test_latent_sites_and_no_guide():
    told = refused(r"the model has latent sites 'scale', 'latent' and there is no guide", Chain().model)
    assert "guides.Amortized" in told


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (lambda: obj.kl("latnt"), r"no site 'latnt' in kl\('latnt',?\)\. Did you mean 'latent'\?"),
        (lambda: obj.log_lik("X"), r"no site 'X' in log_lik\('X',?\).*Known: 'x'"),
        (lambda: obj.log_lik("latent"), r"no site 'latent' in log_lik"),
        (lambda: obj.entropy("scales"), r"no site 'scales' in entropy.*Did you mean 'scale'\?"),
        (lambda: obj.log_prob("y"), r"no site 'y' in log_prob.*Known: 'latent', 'scale', 'x'"),
    ],
)
def test_a_site_that_an_objective_names_and_the_program_has_not(objective, message):
    refused(message, Chain(), UnknownNameError, objective=obj.log_lik() - objective())


def with_parameter(body):
    def model(x=None):
        loc = pyro.param("loc", torch.zeros(()))
        body(x, loc)

    return model


def test_a_site_that_does_not_fit_its_plate():
    def body(x, loc):
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(loc.expand(len(x), 3), 1.0), obs=x)

    refused(
        r"Shape mismatch inside plate\('rows'\) at site x dim -1, \d+ vs 3.*Remedy: check the shapes",
        with_parameter(body),
    )


def test_a_plate_of_another_size_than_the_data():
    def body(x, loc):
        with pyro.plate("rows", 7):
            pyro.sample("x", dist.Normal(loc, 1.0).expand([3]).to_event(1), obs=x)

    refused(r"site 'x' is observed with shape \(\d+, 3\), expected \(7, 3\)", with_parameter(body))


def test_batch_dims_that_are_in_no_plate():
    def body(x, loc):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal((x * w).sum(-1) + loc, 1.0), obs=x[:, 0])

    model = with_parameter(body)

    def guide(x=None):
        pyro.sample("w", dist.Normal(torch.zeros(3), 1.0))

    told = refused(r"site 'w' has batch shape \(3,\), of which dim -1 \(size 3\) is in no plate", (model, guide))
    assert "Remedy: .to_event(1) where one draw has that shape" in told


def test_a_column_where_numbers_are_observed():
    """Broadcasting would make a square of it, and a wrong objective, without a word."""

    def body(y, loc):
        with pyro.plate("rows", len(y)):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    told = refused(
        r"site 'y' is observed with shape \(\d+, 1\), expected \(\d+,\)", with_parameter(body), data=X[:, :1]
    )
    assert "x.squeeze(-1) for a column" in told


def test_a_guide_with_parameters_for_each_row_in_batches():
    def model(x):
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    told = refused(
        r"the guide has parameters for each row of the data \(site 'z' lies inside the data plate 'rows'\)",
        (model, AutoNormal(model)),
    )
    assert "batches of 16 of the 40 rows" in told
    assert "Remedy: batch_size=40 without validation, or guides.Amortized(model, encoder)" in told
    refused(r"nor validation data", (model, AutoNormal(model)), batch_size=40, validation=0.5)
    fitted = fit((model, AutoNormal(model)), batch_size=40)
    with pytest.raises(ProgramError, match=r"draws site 'z\S*' for 40 rows and the data have 7\. Remedy"):
        fitted.infer(X[:7])


@pytest.mark.parametrize("program", [Chain, 3, "vae", (Chain().model, 3), (Chain().model, Chain)])
def test_what_is_no_program(program):
    assert "Remedy: pass" in refused(r"a program is an object with|must be a callable Pyro program", program)


def test_a_program_without_parameters():
    def model(x):
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1), obs=x)

    refused(r"the program has no parameters to train\. Remedy: make it an nn\.Module", model)


def test_a_model_that_takes_other_arguments():
    refused(r"unexpected keyword argument 'pixels'", Chain(), data={"pixels": X})


class Sharp(nn.Module):
    """Its scale, or its derivative, leaves the finite numbers."""

    def __init__(self, scale):
        super().__init__()
        self.loc, self.raw, self.scale = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(())), scale

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + self.loc, 1.0).to_event(1), obs=x)

    def guide(self, x=None):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, self.scale(self.raw)).to_event(1))


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (
            lambda raw: (raw + 1e3).exp(),
            r"step 0: the objective is not finite .*first at site 'z' in the guide: its value",
        ),
        (lambda raw: 1.0 + raw.abs().sqrt(), r"step 0: .* its gradient is not, for parameters parts\.0\.raw"),
    ],
)
def test_numbers_that_are_not_finite_name_the_site_or_the_parameter(scale, message):
    program = Sharp(scale)
    with pytest.raises(NonFiniteError, match=message) as caught:
        fit(program)
    assert "The update was not made. Remedy: a smaller learning rate" in str(caught.value)
    assert torch.equal(program.loc, torch.zeros(3))
    assert caught.value.fitted.card["metrics"]["steps"] == 0


def test_a_learning_rate_that_is_too_large():
    with pytest.raises(NonFiniteError, match=r"term .*log_lik.*first at site") as caught:
        fit(Chain(), steps=50, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e20))
    fitted = caught.value.fitted
    assert len(fitted.history) == fitted.card["metrics"]["steps"] < 50
    assert all(parameter.isfinite().all() for parameter in fitted.program.parameters())
