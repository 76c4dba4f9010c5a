"""Data as rows: what is accepted, in which dtype it is handed on, and which rows are the hard ones."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ppl_genmodels.data import scan
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.data.scan import count_missing, first_infinite, first_missing, hard_rows

NAN = float("nan")
GRID = np.arange(12.0).reshape(4, 3)


class Squares(Dataset):
    """Items that are made, not stored: a row and its square, by name."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"x": np.float64(index), "y": index**2}


def first_argument(data, index=(0, 2)):
    args, kwargs = Rows.of(data).take(list(index))
    return next(iter((*args, *kwargs.values())))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", torch.int64),
        ("uint16", torch.int64),
        ("int32", torch.int64),
        ("bool", torch.float32),
        ("float16", torch.float32),
        ("float64", torch.float32),
        (">f4", torch.float32),
        (">i2", torch.int64),
        ("longdouble", torch.float32),
    ],
)
def test_numbers_become_the_default_dtype_and_integers_int64(dtype, expected):
    taken = first_argument(np.array([0, 1, 1]).astype(dtype))
    assert taken.dtype == expected
    assert taken.tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int8, torch.bool])
def test_tensors_follow_the_same_rule(dtype):
    taken = first_argument(torch.tensor([0, 1, 1]).to(dtype))
    assert taken.dtype == (torch.int64 if dtype == torch.int8 else torch.float32)
    assert taken.tolist() == [0, 1]


def test_another_default_dtype_is_followed():
    torch.set_default_dtype(torch.float64)
    try:
        assert first_argument(GRID.astype("float32")).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_tensor_loses_its_gradient():
    assert not first_argument(torch.ones(3, requires_grad=True)).requires_grad


