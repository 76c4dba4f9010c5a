"""Two processes that share each batch: the same parameters as one, the same numbers in both, and none left waiting.

Run by torchrun, this file is one of the two processes: it fits every case and writes what its process has found.
"""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.data.batches import Batches
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.data.share import Share
from ppl_genmodels.errors import PplError
from ppl_genmodels.guides import AutoNormal
from ppl_genmodels.inference import EMA, Callback, GradientClipping, shared, training
from ppl_genmodels.inference.checkpoint import Checkpoints
from ppl_genmodels.inference.processes import seed_of

TIMEOUT = 240
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "devices.md"
ROWS, COLUMNS, BATCH = 36, 6, 7
EPOCHS = 4
STEPS, STOP = 14, 8
"""The last batch of an epoch has one row, so that one of two processes has none."""


def data():
    return (torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(3)) < 0.3).float()


class Seeded(nn.Module):
    """A module whose weights do not depend on the caller's random state."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.build()


class Likelihood(Seeded):
    """Logits of each column from the others: maximum likelihood, which draws nothing."""

    def build(self):
        self.layers = nn.Sequential(nn.Linear(COLUMNS, 5), nn.Tanh(), nn.Linear(5, COLUMNS))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            logits = self.layers(torch.zeros(1, COLUMNS) if x is None else x.roll(1, -1))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


class Mode(Seeded):
    """A latent shared by all rows whose guide is a point: a global term, counted once over the whole data set."""

    def build(self):
        self.point = nn.Parameter(torch.randn(COLUMNS))

    def model(self, x=None):
        logits = pyro.sample("logits", dist.Normal(torch.ones(COLUMNS), 0.1).to_event(1))
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x=None):
        pyro.sample("logits", dist.Delta(self.point, event_dim=1))


class Unused(Mode):
    """A parameter that no term depends on."""

    def build(self):
        super().build()
        self.unused = nn.Parameter(torch.ones(2))


class Unplated(Mode):
    """All rows as one datum."""

    def model(self, x=None):
        logits = pyro.sample("logits", dist.Normal(torch.ones(COLUMNS), 0.1).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=logits.expand(len(x), COLUMNS)).to_event(2), obs=x)


class Noisy(Seeded):
    """A small VAE; with ``dropped`` its encoder drops units and its decoder keeps running means."""

    def build(self):
        self.encoder = nn.Sequential(nn.Linear(COLUMNS, 5), nn.Dropout(self.dropped), nn.Linear(5, 4))
        norm = nn.BatchNorm1d(5) if self.dropped else nn.Identity()
        self.decoder = nn.Sequential(nn.Linear(2, 5), norm, nn.ReLU(), nn.Linear(5, COLUMNS))

    dropped = 0.0

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x=None):
        with pyro.plate("data", len(x)):
            loc, raw = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


class Dropped(Noisy):
    dropped = 0.5


DESCENT = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
WAYS = ["eager", "traced", "traced, by sockets"]
"""How a step is run and how gradients are averaged; the last without the memory that processes of one machine share."""
FOLDER = shared.FOLDER
HELD_OUT = data()[:11]


def fit(program, **settings):
    settings = {"optimizer": DESCENT, "epochs": EPOCHS, "batch_size": BATCH, "seed": 5} | settings
    return ppl.fit(program, data(), accelerator="cpu", progress=False, **settings)


def drawing_nothing(name, **settings):
    """Fits whose reference is the same fit in one process."""
    return {
        "likelihood": lambda: fit(Likelihood(), validation=HELD_OUT, **settings),
        "double precision, Adam": lambda: fit(Likelihood(), precision="64-true", optimizer=None, **settings),
        "shared latent": lambda: fit(Mode(), callbacks=[GradientClipping(0.5)], **settings),
        "early stopping": lambda: fit(
            Likelihood(), **{"validation": 1 - data(), "early_stopping": 1, "epochs": 50} | settings
        ),
    }[name]()


DRAWING_NOTHING = ["likelihood", "double precision, Adam", "shared latent", "early stopping"]


def dropped(seed=0, **settings):
    """In batches of which no part has one row, whose variance batch normalisation could not take."""
    return fit(Dropped(seed), validation=0.2, callbacks=[EMA(0.8)], epochs=None, batch_size=8, **settings)


class InTheSecond(Callback):
    """Does something to the program in the second process alone, after two steps."""

    def __init__(self, what):
        self.what = what

    def after_step(self, training):
        if training.step == 2 and training.processes.rank == 1:
            self.what(training.program.source)


def spoil(program):
    program.decoder[0].weight.data.fill_(float("inf"))


def interrupt(program):
    os.kill(os.getpid(), signal.SIGINT)


def break_down(program):
    program.decoder.forward = lambda z: {}["no such layer"]


class WhileWriting(Callback):
    """Ctrl-C in the process that writes, while it does, when the others have gone on already."""

    def __init__(self):
        self.done = False

    def state_dict(self):
        if not self.done:
            self.done = True
            os.kill(os.getpid(), signal.SIGINT)
        return {}


FAILURES = {"not finite": spoil, "interrupted": interrupt, "broken": break_down}


def outcome(make):
    """What a fit gave, or how it failed."""
    try:
        fitted = make()
    except (PplError, KeyError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "state": fitted.program.state_dict(),
        "history": fitted.history.drop(columns="time"),
        "metrics": fitted.card["metrics"],
    }


def every_case(way, folder):
    """The outcome of each case in this process."""
    settings = {"compile": "off" if way == "eager" else "trace", "devices": 2, "strategy": "ddp"}
    shared.FOLDER = Path("nowhere") if way == "traced, by sockets" else FOLDER
    cases = {name: outcome(lambda name=name: drawing_nothing(name, **settings)) for name in DRAWING_NOTHING}
    cases["no plate"] = outcome(lambda: fit(Unplated(), **settings))
    cases["a guide of rows"] = outcome(lambda: fit((Noisy().model, AutoNormal(Noisy().model)), **settings))
    cases["unused"] = outcome(lambda: fit(Unused(), **settings))
    cases["unused, looked for"] = outcome(
        lambda: fit(Unused(), **{**settings, "strategy": "ddp_find_unused_parameters_true"})
    )
    cases["vae"] = outcome(lambda: fit(Noisy(), **settings))
    cases["whole"] = outcome(lambda: dropped(steps=STEPS, **settings))
    cases["part"] = outcome(lambda: dropped(steps=STOP, out=folder / way, **settings))
    cases["resumed"] = outcome(lambda: dropped(9, steps=STEPS, out=folder / way, resume=True, **settings))
    for name, what in FAILURES.items():
        cases[name] = outcome(lambda what=what: fit(Noisy(), callbacks=[InTheSecond(what)], **settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        cases["interrupted while writing"] = outcome(
            lambda: fit(Noisy(), callbacks=[WhileWriting()], out=folder / f"{way} interrupted", **settings)
        )
    return cases


def run_process(folder):
    written = []
    write = Checkpoints.write
    Checkpoints.write = lambda self, step, state: written.append(step) or write(self, step, state)
    cases = {way: every_case(way, folder) for way in WAYS}
    torch.save({"cases": cases, "written": written}, folder / f"{os.environ['RANK']}.pt")


# The tests, in a process of their own.


def run_two(*command, timeout=TIMEOUT, **settings):
    """Runs a command that starts processes; a hang ends all of them and fails."""
    pipe = subprocess.PIPE
    started = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **settings)
    try:
        told, errors = started.communicate(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
    assert started.returncode == 0, errors[-4000:]
    return told


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    run_two(*TORCHRUN, __file__, str(folder))
    return folder


@pytest.fixture(scope="module")
def processes(folder):
    """What the first and the second process have found."""
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(params=WAYS)
def cases(request, processes):
    return [found["cases"][request.param] for found in processes]


def assert_close(received, expected):
    assert received["state"].keys() == expected["state"].keys()
    for name, tensor in expected["state"].items():
        torch.testing.assert_close(received["state"][name], tensor, rtol=1e-5, atol=1e-5)
    pd.testing.assert_frame_equal(received["history"], expected["history"], rtol=1e-4, atol=1e-5)


def assert_same(one, other):
    assert one["history"].equals(other["history"])
    for name, tensor in one["state"].items():
        assert torch.equal(tensor, other["state"][name]), name


@pytest.mark.parametrize("name", DRAWING_NOTHING)
def test_two_processes_find_what_one_finds_with_the_same_batches(name, cases):
    expected = outcome(lambda: drawing_nothing(name))
    assert len(expected["history"]) == (12 if name == "early stopping" else 6 * EPOCHS)
    assert_close(cases[0][name], expected)


def test_both_processes_have_the_same_parameters_and_history(cases):
    for name in [*DRAWING_NOTHING, "vae", "whole"]:
        assert_same(cases[0][name], cases[1][name])


def test_the_gradient_of_a_vae_is_the_mean_over_both_processes_noise(cases):
    """The reference computes both parts of each batch, each with its process's random state, and averages by hand."""
    program, batches = Noisy(), Batches(Rows.of(data()), BATCH, seed=5)
    optimizer, states = DESCENT(program.parameters()), []
    for rank in range(2):
        states.append(torch.Generator().manual_seed(seed_of(5, rank)).get_state())
    with torch.random.fork_rng():
        for epoch in range(EPOCHS):
            for (x,), _ in batches.epoch(epoch):
                optimizer.zero_grad()
                for rank in range(2):
                    torch.set_rng_state(states[rank])
                    part, weight = Share(rank, 2).of(len(x))
                    (weight / 2 * obj.elbo().loss(program, x[part])).backward()
                    states[rank] = torch.get_rng_state()
                optimizer.step()
    for name, tensor in program.state_dict().items():
        torch.testing.assert_close(cases[0]["vae"]["state"][name], tensor, rtol=1e-5, atol=1e-5)


