"""Callbacks against what they promise, computed by hand."""

import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference import EMA, Callback, EarlyStopping, GradientClipping, LearningRate

ROWS = 20


class Location(nn.Module):
    """x ~ N(loc, 1), loc a parameter: one step of gradient descent is known by hand."""

    def __init__(self, start=0.0):
        super().__init__()
        self.loc = nn.Parameter(torch.full((2,), start))
        self.dropout = nn.Dropout(0.5)

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", dist.Normal(self.loc, 1.0).to_event(1), obs=x)


X = torch.full((ROWS, 2), 3.0)
DESCENT = functools.partial(torch.optim.SGD, lr=0.1)


def fit(program=None, **settings):
    settings = {"batch_size": 5, "optimizer": DESCENT, "progress": False} | settings
    return ppl.fit(Location() if program is None else program, X, **settings)


class Record(Callback):
    """Keeps what a function of the training says at a hook."""

    def __init__(self, **functions):
        self.said = {hook: [] for hook in functions}
        for hook, function in functions.items():
            setattr(self, hook, functools.partial(self._say, hook, function))

    def _say(self, hook, function, training):
        self.said[hook].append(function(training))


def weights(training):
    return training.program.source.loc.detach().clone()


def test_the_average_is_the_one_computed_by_hand():
    record = Record(after_step=weights)
    fitted = fit(callbacks=[record, EMA(0.7)], steps=9)
    average = torch.zeros(2)
    for value in record.said["after_step"]:
        average = 0.7 * average + 0.3 * value
    torch.testing.assert_close(fitted.program.loc.detach(), average)
    assert not torch.allclose(average, record.said["after_step"][-1], atol=0.1)


def test_the_average_is_validated_and_training_goes_on_with_the_weights():
    """The validation objective of a known Gaussian tells which weights were in place."""
    record = Record(after_step=weights)
    fitted = fit(callbacks=[record, EMA(0.7)], epochs=3, validation=X[:4])
    plain = Record(after_step=weights)
    fit(callbacks=[plain], epochs=3)
    assert all(torch.equal(a, b) for a, b in zip(record.said["after_step"], plain.said["after_step"], strict=True))
    average, expected = torch.zeros(2), []
    for value in record.said["after_step"]:
        average = 0.7 * average + 0.3 * value
        expected.append(dist.Normal(average, 1.0).log_prob(X[0]).sum().item())
    assert fitted.history["validation"].dropna().tolist() == pytest.approx(expected[3::4])


class Bumps(Callback):
    """Sets the location in each epoch to a given value just before its validation."""

    def __init__(self, values):
        self.values = values

    def before_validation(self, training):
        training.program.source.loc.data.fill_(self.values[training.epoch - 1])


def test_early_stopping_stops_and_goes_back_to_the_best():
    fitted = fit(callbacks=[Bumps([1.0, 2.9, 2.0, 2.5, 0.0, 0.0])], early_stopping=3, epochs=6, validation=X[:4])
    assert fitted.card["metrics"]["epochs"] == 5
    assert fitted.card["metrics"]["stopped"] == "no rise of the validation objective in 3 epochs"
    torch.testing.assert_close(fitted.program.loc.detach(), torch.full((2,), 2.9))
    assert fitted.history["validation"].idxmax() == 7


def test_early_stopping_counts_from_the_last_rise():
    values = [1.0, 0.5, 1.5, 1.4, 2.0, 1.9, 1.8, 3.0]
    fitted = fit(callbacks=[Bumps(values)], early_stopping=2, epochs=8, validation=X[:4])
    assert fitted.card["metrics"]["epochs"] == 7
    torch.testing.assert_close(fitted.program.loc.detach(), torch.full((2,), 2.0))


def test_early_stopping_that_never_stopped_goes_back_to_the_best_too():
    fitted = fit(callbacks=[Bumps([2.9, 0.0])], early_stopping=EarlyStopping(5), epochs=2, validation=X[:4])
    assert fitted.card["metrics"]["stopped"] == "after its last step"
    torch.testing.assert_close(fitted.program.loc.detach(), torch.full((2,), 2.9))


def test_early_stopping_keeps_the_average_that_was_best():
    record = Record(after_validation=weights)
    fitted = fit(callbacks=[EMA(0.7), record], early_stopping=2, epochs=3, validation=X[:4])
    torch.testing.assert_close(fitted.program.loc.detach(), record.said["after_validation"][-1])


@pytest.mark.parametrize("max_norm", [0.1, 1.0])
def test_clipping_bounds_the_norm_and_keeps_the_direction(max_norm):
    def gradient(training):
        return training.program.source.loc.grad.clone()

    record = Record(after_backward=gradient)
    history = fit(Location(-50.0), callbacks=[GradientClipping(max_norm), record], steps=5).history
    norms = torch.stack(record.said["after_backward"]).norm(dim=1)
    torch.testing.assert_close(norms, torch.full((5,), max_norm), rtol=1e-4, atol=0)
    direction = record.said["after_backward"][0] / max_norm
    torch.testing.assert_close(direction, torch.full((2,), -math.sqrt(0.5)), rtol=1e-4, atol=0)
    assert history["gradient_norm"][0] == pytest.approx(53 * math.sqrt(2))


def test_clipping_leaves_small_gradients_alone():
    clipped = fit(callbacks=[GradientClipping(100.0)], steps=5)
    torch.testing.assert_close(clipped.program.loc, fit(steps=5).program.loc, rtol=1e-5, atol=0)


