"""Programs from the user's own file: built from options, read again, never chosen by a run's folder."""

import json

import numpy as np
import pytest

from ppl_genmodels import load
from ppl_genmodels.cli.program import build_program, parse_options

SMALL = ["--set", "width=6", "--steps", 2, "--quiet"]
INTERRUPTING = """
import signal
from own import Factors

class Interrupting(Factors):
    calls = 0

    def __init__(self, width: int, after: int):
        super().__init__(width)
        self.after = after

    def model(self, x=None):
        Interrupting.calls += 1
        if Interrupting.calls == self.after:
            signal.raise_signal(signal.SIGINT)
        return super().model(x)
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("0.5", 0.5),
        ("true", True),
        ("True", True),
        ("null", None),
        ("[500, [3, 4]]", (500, (3, 4))),
        ("(500, 300)", (500, 300)),
        ("gaussian", "gaussian"),
        ('"16"', "16"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_values_are_json_or_literals_otherwise_text(text, value):
    assert parse_options([f"name={text}"]) == {"name": value}


def test_a_run_of_ones_own_program_comes_back_with_its_options(ppl, own_program, rows, tmp_path):
    model, run = f"{own_program}:Factors", tmp_path / "run"
    ppl("fit", model, "--data", rows, "--out", run, *SMALL, "--set", "factors=3")
    ppl("infer", run, "--data", rows, "--out", tmp_path / "post.nc", "--num-samples", 2, "--model", model, "-q")
    ppl("sample", run, "-n", 4, "--out", tmp_path / "samples.npz", "--model", model)
    with np.load(tmp_path / "samples.npz") as samples:
        assert samples["z"].shape == (4, 3)


@pytest.mark.parametrize("command", ["infer", "sample", "report"])
def test_the_option_to_add_is_named_exactly(ppl, own_program, rows, tmp_path, command):
    model, run = f"{own_program}:Factors", tmp_path / "run"
    ppl("fit", model, "--data", rows, "--out", run, *SMALL)
    data = [] if command == "sample" else ["--data", rows]
    error = ppl(command, run, *data, "--out", tmp_path / "new", code=2).stderr
    assert f"add --model {model} " in error
    assert not (tmp_path / "new").exists()


def test_a_folder_that_names_a_file_does_not_run_it(ppl, run, tmp_path):
    (tmp_path / "evil.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    sent = tmp_path / "sent"
    sent.mkdir()
    for file in run.glob("*.*"):
        (sent / file.name).write_bytes(file.read_bytes())
    card = json.loads((sent / "card.json").read_text())
    card["command_line"]["model"] = f"{tmp_path / 'evil.py'}:Evil"
    (sent / "card.json").write_text(json.dumps(card))
    ppl("sample", sent, "--out", tmp_path / "samples.npz", code=2)
    assert not (tmp_path / "ran").exists()


def test_show_serves_ones_own_program(ppl, own_program):
    text = ppl("show", f"{own_program}:Factors", "--set", "width=6").stdout
    assert "observed" in text
    assert "latent" in text


def test_a_file_finds_its_neighbours_and_runs_once(own_program):
    log = own_program.with_name("log")
    other = own_program.with_name("other.py")
    other.write_text(f"from own import Factors\nwith open({str(log)!r}, 'a') as log:\n    log.write('ran ')\n")
    programs = [build_program(f"{other}:Factors", {"width": 4}) for _ in range(2)]
    assert log.read_text() == "ran "
    assert programs[0].factors == 2


@pytest.mark.own_compile
def test_ctrl_c_while_training_keeps_the_run_and_says_how_to_go_on(ppl, own_program, rows, tmp_path):
    file, run = own_program.with_name("interrupting.py"), tmp_path / "run"
    file.write_text(INTERRUPTING)
    args = ["fit", f"{file}:Interrupting", "--data", rows, "--out", run, "--set", "width=6", "--quiet"]
    stopped = ppl(*args, "--set", "after=20", "--steps", 150, code=130)
    assert "--resume" in stopped.stderr
    reached = load(run, build_program(f"{file}:Interrupting", {"width": 6, "after": 0})).card["metrics"]["steps"]
    assert 0 < reached < 20
    ppl(*args, "--set", "after=0", "--steps", reached + 2, "--resume")
    history = load(run, build_program(f"{file}:Interrupting", {"width": 6, "after": 0})).history
    assert list(history["step"]) == list(range(1, reached + 3))


@pytest.mark.own_compile
def test_ctrl_c_before_training_says_so_in_one_line(ppl, own_program, rows, tmp_path):
    file = own_program.with_name("at_once.py")
    file.write_text(INTERRUPTING)
    args = ["--data", rows, "--out", tmp_path / "run", "--set", "width=6", "--set", "after=1", "--quiet"]
    assert "interrupted" in ppl("fit", f"{file}:Interrupting", *args, code=130).stderr