def test_a_resumed_run_of_two_processes_is_one_that_never_stopped(cases):
    for case in cases:
        assert_same(case["resumed"], case["whole"])
        assert case["resumed"]["history"]["step"].tolist() == list(range(1, STEPS + 1))


def test_one_process_writes(folder, processes):
    first, second = (found["written"] for found in processes)
    assert first == [STOP, STEPS, 1, 2, 2] * len(WAYS)
    assert second == []
    for way in WAYS:
        assert {path.name for path in (folder / way).iterdir()} == {
            *("card.json", "history.csv", "program.safetensors", "checkpoints"),
        }
        assert ppl.load(folder / way, program=Dropped()).card["settings"]["processes"] == 2


def test_what_one_process_finds_not_finite_stops_both_with_the_same_error(cases):
    first, second = (case["not finite"]["error"] for case in cases)
    assert first == second
    assert first.startswith("NonFiniteError: step 2: the objective is not finite")


def test_an_error_in_one_process_stops_the_other(cases):
    first, second = (case["broken"]["error"] for case in cases)
    assert second == "KeyError: 'no such layer'"
    assert first == "PplError: process 1 failed, so all stop: KeyError: 'no such layer'"


def test_ctrl_c_in_one_process_stops_both_after_the_same_step(cases):
    for case in cases:
        assert case["interrupted"]["metrics"]["stopped"] == "interrupted by the user"
        assert case["interrupted"]["metrics"]["steps"] == 2


