"""Missing values: the masked likelihood is the likelihood of the observed entries alone."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers import MaskMissing, mask_missing
from ppl_genmodels.objectives import elbo, log_lik
from ppl_genmodels.program import Program

NAN = float("nan")
ROWS, COLUMNS = 4, 3
LOC = torch.linspace(-1, 1, COLUMNS)
HIDDEN = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1]]).bool()

LIKELIHOODS = {
    "normal": (lambda: dist.Normal(LOC, 2.0), torch.randn),
    "student": (lambda: dist.StudentT(3.0, LOC, 2.0), torch.randn),
    "log normal": (lambda: dist.LogNormal(LOC, 0.5), torch.rand),
    "gamma": (lambda: dist.Gamma(LOC.exp(), 2.0), torch.rand),
    "beta": (lambda: dist.Beta(LOC.exp(), 2.0), torch.rand),
    "bernoulli": (lambda: dist.Bernoulli(logits=LOC), lambda *shape: torch.rand(*shape).round()),
    "poisson": (lambda: dist.Poisson(LOC.exp()), lambda *shape: (4 * torch.rand(*shape)).round()),
    "categorical": (lambda: dist.Categorical(logits=torch.eye(3)), lambda *shape: (2 * torch.rand(*shape)).round()),
    "expanded": (lambda: dist.Normal(0.0, 1.0).expand([COLUMNS]), torch.randn),
    "masked already": (lambda: dist.Normal(LOC, 2.0).mask(torch.tensor([True, True, True])), torch.randn),
}


def data(draw):
    torch.manual_seed(0)
    x = draw(ROWS, COLUMNS)
    return x, torch.where(HIDDEN, torch.full_like(x, NAN), x)


def model_of(likelihood):
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", likelihood().to_event(1), obs=x)

    return model


def log_density(model, *args, **kwargs):
    trace = poutine.trace(model).get_trace(*args, **kwargs)
    trace.compute_log_prob()
    return trace.nodes["x"]["log_prob"]


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_density_is_that_of_the_observed_entries(name):
    likelihood, draw = LIKELIHOODS[name]
    x, holed = data(draw)
    entries = likelihood().expand([ROWS, COLUMNS]).log_prob(x)
    expected = torch.where(HIDDEN, torch.zeros_like(entries), entries).sum(-1)
    received = log_density(MaskMissing()(model_of(likelihood)), holed)
    torch.testing.assert_close(received, expected)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_nothing_missing_changes_nothing(name):
    likelihood, draw = LIKELIHOODS[name]
    x, _ = data(draw)
    masked = log_density(MaskMissing()(model_of(likelihood)), x)
    assert torch.equal(masked, log_density(model_of(likelihood), x))


@pytest.mark.parametrize("name", ["normal", "gamma", "beta", "poisson"])
def test_the_gradient_is_finite_and_that_of_the_observed_entries(name):
    likelihood, draw = LIKELIHOODS[name]
    x, holed = data(draw)
    shift = torch.zeros((), requires_grad=True)

    def shifted():
        base = likelihood()
        parameter = base.arg_constraints.keys() & {"loc", "concentration", "concentration1", "rate"}
        first = sorted(parameter)[0]
        rest = {"normal": {"scale": 2.0}, "gamma": {"rate": 2.0}, "beta": {"concentration0": 2.0}, "poisson": {}}
        return type(base)(**{first: getattr(base, first) + shift}, **rest[name])

    log_density(MaskMissing()(model_of(shifted)), holed).sum().backward()
    received, shift.grad = shift.grad, None
    entries = shifted().expand([ROWS, COLUMNS]).log_prob(x)
    entries[~HIDDEN].sum().backward()
    assert received.isfinite()
    torch.testing.assert_close(received, shift.grad)


def test_scalar_sites_are_masked_row_by_row():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    received = log_density(MaskMissing()(model), torch.tensor([1.0, NAN, 2.0]))
    torch.testing.assert_close(received, dist.Normal(0.0, 1.0).log_prob(torch.tensor([1.0, 0.0, 2.0])) * received.ne(0))
    assert received[1] == 0


def test_particles_stand_to_the_left():
    def model(x):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc.unsqueeze(-1), 1.0).expand([*loc.shape, 2]).to_event(1), obs=x)

    x = torch.tensor([[1.0, NAN], [NAN, NAN], [0.5, 2.0]])
    with pyro.plate("particles", 7, dim=-2):
        trace = poutine.trace(MaskMissing()(model)).get_trace(x)
    trace.compute_log_prob()
    loc = trace.nodes["loc"]["value"].reshape(7, 1)
    expected = torch.stack([dist.Normal(loc, 1.0).log_prob(row[~row.isnan()]).sum(-1) for row in x], -1)
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], expected)


def test_masking_twice_is_masking_once():
    _, holed = data(torch.randn)
    model = model_of(LIKELIHOODS["normal"][0])
    once, twice = MaskMissing()(model), MaskMissing()(MaskMissing()(model))
    assert torch.equal(log_density(twice, holed), log_density(once, holed))
    for masked in (once, twice):
        assert torch.equal(poutine.trace(masked).get_trace(holed).nodes["x"]["infer"]["missing"], HIDDEN)


def test_what_a_user_passes_to_a_site_is_not_written_to():
    given = {"is_auxiliary": False}

    def model(x):
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x, infer=given)

    poutine.trace(MaskMissing()(model)).get_trace(torch.tensor(NAN))
    assert given == {"is_auxiliary": False}


def test_only_selected_sites_are_masked():
    def model(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

    holed = torch.tensor([NAN, 1.0])
    trace = poutine.trace(MaskMissing("x")(model)).get_trace(holed, holed)
    assert trace.nodes["x"]["value"].isfinite().all()
    assert trace.nodes["y"]["value"] is holed


def test_latent_sites_and_factors_are_left_alone():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("prior", -z)
        pyro.deterministic("w", z * NAN)
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    trace = poutine.trace(MaskMissing()(model)).get_trace(torch.tensor(NAN))
    assert trace.nodes["w"]["value"].isnan()
    assert trace.log_prob_sum().isfinite()
    assert "missing" not in trace.nodes["z"]["infer"]


def test_integer_data_pass_as_they_are():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Categorical(logits=torch.zeros(3)), obs=x)

    x = torch.tensor([0, 2])
    assert poutine.trace(MaskMissing()(model)).get_trace(x).nodes["x"]["value"] is x


def multivariate(x):
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)), obs=x)


def test_entries_that_are_not_independent_are_refused():
    holed = torch.tensor([[0.0, NAN]])
    with pytest.raises(ProgramError, match=r"site 'x'.*MultivariateNormal are not independent.*Remedy: an independent"):
        log_density(MaskMissing()(multivariate), holed)


def test_entries_that_are_not_independent_pass_when_none_is_missing():
    x = torch.randn(3, 2)
    assert torch.equal(log_density(MaskMissing()(multivariate), x), log_density(multivariate, x))


class Encoded(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(COLUMNS, 1)
        self.seen = []

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), 1.0).expand([len(x), COLUMNS]).to_event(1), obs=x)

    def guide(self, x):
        self.seen.append(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x).squeeze(-1), 1.0))


@pytest.mark.parametrize("by_name", [False, True])
def test_a_programs_guide_sees_zeros_and_its_model_the_mask(by_name):
    source = Encoded()
    _, holed = data(torch.randn)
    program = mask_missing(source)
    assert isinstance(program, Program)
    args, kwargs = ((), {"x": holed}) if by_name else ((holed,), {})
    loss = elbo().loss(program, *args, **kwargs)
    loss.backward()
    assert loss.isfinite()
    assert torch.equal(source.seen[-1], torch.where(HIDDEN, torch.zeros_like(holed), holed))
    assert all(parameter.grad.isfinite().all() for parameter in source.parameters())


def test_a_row_without_any_value_has_no_likelihood():
    _, holed = data(torch.randn)
    values = log_lik().evaluate(mask_missing(Encoded()), holed)["log_lik"]
    assert values[3] == 0
    assert (values[:3] != 0).all()


def test_parameters_are_shared_with_the_program():
    source = Encoded()
    masked = mask_missing(source)
    assert {id(p) for p in masked.parameters()} == {id(p) for p in source.parameters()}
    assert masked.source is source
