"""Gradient estimators measured on programs whose exact gradient is known by enumeration.

A verdict of bias has a chance of 0.001 for all unbiased estimators of a table together, so that no tolerance is set
here: the seeds are fixed, and what was planted has a bias of the size of the gradient.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from ppl_genmodels import diagnostics, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.diagnostics.enumeration import enumerated_gradient
from ppl_genmodels.diagnostics.gradient_noise import Noise, bias_of, exact
from ppl_genmodels.errors import DataError, OptionError, ProgramError, UnknownNameError
from ppl_genmodels.handlers.site_handler import applied
from ppl_genmodels.program import as_program

ROWS = 4
X = torch.tensor([[0.3, -1.0], [1.2, 0.4], [-0.5, 2.0], [0.9, 0.1]])


class Bits(nn.Module):
    """Two sites of bits, the second drawn given the first; the likelihood is not linear in them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(2, 2))
        self.weight = nn.Parameter(torch.randn(2, 2))

    def guide(self, x):
        with pyro.plate("data", len(x)):
            first = pyro.sample("first", dist.Bernoulli(logits=self.first.expand(len(x), 2)).to_event(1))
            pyro.sample("second", dist.Bernoulli(logits=first @ self.second).to_event(1))

    def model(self, x):
        with pyro.plate("data", len(x)):
            half = dist.Bernoulli(x.new_tensor(0.5)).expand([len(x), 2]).to_event(1)
            first, second = pyro.sample("first", half), pyro.sample("second", half)
            mean = (first + second).square() @ self.weight
            pyro.sample("x", dist.Normal(mean, 0.7).to_event(1), obs=x)


class Label(nn.Module):
    """One class for each datum."""

    def __init__(self):
        super().__init__()
        self.logits, self.means = nn.Parameter(torch.randn(ROWS, 3)), nn.Parameter(torch.randn(3, 2))

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Categorical(logits=self.logits))

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
            pyro.sample("x", dist.Normal(self.means[k], 1.0).to_event(1), obs=x)


class Doubled(handlers.ScoreFunction):
    """A planted mistake."""

    def surrogate(self, site):
        return 2 * super().surrogate(site)


class Without(handlers.Estimator):
    """A planted mistake: what the draw does not let through is left out."""


UNBIASED = {
    "score": lambda: handlers.ScoreFunction(baseline="none"),
    "score, leave one out": handlers.ScoreFunction,
    "local expectation": handlers.LocalExpectation,
    "RAM": handlers.ReparameterizeAndMarginalize,
}
PLANTED = {"doubled": Doubled, "without": Without}


def compared(program, **options):
    estimators = {name: make() for name, make in (UNBIASED | PLANTED).items()}
    return diagnostics.gradients(program, X, **{"estimators": estimators, **options})


@pytest.fixture(scope="module")
def of_bits():
    torch.manual_seed(1)
    return compared(Bits())


@pytest.fixture(scope="module")
def of_label():
    torch.manual_seed(1)
    return compared(Label(), num_calls=50)


def at(found, site):
    return found.table[found.table["site"] == site].set_index("estimator")


@pytest.mark.parametrize("site", ["first", "second"])
def test_planted_estimators_are_called_biased_and_unbiased_ones_are_not(of_bits, site):
    verdicts = at(of_bits, site)["verdict"]
    assert all(verdicts[name] == "biased" for name in PLANTED)
    assert not any(verdicts[name] == "biased" for name in UNBIASED)
    assert of_bits.references[site] == "enumeration"


def test_the_length_of_a_bias_is_the_exact_one(of_label):
    """Without a surrogate the guide gets the gradient of its divergence alone, which holds no noise."""
    torch.manual_seed(1)
    program = Label()
    parameters = [program.logits]
    whole, divergence = (
        enumerated_gradient(as_program(program), objective, (X,), {}, parameters)[0]
        for objective in (obj.elbo(), -obj.kl())
    )
    bias = at(of_label, "k").loc["without", "bias"]
    assert bias == pytest.approx((divergence - whole).norm().item(), rel=1e-4)
    assert of_label.gradient_length["k"] == pytest.approx(whole.norm().item(), rel=1e-4)


@pytest.mark.parametrize("site", ["first", "second"])
def test_variances_are_ordered_as_published(of_bits, site):
    """Tokui and Sato (2017): score function, then with a baseline, then local expectation, then RAM.

    Draws are the same for all. Local expectation and RAM are the same estimator at the last site; at the first they
    may differ by what sampling leaves, two standard errors.
    """
    table = at(of_bits, site)
    variances = table["variance"][list(UNBIASED)].tolist()
    assert variances[0] > variances[1] > variances[2]
    assert variances[2] >= variances[3] - (2 * table.loc["RAM", "variance_error"] if site == "first" else 1e-3)