def test_ctrl_c_at_any_time_stops_both_after_the_same_step(cases):
    """It comes after the first step, when the processes have agreed to go on."""
    for case in cases:
        assert case["interrupted while writing"]["metrics"]["stopped"] == "interrupted by the user"
        assert case["interrupted while writing"]["metrics"]["steps"] == 2


def test_programs_whose_rows_cannot_be_shared_are_refused(cases):
    for case in cases:
        assert "the program has no plate around its data" in case["no plate"]["error"]
        assert "the guide has parameters for each row of the data" in case["a guide of rows"]["error"]


def test_a_parameter_without_a_gradient(processes):
    """Torch's averaging waits for it and is refused; after a traced step it is left alone."""
    eager, traced, _ = (processes[0]["cases"][way]["unused"] for way in WAYS)
    assert eager["error"].startswith("ProgramError: the objective does not depend on 1 parameters of the program")
    expected = outcome(lambda: fit(Unused()))
    assert_close(traced, expected)
    for way in WAYS:
        assert_close(processes[0]["cases"][way]["unused, looked for"], expected)


@pytest.mark.parametrize("command", [TORCHRUN, (sys.executable,)], ids=["torchrun", "python"])
def test_the_script_in_the_guide_runs_in_two_processes(command, tmp_path):
    """Started by torchrun, or by python, where the second process is started by the first."""
    script = tmp_path / "script.py"
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    script.write_text(block)
    told = run_two(*command, str(script), cwd=tmp_path)
    fitted = ppl.load(tmp_path / "runs" / "two")
    assert told == f"objective {fitted.card['metrics']['objective']:.6f} by 2 processes\n"
    assert fitted.card["metrics"]["steps"] == 44


if __name__ == "__main__":
    run_process(Path(sys.argv[1]))
