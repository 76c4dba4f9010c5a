"""Exact resume: a run that was stopped, killed or interrupted ends where a run that was never stopped ends.

Run as a script, this file is the process that gets killed or interrupted.
"""

import functools
import os
import signal
import subprocess
import sys
import time

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.inference import EMA, Callback, EarlyStopping, GradientClipping, LearningRate, training

STEPS = 14
ROWS, COLUMNS = 50, 6


class Dropped(nn.Module):
    """A small VAE whose encoder drops units at random and whose decoder keeps running averages."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder = nn.Sequential(nn.Linear(COLUMNS, 5), nn.Dropout(0.5), nn.Linear(5, 4))
            self.decoder = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, COLUMNS))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            logits = self.decoder(z.reshape(-1, 2)).reshape(*z.shape[:-1], COLUMNS)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x=None):
        with pyro.plate("data", len(x)):
            loc, raw = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


def data():
    return (torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(3)) < 0.3).float()


def rising(optimizer):
    return OneCycleLR(optimizer, max_lr=0.1, total_steps=STEPS)


SETTINGS = {
    "plain": dict,
    "schedule as weight": lambda: {"objective": obj.log_lik() - obj.Linear(0.0, 1.0, steps=10) * obj.kl()},
    "momentum and a rate per epoch": lambda: {
        "optimizer": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "callbacks": [LearningRate(lambda o: MultiStepLR(o, [1, 3]), every="epoch")],
    },
    "rate per step": lambda: {"callbacks": [LearningRate(lambda o: CosineAnnealingLR(o, STEPS))]},
    "clipping, averaging, one cycle": lambda: {
        "callbacks": [GradientClipping(0.5), EMA(0.8), LearningRate(rising)],
        "validation": 0.2,
    },
    "early stopping that waits": lambda: {"early_stopping": 100, "validation": 0.2, "callbacks": [EMA(0.5)]},
    "several particles": lambda: {"num_particles": 3},
}


def fit(program=None, source=None, **settings):
    settings = {"batch_size": 16, "seed": 1, "progress": False} | settings
    program = Dropped() if program is None else program
    return ppl.fit(program, data() if source is None else source, **settings)


def assert_same(one, other):
    """Bit for bit: parameters, buffers, and every column of the history but the clock."""
    mine, theirs = one.program.state_dict(), other.program.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    columns = [column for column in one.history if column != "time"]
    assert one.history[columns].equals(other.history[columns])
    assert one.history["step"].tolist() == list(range(1, len(one.history) + 1))
    assert one.history["time"].is_monotonic_increasing


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("stop", [1, 8, 11])
def test_stopping_and_resuming_is_not_stopping(name, stop, tmp_path):
    """Stops after a step, at an epoch's end, and in the midst of an epoch; the last batch of an epoch is smaller."""
    whole = fit(**SETTINGS[name](), steps=STEPS)
    fit(**SETTINGS[name](), steps=stop, out=tmp_path)
    torch.rand(3)
    resumed = fit(Dropped(seed=9), **SETTINGS[name](), steps=STEPS, out=tmp_path, resume=True)
    assert_same(resumed, whole)
    assert resumed.card["metrics"]["steps"] == STEPS


@pytest.mark.parametrize(("first", "second"), [("trace", "trace"), ("off", "trace"), ("trace", "off")])
def test_traced_steps_resume_as_eager_ones_do(first, second, tmp_path):
    """A run may be traced in one part and eager in the other, as when its length decides."""
    settings = SETTINGS["clipping, averaging, one cycle"]
    whole = fit(**settings(), steps=STEPS, compile="off")
    fit(**settings(), steps=8, out=tmp_path, compile=first)
    assert_same(fit(Dropped(9), **settings(), steps=STEPS, out=tmp_path, resume=True, compile=second), whole)


def test_the_same_objects_may_go_on(tmp_path):
    """Program, optimizer and callbacks of the first part, used again, hold nothing that spoils the second."""
    whole = fit(callbacks=[EMA(0.8), LearningRate(rising)], steps=STEPS)
    program, callbacks = Dropped(), [EMA(0.8), LearningRate(rising)]
    optimizer = torch.optim.Adam(program.parameters(), lr=1e-3, fused=True)
    fit(program, optimizer=optimizer, callbacks=callbacks, steps=5, out=tmp_path)
    resumed = fit(program, optimizer=optimizer, callbacks=callbacks, steps=STEPS, out=tmp_path, resume=True)
    assert_same(resumed, whole)


def test_a_callback_serves_a_second_run_as_if_new():
    callbacks = [EMA(0.8), EarlyStopping(2)]
    once = fit(callbacks=callbacks, validation=0.2, steps=STEPS)
    again = fit(callbacks=callbacks, validation=0.2, steps=STEPS)
    assert_same(again, once)


