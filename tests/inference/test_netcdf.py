"""A posterior on disk: whole under its name or not there, and read by xarray as it was written."""

import os
import shutil
from collections import namedtuple

import numpy as np
import pytest
import xarray

from ppl_genmodels.errors import DataError, RunFolderError
from ppl_genmodels.inference import netcdf
from ppl_genmodels.inference.netcdf import NetcdfStore

resource = pytest.importorskip("resource", reason="limits are set as Unix has them")


def write(path, rows=50, labels=None, step=10):
    with NetcdfStore(path, labels) as store:
        store.begin({"row": rows, "column": 2})
        dims, shape = ("row", "column"), (rows, 2)
        variable = store.create("posterior", "z", dims, shape, np.ones((step, 2), np.float32))
        for start in range(0, rows, step):
            variable[start : start + step] = np.arange(start, start + step)[:, None] + np.array([0.0, 0.5])
        store.create("posterior", "above", ("row",), (rows,), np.ones(rows, bool))[:] = np.arange(rows) > 20
        store.create("posterior", "total", (), (), np.array(3), {"description": "of all"})[...] = 3
        store.finish({"library": "ours"}, {"kind": "group"}, "row")


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_xarray_reads_what_was_written(tmp_path):
    write(tmp_path / "new folder" / "posterior.nc")
    with xarray.open_dataset(tmp_path / "new folder" / "posterior.nc", group="posterior") as read:
        np.testing.assert_array_equal(read["z"], np.arange(50)[:, None] + np.array([0.0, 0.5]))
        assert read["z"].dtype == np.float32
        assert read["above"].dtype == bool
        assert int(read["above"].sum()) == 29
        assert (int(read["total"]), read["total"].attrs["description"]) == (3, "of all")
        assert (list(read.coords), read.attrs["kind"]) == (["column"], "group")
    with xarray.open_dataset(tmp_path / "new folder" / "posterior.nc") as root:
        assert root.attrs["library"] == "ours"
    assert left_in(tmp_path / "new folder") == ["posterior.nc"]


@pytest.mark.parametrize("labels", [[f"row {i} é" for i in range(50)], list(range(100, 150))])
def test_labels_are_coordinates(tmp_path, labels):
    write(tmp_path / "posterior.nc", labels={"row": labels})
    with xarray.open_dataset(tmp_path / "posterior.nc", group="posterior") as read:
        assert list(read["row"].values) == labels
        assert float(read["z"].sel(row=labels[7], column=0)) == 7.0


def test_labels_that_do_not_fit_are_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(DataError, match=r"dim 'row' has length 50, got 3 labels"):
        write(tmp_path / "posterior.nc", labels={"row": [1, 2, 3]})
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_what_is_interrupted_leaves_what_was_there(tmp_path, interruption):
    write(tmp_path / "posterior.nc", rows=20)
    before = (tmp_path / "posterior.nc").read_bytes()

    def interrupted():
        with NetcdfStore(tmp_path / "posterior.nc") as store:
            store.create("posterior", "z", ("row",), (500,), np.ones(100))[:100] = 1.0
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert left_in(tmp_path) == ["posterior.nc"]
    assert (tmp_path / "posterior.nc").read_bytes() == before


@pytest.mark.parametrize("rows", [40_000, 400_000])
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path, rows):
    """A file may not grow beyond some size: what HDF5 would not survive, and what is written when it closes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(RunFolderError, match=r"could not write .*posterior\.nc: .*too large.*Remedy: free space"):
            write(tmp_path / "posterior.nc", rows, step=1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left_in(tmp_path) == []
    write(tmp_path / "posterior.nc")


def test_a_file_that_will_not_fit_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    with pytest.raises(RunFolderError, match=r"it takes .* GiB more, and .* GiB are free"):
        write(tmp_path / "posterior.nc", rows=400)
    assert left_in(tmp_path) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="could not write"):
        write(tmp_path / "file" / "posterior.nc")


def test_two_writers_do_not_meet(tmp_path):
    """The one that ends last has its whole file there."""
    path = tmp_path / "posterior.nc"
    with NetcdfStore(path) as first:
        variable = first.create("posterior", "z", ("row",), (10,), np.ones(10))
        write(path)
        variable[:] = 5.0
        first.finish({}, {}, "row")
    with xarray.open_dataset(path, group="posterior") as read:
        np.testing.assert_array_equal(read["z"], np.full(10, 5.0))
    assert left_in(tmp_path) == ["posterior.nc"]


def test_the_file_is_as_readable_as_any_other(tmp_path):
    write(tmp_path / "posterior.nc")
    (tmp_path / "other").write_text("")
    assert os.stat(tmp_path / "posterior.nc").st_mode == os.stat(tmp_path / "other").st_mode


@pytest.mark.parametrize(
    ("shape", "piece"),
    [((1, 4, 10_000_000, 2), (1, 4, 2**14, 2)), ((1, 500, 10**6, 784), (1, 1, 32, 784)), ((7, 3), (7, 3))],
)
def test_a_piece_on_disk_is_neither_long_nor_short(shape, piece):
    chunks = netcdf._chunks(shape, np.broadcast_to(np.float32(0), piece))
    size = 4 * np.prod(chunks)
    assert size <= netcdf.CHUNK
    assert size > netcdf.CHUNK / 4 or chunks == shape
    assert chunks[:2] == piece[:2]
