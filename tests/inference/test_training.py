"""The training loop: what it counts, what it records, and what it leaves untouched."""

import functools
import math
import random

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import as_program
from ppl_genmodels import objectives as obj
from ppl_genmodels.data.batches import Batches
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import NonFiniteError, OptionError, ProgramError
from ppl_genmodels.inference import GradientClipping
from ppl_genmodels.inference.checkpoint import Checkpoints
from ppl_genmodels.inference.training import Training, make_optimizer
from ppl_genmodels.models import VAE

DESCENT = functools.partial(torch.optim.SGD, lr=0.1)
X = torch.randn(22, 2, generator=torch.Generator().manual_seed(0)) + 3.0


class Location(nn.Module):
    """x ~ N(loc, 1): gradient descent is known by hand."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", dist.Normal(self.loc, 1.0).to_event(1), obs=x)


def fit(program=None, x=X, **settings):
    settings = {"batch_size": 8, "optimizer": DESCENT, "progress": False} | settings
    return ppl.fit(Location() if program is None else program, x, **settings)


def test_training_is_gradient_descent_on_the_batches():
    fitted = fit(steps=7, seed=4)
    loc, record = torch.zeros(2), []
    batches = Batches(Rows.of(X), 8, seed=4)
    order = [args[0] for epoch in range(3) for args, _ in batches.epoch(epoch)]
    for batch in order[:7]:
        value = dist.Normal(loc, 1.0).log_prob(batch).sum(-1).mean().item()
        gradient = (batch - loc).mean(0)
        record.append((value, gradient.norm().item()))
        loc = loc + 0.1 * gradient
    torch.testing.assert_close(fitted.program.loc.detach(), loc)
    received = fitted.history[["objective", "gradient_norm"]].to_numpy()
    np.testing.assert_allclose(received, np.array(record), rtol=1e-5)


def test_the_history_has_one_row_for_each_step():
    fitted = fit(VAE(2, 1, hidden=(3,), likelihood="gaussian"), steps=7, validation=X[:5], optimizer=None)
    history = fitted.history
    assert list(history.columns) == [
        *("step", "epoch", "objective", "log_lik", "kl", "gradient_norm", "time", "validation"),
    ]
    assert history["step"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert history["epoch"].tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert history["validation"].notna().tolist() == [False, False, True, False, False, True, False]
    assert history["time"].is_monotonic_increasing
    np.testing.assert_allclose(history["objective"], history["log_lik"] - history["kl"], rtol=1e-5)


def test_terms_are_recorded_unweighted_under_their_names():
    objective = 2.0 * obj.log_lik() + obj.Linear(0.0, 1.0, steps=2) * obj.log_lik("x")
    history = fit(objective=objective, steps=3).history
    np.testing.assert_allclose(history["log_lik"], history["log_lik[x]"])
    np.testing.assert_allclose(history["objective"] / history["log_lik"], [2.0, 2.5, 3.0], rtol=1e-6)


def test_validation_is_the_mean_over_all_held_out_rows():
    """They are taken in two batches of unequal size, which count by their rows."""
    held_out = torch.cat([X, torch.zeros(600, 2)])
    fitted = fit(epochs=1, validation=held_out)
    expected = dist.Normal(fitted.program.loc, 1.0).log_prob(held_out).sum(-1).mean().item()
    assert fitted.history["validation"].iloc[-1] == pytest.approx(expected, rel=1e-5)


def test_validation_has_the_same_noise_each_time():
    """With weights that do not move, the validation objective does not either."""
    program = VAE(2, 1, hidden=(3,), likelihood="gaussian")
    still = functools.partial(torch.optim.SGD, lr=0.0)
    values = fit(program, epochs=3, validation=0.3, optimizer=still).history["validation"].dropna()
    assert len(values.unique()) == 1


def test_epochs_and_steps():
    assert len(fit(epochs=2).history) == 6
    assert len(fit(steps=5).history) == 5
    assert len(fit(batch_size=1000).history) == 20
    assert fit(steps=5).card["metrics"]["epochs"] == 1


def test_one_seed_one_run_and_another_seed_another():
    def run(seed):
        torch.manual_seed(0)
        program = VAE(2, 1, hidden=(3,), likelihood="gaussian")
        return fit(program, steps=5, seed=seed).history["objective"].tolist()

    first = run(1)
    torch.rand(5)
    assert run(1) == first
    assert run(2) != first


def test_random_states_are_left_as_they_were():
    torch.manual_seed(0), np.random.seed(0), random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    fit(VAE(2, 1, likelihood="gaussian").eval(), steps=5, validation=0.3)
    fitted_state = torch.get_rng_state()
    torch.manual_seed(0)
    VAE(2, 1, likelihood="gaussian")
    assert torch.equal(torch.get_rng_state(), fitted_state)
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_pyros_global_store_stays_empty():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("loc", torch.zeros(2)), 1.0).to_event(1), obs=x)

    pyro.clear_param_store()
    fit((model, None), steps=3)
    assert list(pyro.get_param_store().keys()) == []


def test_nothing_is_printed_without_progress(capfd):
    fit(steps=3, validation=0.3)
    assert capfd.readouterr() == ("", "")


def test_progress_shows_the_objective(capsys):
    fit(steps=3, progress=True)
    assert "objective" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_other_precisions_fit_validate_and_infer(precision):
    program = VAE(2, 1, hidden=(3,), likelihood="gaussian")
    fitted = fit(program, steps=4, validation=0.3, precision=precision, optimizer=None)
    expected = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "bf16-mixed": torch.float32}[precision]
    assert {parameter.dtype for parameter in program.parameters()} == {expected}
    assert np.isfinite(fitted.history["objective"]).all()
    idata = fitted.infer(X, num_samples=20, seed=0)
    assert np.isfinite(idata.posterior["z"]).all()
    assert fitted.log_evidence(X, 5).isfinite().all()
    assert fitted.reconstruct(X)["x"].isfinite().all()
    assert fitted.sample(3)["x"].shape == (3, 2)


def scaled(start, source=None, x=X, **settings):
    """Training in half precision with a scaled loss, on the host, where Fabric does not offer it by itself."""
    scaler = torch.amp.GradScaler("cpu", init_scale=start)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    program = as_program(Location() if source is None else source)
    program.probe(x)
    batches = Batches(Rows.of(x), 8, seed=0)
    optimizer = make_optimizer(program, DESCENT)
    fabric = Fabric(accelerator="cpu", plugins=[plugin])
    return Training(program, obj.elbo(), batches, optimizer, fabric, **settings), scaler


def run(training, steps, resume=False):
    training.run(steps, seed=0, resume=resume, progress=False)
    return training


HUGE = 2.0**126, None, 16 * X


def test_half_precision_sees_gradients_without_their_scale():
    plain = fit(steps=5)
    training, _ = scaled(2.0**10, callbacks=[GradientClipping(1e6)])
    history = run(training, 5).history
    received = [row["gradient_norm"] for row in history]
    np.testing.assert_allclose(received, plain.history["gradient_norm"], rtol=1e-2)


def test_half_precision_skips_updates_until_its_scale_fits():
    """Gradients near 2^6, scaled, are infinite from 2^128 on; each one halves the scale."""
    training, scaler = scaled(*HUGE)
    history = run(training, 8).history
    overflowed = [not math.isfinite(row["gradient_norm"]) for row in history]
    assert overflowed == sorted(overflowed, reverse=True)
    assert 2 < sum(overflowed) < 8
    assert scaler.get_scale() == 2.0 ** (126 - sum(overflowed))
    assert training.program.source.loc.abs().min() > 0


def test_half_precision_resumes_with_its_scale(tmp_path):
    whole = run(scaled(*HUGE)[0], 8)
    run(scaled(*HUGE, checkpoints=Checkpoints(tmp_path))[0], 3)
    training, scaler = scaled(2.0**4, *HUGE[1:], checkpoints=Checkpoints(tmp_path))
    run(training, 8, resume=True)
    assert torch.equal(training.program.source.loc, whole.program.source.loc)
    assert scaler.get_scale() == whole.fabric.strategy.precision.scaler.get_scale()


def test_half_precision_gives_up_on_a_gradient_that_no_scale_mends():
    class Rooted(Location):
        def model(self, x=None):
            with pyro.plate("data", 1 if x is None else len(x)):
                pyro.sample("x", dist.Normal(self.loc.sqrt(), 1.0).to_event(1), obs=x)

    training, scaler = scaled(2.0**3, Rooted())
    with pytest.raises(NonFiniteError, match="the objective is finite and its gradient is not"):
        run(training, 50)
    assert scaler.get_scale() == 1.0
    assert torch.equal(training.program.source.loc, torch.zeros(2))


def test_an_optimizer_or_a_way_to_make_one():
    program = Location()
    given = torch.optim.SGD(program.parameters(), lr=0.1)
    torch.testing.assert_close(fit(program, optimizer=given, steps=3).program.loc, fit(steps=3).program.loc)
    assert isinstance(make_optimizer(as_program(Location()), None), torch.optim.Adam)
    assert isinstance(make_optimizer(as_program(Location()), torch.optim.Adadelta), torch.optim.Adadelta)


def test_parameters_that_the_optimizer_does_not_hold_are_named():
    program = VAE(2, 1, hidden=(3,), likelihood="gaussian")
    held = torch.optim.SGD(program.encoder.parameters(), lr=0.1)
    with pytest.warns(
        UserWarning, match=r"does not hold \d parameters of the program \(.*decoder.*Remedy: pass a fact"
    ):
        make_optimizer(as_program(program), held)


@pytest.mark.parametrize("optimizer", ["adam", lambda parameters: None])
def test_what_is_no_optimizer_is_refused(optimizer):
    with pytest.raises(OptionError, match=r"expected a torch\.optim optimizer\. Remedy: an optimizer, or a factory"):
        fit(optimizer=optimizer, steps=1)


def test_an_objective_without_parameters_is_refused():
    with pytest.raises(ProgramError, match=r"does not depend on any parameter\. Remedy: add a term"):
        fit(objective=obj.kl(), steps=1)