def test_what_is_exact_has_no_variance_and_is_called_unbiased(of_label):
    for name in ("local expectation", "RAM"):
        row = at(of_label, "k").loc[name]
        assert row["variance"] < 1e-10
        assert row["verdict"] == "unbiased"
    assert "leaves no variance" in of_label.recommendation


@pytest.mark.parametrize("site", ["first", "second"])
def test_the_least_variance_times_time_without_bias_is_recommended(of_bits, site):
    table = at(of_bits, site)
    assert (table["variance_time"] - table["variance"] * table["time"]).abs().max() < 1e-12
    assert table["time"].min() == 1.0
    best = table.loc[list(UNBIASED), "variance_time"].idxmin()
    assert table.index[table["recommended"]].tolist() == [best]
    assert f"{site}: {best}, with the least variance times time" in of_bits.recommendation


@pytest.fixture(scope="module")
def of_library():
    torch.manual_seed(1)
    return diagnostics.gradients(Bits(), X, sites=["second"], num_calls=20)


def test_a_biased_estimator_of_the_library_is_never_recommended_and_never_called_unbiased(of_library):
    table = at(of_library, "second")
    declared = table[table["declared"]]
    assert {"GumbelSoftmax", "StraightThrough"} <= set(declared.index)
    assert not declared["recommended"].any()
    assert not (declared["verdict"] == "unbiased").any()


def test_every_estimator_that_serves_is_compared_and_one_that_cannot_is_left_out_with_the_reason(of_library):
    compared = set(of_library.table["estimator"])
    assert {"ScoreFunction(none)", "ScoreFunction(leave_one_out)", "LocalExpectation"} <= compared
    assert "one element for each datum" in of_library.left_out["second", "Marginalize"]
    assert set(of_library.table["site"]) == {"second"}


def test_a_notebook_shows_table_recommendation_and_what_was_left_out(of_library):
    page = of_library._repr_html_()
    assert "ScoreFunction(leave_one_out)" in page
    assert of_library.recommendation in page
    assert "Left out: " in page
    assert "recommended" not in str(of_library)


class Mixed(nn.Module):
    """A bit, which the data tell much about, and a real number for each datum: no enumeration."""

    def __init__(self):
        super().__init__()
        self.bit, self.loc, self.log_scale = (nn.Parameter(torch.randn(())) for _ in range(3))

    def guide(self, x):
        with pyro.plate("data", len(x)):
            bit = pyro.sample("bit", dist.Bernoulli(logits=self.bit))
            pyro.sample("z", dist.Normal(self.loc + bit, self.log_scale.exp()))

    def model(self, x):
        with pyro.plate("data", len(x)):
            bit = pyro.sample("bit", dist.Bernoulli(x.new_tensor(0.5)))
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(torch.stack([z, 3 * bit], -1), 0.5).to_event(1), obs=x)


def test_without_enumeration_a_long_run_is_the_reference():
    torch.manual_seed(0)
    given = {"loo": handlers.ScoreFunction(), "RAM": handlers.ReparameterizeAndMarginalize(), "wrong": Without("bit")}
    found = diagnostics.gradients(Mixed(), X, sites="bit", estimators=given, num_calls=50)
    assert found.references["bit"].startswith("200 calls of ")
    verdicts = at(found, "bit")["verdict"]
    assert verdicts["wrong"] == "biased"
    assert "biased" not in verdicts[["loo", "RAM"]].tolist()
    pathwise = diagnostics.gradients(Mixed(), X, sites="z", estimators={"path": None}, num_calls=20)
    assert pathwise.references["z"] == "80 calls of pathwise"


@pytest.mark.parametrize("noisy_reference", [False, True])
def test_unbiased_noise_is_called_biased_as_rarely_as_is_said(noisy_reference):
    """Chances of 200 independent trials in 40 coordinates: below 0.05 in 10 or fewer, standard deviation 3.1."""
    torch.manual_seed(0)
    chances = []
    for _ in range(200):
        ways = []
        for _ in range(2):
            noise = Noise(50, torch.zeros(40))
            for draw in torch.randn(50, 40) * torch.linspace(0.1, 3.0, 40) + 1.0:
                noise.add(draw, 0.0)
            ways.append(noise)
        reference = ways[1].groups() if noisy_reference else exact(torch.ones(40))
        chances.append(bias_of(ways[0], reference).chance)
    assert sum(chance < 0.05 for chance in chances) < 10 + 4 * 3.1