def rates(training):
    return training.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("make", "every"),
    [
        (lambda optimizer: CosineAnnealingLR(optimizer, 12), "step"),
        (lambda optimizer: OneCycleLR(optimizer, 0.5, total_steps=13), "step"),
        (lambda optimizer: StepLR(optimizer, 1, gamma=0.5), "epoch"),
    ],
)
def test_the_learning_rate_follows_the_scheduler(make, every):
    record = Record(after_backward=rates)
    fit(callbacks=[LearningRate(make, every), record], steps=12)
    optimizer = DESCENT([nn.Parameter(torch.zeros(1))])
    scheduler, expected = make(optimizer), []
    for step in range(1, 13):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if every == "step" or step % 4 == 0:
            scheduler.step()
    assert record.said["after_backward"] == pytest.approx(expected)


def test_one_step_is_gradient_descent_at_the_scheduled_rate():
    """d/dloc of the mean log-density is x - loc."""
    halving = LearningRate(lambda optimizer: StepLR(optimizer, 1, gamma=0.5))
    fitted = fit(callbacks=[halving], steps=2)
    first = 0.1 * 3.0
    torch.testing.assert_close(fitted.program.loc.detach(), torch.full((2,), first + 0.05 * (3.0 - first)))


def test_hooks_come_in_their_order():
    names = [name for name in vars(Callback) if name.startswith(("on_", "after_", "before_"))]
    order = []
    record = Record(**{name: lambda training, name=name: order.append((name, training.step)) for name in names})
    fit(callbacks=[record], epochs=1, validation=X[:4])
    steps = [(hook, step) for step in range(4) for hook in ("after_backward", "after_step")]
    steps = [(hook, step + (hook == "after_step")) for hook, step in steps]
    ends = ["before_validation", "after_validation", "after_epoch", "on_end"]
    assert order == [("on_start", 0), *steps, *((hook, 4) for hook in ends)]


def test_validation_swaps_nest():
    """What one callback puts in before the validation, it takes out after those that came later."""
    order = []
    records = [
        Record(
            before_validation=lambda training, i=i: order.append(("in", i)),
            after_validation=lambda training, i=i: order.append(("out", i)),
        )
        for i in range(2)
    ]
    fit(callbacks=records, epochs=1, validation=X[:4])
    assert order == [("in", 0), ("in", 1), ("out", 1), ("out", 0)]


def test_a_callback_may_stop_training():
    class Enough(Callback):
        def after_step(self, training):
            if training.history[-1]["objective"] > -3.0:
                training.stop("good enough")

    fitted = fit(callbacks=[Enough()], steps=500)
    assert fitted.card["metrics"]["stopped"] == "good enough"
    assert (fitted.history["objective"] > -3.0).tolist() == [False] * (len(fitted.history) - 1) + [True]


def test_schedules_stand_at_their_end_in_validation():
    """A weight that rises from 0 to 2 in a thousand steps is 2 from the first validation on."""
    objective = obj.Linear(0.0, 2.0, steps=1000) * obj.log_lik()
    fitted = fit(objective=objective, epochs=1, validation=X[:4])
    expected = 2 * dist.Normal(fitted.program.loc, 1.0).log_prob(X[0]).sum().item()
    assert fitted.history["validation"].iloc[-1] == pytest.approx(expected)
    weights = [step / 1000 * 2 for step in range(4)]
    assert fitted.history["objective"].tolist() == pytest.approx(
        [weight * value for weight, value in zip(weights, fitted.history["log_lik"], strict=True)]
    )


def test_validation_runs_in_evaluation_mode_and_training_does_not():
    record = Record(
        after_step=lambda training: training.program.source.dropout.training,
        after_validation=lambda training: training.program.source.dropout.training,
    )
    seen = []
    program = Location()
    program.dropout.register_forward_hook(lambda module, *_: seen.append(module.training))
    plain_model = program.model

    def model(x=None):
        program.dropout(torch.ones(1))
        return plain_model(x)

    program.model = model
    fitted = fit(program, callbacks=[record], epochs=1, validation=X[:4])
    assert record.said == {"after_step": [True] * 4, "after_validation": [True]}
    assert seen[-5:] == [True] * 4 + [False]
    assert not fitted.program.dropout.training


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EMA(1.0), r"EMA: decay must lie between 0 and 1, got 1\.0"),
        (lambda: EMA(0.0), r"EMA: decay must lie between 0 and 1, got 0\.0"),
        (lambda: GradientClipping(0.0), r"GradientClipping: max_norm must be positive, got 0\.0"),
        (lambda: GradientClipping(math.nan), r"GradientClipping: max_norm must be positive, got nan"),
        (lambda: EarlyStopping(0), r"EarlyStopping: patience must be at least 1, got 0"),
        (lambda: LearningRate(StepLR, every="batch"), r"LearningRate: every is 'step' or 'epoch', got 'batch'"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_a_scheduler_that_waits_for_a_metric_is_refused():
    with pytest.raises(OptionError, match=r"ReduceLROnPlateau waits for a metric\. Remedy: a scheduler that counts"):
        fit(callbacks=[LearningRate(ReduceLROnPlateau)], steps=1)


def test_early_stopping_needs_validation_data():
    with pytest.raises(OptionError, match=r"there is no validation data\. Remedy: pass validation=0\.1"):
        fit(early_stopping=3, steps=1)
