"""Inference into a file: data that stay on disk, memory that does not grow, and pictures of what was never loaded."""

import ctypes
import gc
from pathlib import Path

import numpy as np
import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import DataError
from ppl_genmodels.inference import netcdf, replay
from ppl_genmodels.inference.parts import Parts
from ppl_genmodels.models import VAE

COLUMNS, DRAWS, CHUNK = 4, 32, 1024


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    x = torch.randn(200, COLUMNS, generator=torch.Generator().manual_seed(0))
    return ppl.fit(VAE(COLUMNS, 2, hidden=(5,), likelihood="gaussian"), x, steps=30, progress=False)


@pytest.fixture
def mapped(tmp_path):
    """Rows on disk, as many as are asked for."""

    def written(rows):
        path = tmp_path / f"{rows}.npy"
        np.save(path, np.random.default_rng(0).normal(size=(rows, COLUMNS)).astype(np.float32))
        return np.load(path, mmap_mode="r")

    return written


def test_a_memory_map_gives_what_its_array_gives_and_is_read_in_pieces(fitted, mapped, tmp_path, monkeypatch):
    data, taken = mapped(500), []
    take = Rows.take

    def watched(self, index):
        found = take(self, index)
        taken.append(len(found[0][0]))
        return found

    kept = fitted.infer(np.array(data), 5, seed=3)
    monkeypatch.setattr(Rows, "take", watched)
    written = fitted.infer(data, 5, chunk_size=64, seed=3, out=tmp_path / "posterior.nc")
    assert max(taken) <= 64
    for group in kept.groups():
        for name, values in kept[group].items():
            np.testing.assert_allclose(written[group][name], values, rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(written.posterior["z"], kept.posterior["z"])
    written.close()


def test_the_same_file_can_be_written_again(fitted, mapped, tmp_path):
    first = fitted.infer(mapped(70), 3, seed=0, out=tmp_path / "posterior.nc")
    second = fitted.infer(mapped(90), 3, seed=0, out=tmp_path / "posterior.nc")
    assert (first.posterior.sizes["data"], second.posterior.sizes["data"]) == (70, 90)
    np.testing.assert_array_equal(first.posterior["z"][:, :, :64], second.posterior["z"][:, :, :64])
    first.close()
    second.close()


def test_an_interruption_leaves_nothing(fitted, mapped, tmp_path, monkeypatch):
    part, calls = Parts.part, []

    def interrupted(self, *rows):
        calls.append(rows)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return part(self, *rows)

    monkeypatch.setattr(Parts, "part", interrupted)
    (tmp_path / "new").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fitted.infer(mapped(500), 3, chunk_size=64, out=tmp_path / "new" / "posterior.nc")
    assert list((tmp_path / "new").iterdir()) == []


def test_labels_are_checked_before_anything_is_computed(fitted, mapped, tmp_path, monkeypatch):
    monkeypatch.setattr(Parts, "part", None)
    with pytest.raises(DataError, match=r"no dim 'datum'\. Did you mean 'data'"):
        fitted.infer(mapped(50), 3, coords={"datum": range(50)}, out=tmp_path / "posterior.nc")


def anonymous_memory():
    """Bytes that this process alone holds: no pages of files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    return 0


@pytest.fixture
def peak(monkeypatch):
    """The most memory held at any time that something was written, since it was last reset."""
    held, write = [], netcdf._Variable.__setitem__

    def watched(self, index, value):
        held.append(anonymous_memory())
        write(self, index, value)

    monkeypatch.setattr(netcdf._Variable, "__setitem__", watched)
    return held


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux shows it")
def return_freed_memory():
    """Gives back what earlier tests have freed, from which new arrays could be taken unseen."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def test_memory_does_not_grow_with_the_rows(fitted, mapped, peak, tmp_path):
    """Eight times the rows add 69 MB (792 bytes each) to the file, and less than a quarter of that to memory.

    In memory they do, which shows that the measurement sees them.
    """
    few, many = 12_500, 100_000
    out = tmp_path / "posterior.nc"
    fitted.infer(mapped(few), DRAWS, chunk_size=CHUNK, seed=0, out=out).close()
    highest, size = max(peak), out.stat().st_size
    peak.clear()
    return_freed_memory()
    before = anonymous_memory()
    fitted.infer(mapped(many), DRAWS, chunk_size=CHUNK, seed=0, out=out).close()
    growth = out.stat().st_size - size
    assert growth > 68e6
    assert max(peak) - highest < growth / 4
    kept = fitted.infer(mapped(many), DRAWS, chunk_size=CHUNK, seed=0)
    assert anonymous_memory() - before > growth / 2
    assert kept.posterior.sizes["data"] == many


class Opened:
    """A fitted program whose posteriors lie on disk."""

    def __init__(self, fitted, folder):
        self._fitted, self._folder, self.opened = fitted, folder, []

    def __getattr__(self, name):
        return getattr(self._fitted, name)

    def infer(self, data, *args, **settings):
        path = self._folder / f"{len(self.opened)}.nc"
        self.opened.append(self._fitted.infer(data, *args, **settings, out=path))
        return self.opened[-1]


def test_the_report_is_made_from_posteriors_on_disk(fitted, mapped, tmp_path):
    x = np.array(mapped(60))
    kept = diagnostics.report(fitted, tmp_path / "kept", x).read_text()
    opened = Opened(fitted, tmp_path)
    page = diagnostics.report(opened, tmp_path / "opened", x).read_text()
    assert opened.opened
    assert page.count("<img") == kept.count("<img") > 5
    for idata in opened.opened:
        idata.close()


PICTURES = ["plot_khat", "plot_calibration", "plot_predictive", "plot_latent_map", "plot_information"]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_and_their_sentences_take_a_posterior_on_disk(name, fitted, mapped, tmp_path):
    x = np.array(mapped(60))
    settings = {"num_samples": 40, "seed": 0, "predictive": True}
    kept, opened = fitted.infer(x, **settings), fitted.infer(x, **settings, out=tmp_path / "posterior.nc")
    with diagnostics.plain_figures():
        getattr(diagnostics, name)(opened)
    describe = getattr(diagnostics, name.replace("plot_", "describe_"))
    assert describe(opened) == describe(kept)
    opened.close()


@pytest.mark.own_compile
@pytest.mark.parametrize(("mode", "traced"), [("off", False), ("trace", True), ("auto", False)])
def test_runs_are_traced_as_the_fit_was(fitted, mapped, monkeypatch, mode, traced):
    """``compile="auto"`` traces where it pays, which four blocks do not."""
    made, trace = [], replay.Replay._trace
    monkeypatch.setattr(replay.Replay, "_trace", lambda self, *inputs: made.append(self.what) or trace(self, *inputs))
    monkeypatch.setitem(fitted.card, "settings", {**fitted.card["settings"], "compile": mode})
    x = mapped(120)
    fitted.infer(x, 3, seed=0)
    fitted.log_evidence(x, 3)
    fitted.reconstruct(x)
    fitted.sample(3)
    assert bool(made) == traced