class Noted(handlers.ScoreFunction):
    """Writes down which sites it serves; copies write to the same list."""

    served: list = []  # noqa: RUF012

    def surrogate(self, site):
        self.served.append(site.name)
        return super().surrogate(site)


def test_other_sites_keep_the_programs_own_estimators():
    """Whether they are named by a handler or at the site; the one that is varied has the other estimator alone."""

    class Named(Bits):
        def guide(self, x):
            with pyro.plate("data", len(x)):
                first = pyro.sample(
                    "first",
                    dist.Bernoulli(logits=self.first.expand(len(x), 2)).to_event(1),
                    infer={"gradient": Noted()},
                )
                pyro.sample("second", dist.Bernoulli(logits=first @ self.second).to_event(1))

    for program in (Named(), applied(Noted("first"), Bits())):
        Noted.served.clear()
        diagnostics.gradients(program, X, sites="second", estimators={"RAM": handlers.LocalExpectation()}, num_calls=20)
        assert set(Noted.served) == {"first"}
        Noted.served.clear()
        diagnostics.gradients(program, X, sites="first", estimators={"RAM": handlers.LocalExpectation()}, num_calls=20)
        assert not Noted.served


def test_a_biased_estimator_elsewhere_is_in_the_reference_too():
    program = handlers.straight_through(Bits(), sites="second")
    found = diagnostics.gradients(program, X, sites="first", estimators={"loo": handlers.ScoreFunction()}, num_calls=20)
    assert found.references["first"].startswith("80 calls of ")


def test_the_program_and_the_random_state_stay_as_they_were_and_a_seed_gives_the_same_numbers():
    program = handlers.score_function(Bits(), baseline="running_mean")
    obj.elbo().loss(program, X).backward()
    before = {name: value.clone() for name, value in program.state_dict().items()}
    grads = [parameter.grad.clone() for parameter in program.parameters()]
    state = torch.get_rng_state()
    tables = [compared(program, sites="first", num_calls=20, seed=seed).table for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in program.state_dict().items())
    assert all(map(torch.equal, grads, (parameter.grad for parameter in program.parameters())))
    measured = ["bias", "bias_error", "variance"]
    assert tables[0][measured].equals(tables[1][measured])
    assert not tables[0][measured].equals(tables[2][measured])


def test_the_picture_has_a_panel_for_each_quantity_and_names_every_estimator(of_bits):
    panels = of_bits.plot(Figure().subplots(2, 4))
    assert [panel.get_xlabel() for panel in panels[1]][::3] == ["bias / gradient", "variance × time"]
    assert [label.get_text() for label in panels[0, 0].get_yticklabels()] == list(UNBIASED | PLANTED)[::-1]
    assert [label.get_text() for label in panels[0, 0].figure.legends[0].get_texts()][-1] == "biased"


def test_bad_input_is_refused():
    program = Bits()
    with pytest.raises(UnknownNameError, match=r"latent site 'frist'.*'first'"):
        diagnostics.gradients(program, X, sites="frist")
    with pytest.raises(OptionError, match="num_calls must be 20 or more, got 3"):
        diagnostics.gradients(program, X, num_calls=3)
    with pytest.raises(OptionError, match=r"'score'.*expected an Estimator"):
        diagnostics.gradients(program, X, estimators={"score": handlers.score_function})
    with pytest.raises(ProgramError, match=r"'path'.*reparameterization.*'first' \(Bernoulli\)"):
        diagnostics.gradients(program, X, estimators={"path": None})
    with pytest.raises(ProgramError, match="one element for each datum"):
        diagnostics.gradients(program, X, estimators={"sum": handlers.Marginalize()})
    with pytest.raises(ProgramError, match="'x'"):
        diagnostics.gradients(program, torch.zeros(4, 3))
    with pytest.raises(DataError):
        diagnostics.gradients(program, "digits")


def test_programs_without_latent_sites_or_parameters_are_refused():
    def observed(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("loc", torch.zeros(2)), 1.0).to_event(1), obs=x)

    with pytest.raises(ProgramError, match="no latent sites"):
        diagnostics.gradients(observed, X)

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(k.unsqueeze(-1), 1.0).expand([*k.shape, 2]).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Bernoulli(0.5))

    with pytest.raises(ProgramError, match="guide has no parameters"):
        diagnostics.gradients((model, guide), X)


def test_numbers_are_finite_with_missing_values():
    class Holes(Bits):
        pass

    x = X.clone()
    x[0, 0] = math.nan
    found = diagnostics.gradients(Holes(), x, sites="first", estimators={"loo": handlers.ScoreFunction()}, num_calls=20)
    assert found.table["variance"].between(0, 1e6).all()
