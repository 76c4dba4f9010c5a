"""Damaged checkpoints are refused by name and the one before is used; a full disk stops nothing."""

import errno
import os
import pickle
import shutil
import warnings

import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels.errors import CheckpointError, RunFolderError
from ppl_genmodels.inference import state, training
from ppl_genmodels.inference.checkpoint import Checkpoints, CheckpointWarning
from ppl_genmodels.inference.state import read_state, write_state
from ppl_genmodels.models import VAE

STEPS = 15


@pytest.fixture(autouse=True)
def frequent(monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 4)


def fit(steps=STEPS, seed=0, **settings):
    torch.manual_seed(seed)
    x = torch.eye(9, 6).repeat(3, 1)
    program = VAE(data_dim=6, latent_dim=2, hidden=(4,))
    return ppl.fit(program, x, steps=steps, batch_size=10, progress=False, **settings)


@pytest.fixture(scope="module")
def whole():
    return fit()


@pytest.fixture
def stopped(tmp_path):
    """A run stopped at step 11, with checkpoints of steps 6 and 11."""
    fit(steps=11, out=tmp_path)
    assert names(tmp_path) == ["000000006", "000000011"]
    return tmp_path


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = {
    "tensors cut in half": lambda folder: cut(folder / "tensors.safetensors"),
    "tensors changed in one bit": lambda folder: flip(folder / "tensors.safetensors"),
    "tensors gone": lambda folder: (folder / "tensors.safetensors").unlink(),
    "tree cut in half": lambda folder: cut(folder / "state.json"),
    "tree empty": lambda folder: (folder / "state.json").write_text(""),
    "tree of something else": lambda folder: (folder / "state.json").write_text('{"a": [1]}'),
    "tree no dict": lambda folder: (folder / "state.json").write_text("[]"),
    "tree not text": lambda folder: (folder / "state.json").write_bytes(b"\xff\xfe\x00"),
    "everything gone": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_used(damage, stopped, whole):
    newest = stopped / "checkpoints" / "000000011"
    DAMAGES[damage](newest)
    with pytest.warns(CheckpointWarning, match=f"{newest} is damaged: .* Remedy: .* Passed over") as caught:
        resumed = fit(seed=5, out=stopped, resume=True)
    assert len(caught) == 1
    assert resumed.history["step"].tolist() == list(range(1, STEPS + 1))
    for name, tensor in whole.program.state_dict().items():
        assert torch.equal(resumed.program.state_dict()[name], tensor)
    assert resumed.history["objective"].equals(whole.history["objective"])


def test_what_is_damaged_does_not_push_out_what_is_whole(stopped):
    """The damaged one is of a step that the resumed run has not reached when it writes its next."""
    later = stopped / "checkpoints" / "000000014"
    shutil.move(stopped / "checkpoints" / "000000011", later)
    cut(later / "state.json")
    with pytest.warns(CheckpointWarning, match="000000014"):
        fit(steps=10, out=stopped, resume=True)
    assert names(stopped) == ["000000006", "000000010"]


def test_when_all_are_damaged_nothing_is_begun(stopped):
    for name in names(stopped):
        cut(stopped / "checkpoints" / name / "tensors.safetensors")
    with (
        pytest.warns(CheckpointWarning),
        pytest.raises(CheckpointError, match=r"all 2 checkpoints in .*checkpoints are damaged\. Remedy: start anew"),
    ):
        fit(out=stopped, resume=True)
    assert names(stopped) == ["000000006", "000000011"]


def test_what_a_killed_process_left_half_written_is_cleared(stopped):
    half = stopped / "checkpoints" / ".000000012.partial"
    half.mkdir()
    fit(out=stopped, resume=True)
    assert not half.exists()


def test_the_two_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 1000, 20):
        checkpoints.write(step, {"step": step})
    assert names(tmp_path) == ["000000003", "000000020"]
    assert checkpoints.latest() == {"step": 20}
    checkpoints.write(21, {"step": 21})
    assert names(tmp_path) == ["000000020", "000000021"]


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("module", "name"), [(os, "replace"), (state, "save_file")])
def test_a_full_disk_does_not_stop_training(module, name, stopped, whole, monkeypatch):
    """Checkpoints and the last save warn; what was written before stays; what was fitted is returned."""
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patch.setattr(module, name, full_disk)
        fitted = fit(out=stopped, resume=True)
        with pytest.raises(RunFolderError, match=r"could not write .*No space left on device.*Remedy: free space"):
            fitted.save(stopped / "elsewhere")
    told = [str(warning.message) for warning in caught]
    assert "checkpoint of step 15: could not write" in told[0]
    assert "No space left on device" in told[0]
    assert "the fitted program was not saved: could not write" in told[-1]
    assert all(issubclass(warning.category, CheckpointWarning) for warning in caught)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before
    for parameter, expected in zip(fitted.program.parameters(), whole.program.parameters(), strict=True):
        assert torch.equal(parameter, expected)
    fitted.save(stopped / "elsewhere")
    assert ppl.load(stopped / "elsewhere").history["objective"].equals(whole.history["objective"])


def test_a_failed_save_leaves_the_earlier_one(tmp_path, monkeypatch):
    fitted = fit(steps=2)
    fitted.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(os, "replace", full_disk)
    fitted.history = fitted.history.iloc[:1]
    with pytest.raises(RunFolderError, match="what was written before is untouched"):
        fitted.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


TREE = {
    "numbers": [1, 2.5, float("inf"), True, None],
    "pair": (torch.arange(3), "text"),
    3: {"empty": torch.empty(0, 2), "scalar": torch.tensor(2.0, dtype=torch.float64)},
}


def test_a_state_comes_back_as_it_was(tmp_path):
    write_state(tmp_path / "s", TREE)
    read = read_state(tmp_path / "s")
    assert read["numbers"] == TREE["numbers"]
    assert isinstance(read["pair"], tuple)
    assert torch.equal(read["pair"][0], TREE["pair"][0])
    assert read[3]["empty"].shape == (0, 2)
    assert read[3]["scalar"].dtype == torch.float64


def test_tensors_that_share_memory_come_back_apart(tmp_path):
    base = torch.arange(6.0)
    write_state(tmp_path / "s", {"whole": base, "part": base[2:4], "turned": base.reshape(2, 3).T})
    read = read_state(tmp_path / "s")
    assert torch.equal(read["part"], base[2:4])
    assert torch.equal(read["turned"], base.reshape(2, 3).T)


def test_a_state_is_no_place_for_objects(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot hold a Checkpoints .*Remedy: return tensors, numbers"):
        write_state(tmp_path / "s", {"a": [Checkpoints(tmp_path)]})


def test_nothing_is_unpickled(stopped, monkeypatch):
    """A pickle in the place of a file is refused as damaged, without running what is in it."""

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(stopped / "sprung"),))

    newest = stopped / "checkpoints" / "000000011"
    (newest / "tensors.safetensors").write_bytes(pickle.dumps(Trap()))
    (newest / "planted.pkl").write_bytes(pickle.dumps(Trap()))
    (stopped / "program.pt").write_bytes(pickle.dumps(Trap()))
    monkeypatch.setattr(pickle, "Unpickler", None)
    with pytest.warns(CheckpointWarning, match="000000011 is damaged"):
        fit(out=stopped, resume=True)
    ppl.load(stopped)
    (stopped / "program.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match=r"program\.safetensors cannot be read"):
        ppl.load(stopped)
    assert not (stopped / "sprung").exists()