@pytest.mark.parametrize("stop", [3, 6])
def test_a_shuffling_loader_resumes_too(stop, tmp_path):
    def loader():
        return DataLoader(TensorDataset(data()), batch_size=16, shuffle=True)

    whole = fit(source=loader(), steps=STEPS)
    fit(source=loader(), steps=stop, out=tmp_path)
    assert_same(fit(Dropped(9), source=loader(), steps=STEPS, out=tmp_path, resume=True), whole)


class Falling(Callback):
    """Makes the validation objective fall from the third epoch on."""

    def before_validation(self, training):
        if training.epoch >= 3:
            training.program.source.decoder[-1].bias.data.add_(30.0)

    def after_validation(self, training):
        if training.epoch >= 3:
            training.program.source.decoder[-1].bias.data.sub_(30.0)


@pytest.mark.parametrize("stop", [7, 10, 100])
def test_a_run_that_stopped_early_stays_stopped(stop, tmp_path):
    def settings():
        return {"callbacks": [Falling()], "early_stopping": 2, "validation": 0.2}

    whole = fit(**settings(), steps=100)
    assert len(whole.history) == 12
    fit(**settings(), steps=stop, out=tmp_path)
    resumed = fit(Dropped(9), **settings(), steps=100, out=tmp_path, resume=True)
    assert_same(resumed, whole)
    assert resumed.card["metrics"]["stopped"] == "no rise of the validation objective in 2 epochs"


def test_more_patience_goes_on(tmp_path):
    def settings(patience):
        return {"callbacks": [Falling()], "early_stopping": patience, "validation": 0.2}

    fit(**settings(2), steps=100, out=tmp_path)
    assert len(fit(**settings(3), steps=100, out=tmp_path, resume=True).history) == 15


def test_a_checkpoint_of_an_epochs_last_step_holds_its_validation(tmp_path, monkeypatch):
    """Every step is late; one written before the validation would lose it if the process ended in between."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    newest = []

    class Watch(Callback):
        def before_validation(self, training):
            newest.append(max(int(path.name) for path in (tmp_path / "checkpoints").iterdir()))

    fit(callbacks=[Watch()], validation=0.2, steps=6, out=tmp_path)
    assert newest == [2, 5]
    resumed = fit(callbacks=[Watch()], validation=0.2, steps=6, out=tmp_path, resume=True)
    assert resumed.history["validation"].notna().tolist() == [False, False, True] * 2


def test_a_finished_run_resumed_is_itself(tmp_path):
    whole = fit(callbacks=[EMA(0.8)], steps=5, out=tmp_path)
    assert_same(fit(Dropped(9), callbacks=[EMA(0.8)], steps=5, out=tmp_path, resume=True), whole)


def test_resuming_where_nothing_is_begins(tmp_path):
    assert_same(fit(steps=5, out=tmp_path / "new", resume=True), fit(steps=5))


# The rest is about a process that ends in the midst of its run.

TOTAL, DEATH = 40, 27


class Ending(Callback):
    """Ends the process at a step, or says that a Ctrl-C may come and waits for it."""

    def __init__(self, how=None):
        self.how = how

    def after_step(self, training):
        if training.step != DEATH or self.how is None:
            return
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        print("now", flush=True)
        while training.stopped is None:
            time.sleep(0.01)


def part(how=None, **settings):
    callbacks = [GradientClipping(1.0), EMA(0.8), Ending(how)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_STEPS", 5)
        return fit(callbacks=callbacks, validation=0.2, steps=TOTAL, **settings)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """One run that kills itself and one that waits for Ctrl-C, started side by side."""
    started = {}
    for how in ("killed", "interrupted"):
        folder = tmp_path_factory.mktemp(how)
        command = [sys.executable, __file__, how, str(folder), str(torch.get_num_threads())]
        pipe = subprocess.PIPE
        started[how] = folder, subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    yield started
    for _, process in started.values():
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def never_stopped():
    return part()


def test_after_kill_9_the_run_ends_as_if_never_killed(processes, never_stopped):
    folder, process = processes["killed"]
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["000000018", "000000024"]
    assert not (folder / "card.json").exists()
    assert_same(part(program=Dropped(seed=9), out=folder, resume=True), never_stopped)


def test_after_ctrl_c_the_run_stops_cleanly_and_goes_on(processes, never_stopped):
    folder, process = processes["interrupted"]
    assert process.stdout.readline() == "now\n", process.stderr.read()
    process.send_signal(signal.SIGINT)
    told, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert told == f"{DEATH} interrupted by the user\n"
    assert ppl.load(folder, program=Dropped()).card["metrics"]["steps"] == DEATH
    assert_same(part(program=Dropped(seed=9), out=folder, resume=True), never_stopped)


if __name__ == "__main__":
    how, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    metrics = part(how, out=folder).card["metrics"]
    print(metrics["steps"], metrics["stopped"])
