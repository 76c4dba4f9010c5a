"""The skeletons of CONTRIBUTING.md are members of their kinds."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import ppl_genmodels as ppl
from ppl_genmodels.models import VAE, catalogue
from ppl_genmodels.objectives import elbo, log_lik

X = torch.eye(5, 6)


@pytest.fixture
def skeletons(run_page, monkeypatch):
    """What the page defines; what it adds to the catalogue is taken out again."""
    monkeypatch.setattr(catalogue, "_entries", dict(catalogue._entries))
    return run_page("CONTRIBUTING.md")


def test_the_term_is_the_squared_error_and_joins_the_algebra(skeletons):
    def model(x=None):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(6), 1.0).to_event(1), obs=x)

    term = skeletons["squared_error"]
    torch.testing.assert_close(term("x").evaluate(model, X)["squared_error[x]"], X.square().sum(-1))
    assert str(elbo() - 0.5 * term()).endswith("- 0.5 * E_q[|x - E[x|z]|²]")
    with pytest.raises(ppl.errors.UnknownNameError, match="squared_error"):
        term("y").evaluate(model, X)


def test_the_handler_tempers_in_each_of_its_calling_forms(skeletons):
    temper, program = skeletons["temper"], VAE(data_dim=6, latent_dim=2)
    plain = poutine.trace(program.model).get_trace(X)
    inside = poutine.replay(program.model, trace=plain)
    plain.compute_log_prob()
    expected = 0.5 * plain.nodes["x"]["log_prob_sum"]
    with temper(exponent=0.5):
        forms = [poutine.trace(inside).get_trace(X)]
    forms.append(poutine.trace(temper(inside, exponent=0.5)).get_trace(X))
    forms.append(poutine.trace(skeletons["Temper"](exponent=0.5)(inside)).get_trace(X))
    for trace in forms:
        trace.compute_log_prob()
        torch.testing.assert_close(trace.nodes["x"]["log_prob_sum"], expected)
    tempered = temper(program, sites="x", exponent=0.0)
    assert log_lik().evaluate(tempered, X)["log_lik"].abs().max() == 0


def test_the_model_is_in_the_catalogue_and_is_fitted(skeletons):
    counts = torch.tensor([[0.0, 1.0, 0.0], [9.0, 7.0, 8.0]]).repeat(20, 1)
    options = catalogue.entry("rates").options_for({"x": counts.numpy()})
    torch.manual_seed(0)
    program = catalogue.build("rates", **options)
    adam = functools.partial(torch.optim.Adam, lr=0.02)
    fitted = ppl.fit(program, counts, steps=300, optimizer=adam, progress=False)
    rate = fitted.infer(counts[:2], num_samples=200, seed=0).posterior["rate"].mean(("chain", "draw"))
    assert rate[0] < 2 < 5 < rate[1]
    assert fitted.sample(3, seed=0)["x"].shape == (3, 3)


def test_the_family_gives_distributions_and_reads_their_draws(skeletons):
    family = skeletons["GeometricFamily"]()
    member = family.distribution(family.initial().expand(7, 5, -1))
    assert member.batch_shape == (7, 5)
    assert family.embed(member.sample()).shape == (7, 5, family.width)


def test_the_callback_stops_a_fit(skeletons):
    fitted = ppl.fit(
        VAE(data_dim=6, latent_dim=2),
        X.repeat(8, 1),
        epochs=5,
        validation=0.25,
        callbacks=[skeletons["StopAt"](-1e9)],
        progress=False,
    )
    assert fitted.history["epoch"].nunique() == 1
    assert "reached" in repr(fitted)


def test_the_picture_shows_every_row_and_names_the_worst(skeletons):
    fitted = ppl.fit(VAE(data_dim=6, latent_dim=2), X, steps=1, progress=False)
    posterior = fitted.infer(X, num_samples=10, seed=0)
    axes = skeletons["plot_log_likelihood"](posterior, "x")
    (line,) = axes.lines
    assert len(line.get_ydata()) == len(X)
    worst = int(posterior.log_likelihood["x"].mean(("chain", "draw")).values.argmin())
    assert f"row is {worst}," in skeletons["describe_log_likelihood"](posterior, "x")


def test_the_law_holds(skeletons):
    skeletons["test_exponent_one_changes_nothing"]()