SOURCES = {
    "array": GRID,
    "tensor": torch.from_numpy(GRID),
    "list": GRID.tolist(),
    "frame": pd.DataFrame(GRID, columns=["a", "b", "c"]),
    "dict": {"x": GRID},
    "tuple": (GRID, np.arange(4)),
    "tensor data set": TensorDataset(torch.from_numpy(GRID)),
    "loader": DataLoader(TensorDataset(torch.from_numpy(GRID)), batch_size=2),
    "read-only": np.frombuffer(GRID.tobytes()).reshape(4, 3),
    "reversed twice": GRID[::-1][::-1],
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_source_gives_the_same_rows(name):
    assert len(Rows.of(SOURCES[name])) == 4
    assert torch.equal(first_argument(SOURCES[name]), torch.from_numpy(GRID[[0, 2]]).float())


def test_a_series_is_one_number_a_row():
    assert first_argument(pd.Series([1, 2, 3])).tolist() == [1, 3]


def test_names_and_positions_are_kept():
    args, kwargs = Rows.of({"x": GRID, "y": np.arange(4)}).take(slice(1, 3))
    assert (args, list(kwargs), kwargs["y"].tolist()) == ((), ["x", "y"], [1, 2])
    args, kwargs = Rows.of((GRID, np.arange(4))).take(slice(1, 3))
    assert (len(args), kwargs, args[1].tolist()) == (2, {}, [1, 2])


def test_items_of_a_data_set_are_collated_in_the_dtype_of_arrays():
    args, kwargs = Rows.of(Squares()).take([3, 1])
    assert args == ()
    assert kwargs["x"].dtype == torch.float32
    assert kwargs["y"].tolist() == [9, 1]


def test_a_loaders_own_collation_is_used():
    loader = DataLoader(Squares(), collate_fn=lambda items: torch.tensor([item["y"] for item in items]))
    (y,), kwargs = Rows.of(loader).take([2, 3])
    assert (y.tolist(), kwargs) == ([4, 9], {})


@pytest.mark.parametrize("source", [GRID, torch.from_numpy(GRID), {"x": GRID}, TensorDataset(torch.from_numpy(GRID))])
def test_a_subset_is_its_rows_in_order(source):
    subset = Rows.of(source).subset([3, 0, 2])
    assert len(subset) == 3
    args, kwargs = subset.take(slice(0, 2))
    assert torch.equal(next(iter((*args, *kwargs.values()))), torch.from_numpy(GRID[[3, 0]]).float())


def test_a_subset_of_a_subset_of_a_data_set():
    _, kwargs = Rows.of(Squares()).subset([3, 2, 1]).subset([2, 0]).take([0, 1])
    assert kwargs["y"].tolist() == [1, 9]


def test_a_subset_copies_nothing_and_says_its_shape():
    array = np.zeros((1000, 3), dtype=np.uint8)
    subset = Rows.of(array).subset(range(10))
    array[4] = 7
    assert subset.take([4])[0][0].tolist() == [[7, 7, 7]]
    assert subset.summary()["arrays"] == {"data": {"shape": [10, 3], "dtype": "uint8"}}


def test_a_memory_map_is_read_in_pieces(tmp_path, monkeypatch):
    """No piece that is read is longer than the limit, and the answer is that of the whole."""
    monkeypatch.setattr(scan, "PIECE", 30)
    array = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    array[41, 1] = NAN
    np.save(tmp_path / "x.npy", array)
    longest = []

    class Watched(np.memmap):
        def __getitem__(self, index):
            part = super().__getitem__(index)
            longest.append(len(part) if part.ndim else 1)
            return part

    mapped = np.load(tmp_path / "x.npy", mmap_mode="r").view(Watched)
    rows = Rows.of(mapped)
    found = rows.extremes()
    assert max(longest) <= 10
    assert set(found) == {0, 1, 41, *np.nanargmax(array, 0), *np.nanargmin(array, 0)}
    assert rows.missing == 1


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("piece", [3, 1000])
def test_hard_rows_hold_the_limits_of_each_column(kind, piece, monkeypatch):
    monkeypatch.setattr(scan, "PIECE", piece)
    array = np.ones((20, 2))
    array[7, 0], array[9, 1], array[12, 0], array[15, 1], array[18, 0] = 5, 50, -2, NAN, 1.5
    assert hard_rows(kind(array)) == {7, 9, 12, 0, 15, 18}


def test_wide_arrays_are_searched_as_a_whole():
    array = np.zeros((10, scan.COLUMNS + 1))
    array[3, 5], array[8, 60], array[6, 2] = 2, -1, NAN
    assert hard_rows(array) == {3, 8, 6}


def test_integers_and_booleans_have_limits_too():
    assert hard_rows(np.array([3, 3, 250, 0, 3], dtype=np.uint8)) == {2, 3}
    assert hard_rows(np.array([True, True, False])) == {0, 2}


def test_a_column_of_nothing_but_nan_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hard_rows(np.full((3, 2), NAN)) == {0}


def test_extremes_are_the_first_rows_and_the_hard_ones():
    x = np.zeros((100, 2))
    x[60, 1] = 9.0
    labels = np.zeros(100, dtype=int)
    labels[80] = 12
    assert Rows.of({"x": x, "y": labels}).extremes() == [0, 1, 60, 80]


def test_missing_values_are_counted_and_found():
    image = np.zeros((6, 2, 3))
    image[4, 1, 2] = image[5, 0, 0] = NAN
    rows = Rows.of({"labels": np.zeros(6), "image": image})
    assert rows.missing == 2
    assert rows.first_missing() == ("image", (4, 1, 2))
    assert Rows.of(np.zeros(3, dtype=int)).first_missing() is None


def test_scans_of_one_column_give_row_numbers():
    column = np.array([0.0, NAN, np.inf, NAN])
    assert (count_missing(column), first_missing(column), first_infinite(column)) == (2, (1,), (2,))
    assert (count_missing(np.arange(3)), first_infinite(np.arange(3))) == (0, None)


def test_the_digest_knows_the_data_and_not_their_container():
    digest = Rows.of(GRID).summary()["digest"]
    assert Rows.of(torch.from_numpy(GRID)).summary()["digest"] == digest
    changed = GRID.copy()
    changed[3, 2] += 1
    assert Rows.of(changed).summary()["digest"] != digest
    assert Rows.of(GRID[::-1]).summary()["digest"] != digest


def test_the_summary_counts_rows_and_missing_values():
    array = np.ones((5, 2), dtype="float32")
    array[1, 1] = NAN
    summary = Rows.of(array).summary()
    assert (summary["rows"], summary["missing"]) == (5, 1)
    assert summary["arrays"] == {"data": {"shape": [5, 2], "dtype": "float32"}}
    assert Rows.of(Squares()).summary() == {"rows": 4, "dataset": "Squares"}
