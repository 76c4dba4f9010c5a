"""Data by name: what each kind of source gives, and what is said of one that is damaged."""

import gzip
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ppl_genmodels.data import load
from ppl_genmodels.errors import DataError, OptionError, UnknownNameError

ROWS, HEIGHT, WIDTH = 6, 2, 3
PIXELS = np.linspace(0, 255, ROWS * HEIGHT * WIDTH).round().astype(np.uint8)
PIXELS = PIXELS.reshape(ROWS, HEIGHT, WIDTH)
TABLE = pd.DataFrame({"height": [1.5, 2.5, 3.5], "count": [1, 2, 3]})


def idx_bytes(array):
    sizes = np.array(array.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_idx(folder, prefix="train", compressed=False, labels=ROWS):
    end, pack = (".gz", gzip.compress) if compressed else ("", bytes)
    images = folder / f"{prefix}-images-idx3-ubyte{end}"
    images.write_bytes(pack(idx_bytes(PIXELS)))
    if labels:
        numbers = np.arange(labels, dtype=np.uint8)
        (folder / f"{prefix}-labels-idx1-ubyte{end}").write_bytes(pack(idx_bytes(numbers)))
    return images


def test_digits_are_split_into_rows_that_no_other_split_has():
    train, test = load("digits"), load("digits", "test")
    assert train.rows + test.rows == 1797
    assert train.data.dtype == np.float32
    assert (train.data.min(), train.data.max()) == (0.0, 1.0)
    together = np.concatenate([train.data, test.data])
    assert len(np.unique(together, axis=0)) == 1797


def test_every_digit_has_the_same_share_in_both_splits():
    share = [np.bincount(load("digits", s).labels) / load("digits", s).rows for s in ("train", "test")]
    assert np.abs(share[0] - share[1]).max() < 0.005


def test_images_are_the_same_pixels_in_their_places():
    flat, images = load("digits"), load("digits", images=True)
    assert images.data.shape == (1437, 1, 8, 8)
    assert np.array_equal(images.data.reshape(1437, 64), flat.data)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_idx_folder_gives_pixels_over_255_and_labels(tmp_path, compressed, split, prefix):
    write_idx(tmp_path, prefix, compressed)
    loaded = load(tmp_path, split)
    assert np.array_equal(loaded.data, PIXELS.reshape(ROWS, -1).astype(np.float32) / 255)
    assert loaded.data.dtype == np.float32
    assert loaded.labels.tolist() == list(range(ROWS))


def test_idx_folder_without_labels_has_none(tmp_path):
    write_idx(tmp_path, labels=0)
    assert load(tmp_path).labels is None


def test_threshold_is_one_above_a_half(tmp_path):
    write_idx(tmp_path)
    binary = load(tmp_path, binarize="threshold").data
    assert np.array_equal(binary, (PIXELS.reshape(ROWS, -1) > 127.5).astype(np.float32))


def test_drawn_pixels_are_binary_with_the_grey_level_as_their_mean():
    grey = load("digits").data
    draws = np.stack([load("digits", binarize="sample", seed=seed).data for seed in range(20)])
    assert set(np.unique(draws)) == {0.0, 1.0}
    error = np.sqrt((grey * (1 - grey)).sum() / 20)
    assert abs(draws.mean(0).sum() - grey.sum()) < 4 * error
    assert (draws.mean(0)[grey == 0] == 0).all()
    assert (draws.mean(0)[grey == 1] == 1).all()


def test_drawn_pixels_repeat_under_one_seed_only():
    one, same, other = (load("digits", binarize="sample", seed=seed).data for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_npy_is_mapped_from_the_disk_with_its_dtype(tmp_path):
    array = np.arange(12, dtype=np.float64).reshape(4, 3)
    np.save(tmp_path / "rows.npy", array)
    loaded = load(tmp_path / "rows.npy")
    assert isinstance(loaded.data, np.memmap)
    assert loaded.data.dtype == np.float64
    assert np.array_equal(loaded.data, array)


def test_npz_gives_arguments_by_name_and_keeps_labels_aside(tmp_path):
    effect, error = np.arange(3.0), np.ones(3)
    np.savez(tmp_path / "schools.npz", effect=effect, error=error, labels=np.array(["a", "b", "c"]))
    loaded = load(tmp_path / "schools.npz")
    assert set(loaded.data) == {"effect", "error"}
    assert np.array_equal(loaded.data["effect"], effect)
    assert loaded.labels.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", ["label", "labels"])
def test_table_gives_one_array_its_columns_and_its_labels(tmp_path, suffix, name):
    table, path = TABLE.assign(**{name: ["u", "v", "u"]}), tmp_path / f"table{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    loaded = load(path)
    assert np.array_equal(loaded.data, TABLE.to_numpy(np.float32))
    assert loaded.columns == ("height", "count")
    assert loaded.labels.tolist() == ["u", "v", "u"]
    assert loaded.labels.dtype.kind == "U"


def test_missing_cells_are_nan(tmp_path):
    (tmp_path / "holes.csv").write_text("a,b\n1,\n,4\n")
    assert np.isnan(load(tmp_path / "holes.csv").data).tolist() == [[False, True], [True, False]]


def test_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no data set 'digit'.*Did you mean 'digits'"):
        load("digit")


def test_missing_file_offers_the_nearest_in_its_folder(tmp_path):
    np.save(tmp_path / "measured.npy", np.ones(3))
    with pytest.raises(DataError, match=r"no file or folder .*mesured\.npy.*Did you mean .*measured\.npy"):
        load(tmp_path / "mesured.npy")


@pytest.mark.parametrize("option", [{"split": "valid"}, {"binarize": "half"}])
def test_unknown_option_value_lists_the_known_ones(option):
    with pytest.raises(OptionError, match=r"is unknown\. Remedy: use one of "):
        load("digits", **option)


def test_files_have_no_pixels_to_binarise(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    with pytest.raises(OptionError, match=r"x\.npy.*binarize and images serve digits"):
        load(tmp_path / "x.npy", binarize="sample")


def test_folder_without_the_split_lists_what_it_holds(tmp_path):
    write_idx(tmp_path, "train")
    with pytest.raises(DataError, match=r"no IDX images of the test split: found train-.*t10k-images"):
        load(tmp_path, "test")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"\x00\x00\x0b" + raw[3:], r"begins with 0x00000b03, expected 0x00000803"),
        (lambda raw: raw[:-5], r"47 bytes where its header announces 52.*cut short"),
        (lambda raw: raw[:9], r"9 bytes where its header announces.*cut short"),
        (lambda raw: raw + b"more", r"56 bytes where its header announces 52"),
        (lambda raw: b"", r"not an IDX file"),
        (lambda raw: gzip.compress(raw)[:-9], r"gzip file cut short or damaged"),
        (lambda raw: gzip.compress(raw)[:20] + b"\x00" * 30, r"gzip file cut short or damaged"),
    ],
)
def test_damaged_idx_is_refused_by_name(tmp_path, damage, message):
    path = write_idx(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte.*{message}"):
        load(tmp_path)


def test_images_and_labels_of_two_data_sets_are_refused(tmp_path):
    write_idx(tmp_path, labels=ROWS + 1)
    with pytest.raises(DataError, match=r"7 labels and .* 6 images: unequal numbers of rows"):
        load(tmp_path)


class Marker:
    """Unpickling one of these would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_a_pickle_is_refused_and_never_run(tmp_path, suffix):
    path = tmp_path / f"array{suffix}"
    path.write_bytes(pickle.dumps(Marker(tmp_path / "ran")))
    with pytest.raises(DataError, match=r"holds a pickle, which is never loaded"):
        load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("save", [np.save, np.savez])
def test_python_objects_are_refused_and_never_run(tmp_path, save):
    path = tmp_path / ("array.npy" if save is np.save else "array.npz")
    save(path, np.array([Marker(tmp_path / "ran")], dtype=object))
    with pytest.raises(DataError, match=r"holds Python objects \(dtype object\)"):
        load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.npy",
            b"PK\x03\x04 and more",
            r"named \.npy and holds a zip or \.npz file.*numpy\.save",
        ),
        ("x.npz", b"\x93NUMPY and more", r"named \.npz and holds a \.npy file.*numpy\.savez"),
        ("x.npz", b"PK\x03\x04 and no more", r"cannot be read as \.npz"),
        ("x.npy", b"", r"named \.npy and is empty"),
        ("x.npy", b"1,2\n3,4\n", r"named \.npy and holds 0x312c320a332c"),
        ("x.parquet", b"a,b\n1,2\n", r"named \.parquet and holds 0x612c620a312c"),
        ("x.parquet", b"PAR1 and no more", r"cannot be read as \.parquet"),
        ("x.csv", b"\x89PNG\r\n\x1a\n\x00\xff\xfe", r"cannot be read as \.csv"),
        ("x.csv", b"", r"is empty.*header line"),
        ("x.csv", b"a,b\n", r"holds no data"),
        ("x.csv", b"a,b\n1,2\n3,4,5\n", r"cannot be read as \.csv.*line 3"),
        ("x.csv", b"a,b\n1,2,3\n4,5,6\n", r"cannot be read as \.csv"),
        ("x.csv", b"a,city,b,name\n1,Ulm,2,u\n", r"columns that are not numbers: 'city', 'name'"),
        ("x.csv", b",a,b\n0,1,2\n1,3,4\n", r"column 1 has no name.*index=False"),
        ("x.csv", b"1.5,2.5\n3.5,4.5\n", r"first line holds numbers \(1\.5, 2\.5.*header line"),
        ("x.csv", b"label\n1\n2\n", r"holds no data"),
        ("x.txt", b"1 2 3", r"suffix '\.txt', expected one of \.npy, \.npz, \.csv, \.parquet"),
    ],
)
def test_content_that_is_not_what_the_name_says(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}'.*{message}") as error:
        load(tmp_path / name)
    assert "\n" not in str(error.value)


def test_truncated_npy_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((10, 10)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"x\.npy' cannot be read as \.npy"):
        load(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["a", "b"]), r"dtype <U1, expected numbers"),
        (np.array([1j]), r"dtype complex128, expected numbers"),
        (np.float32(3.0), r"a single number"),
        (np.ones((0, 4)), r"holds no data"),
        (np.ones((4, 0)), r"holds no data"),
    ],
)
def test_arrays_that_no_program_can_take(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=rf"x\.npy'.*{message}"):
        load(tmp_path / "x.npy")


def test_unequal_rows_are_refused_by_name(tmp_path):
    np.savez(tmp_path / "x.npz", y=np.ones(3), sigma=np.ones(4))
    with pytest.raises(DataError, match=r"unequal numbers of rows: 'y' 3, 'sigma' 4"):
        load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", y=np.ones(3), labels=np.ones(2))
    with pytest.raises(DataError, match=r"'y' 3, 'labels' 2"):
        load(tmp_path / "x.npz")


def test_loading_a_file_larger_than_the_allowed_memory(tmp_path):
    """A process with less memory to spare than the file reads a few of its rows."""
    array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (100_000, 5_000))
    array[77_777] = 3.0
    del array
    script = (
        "import resource, sys; from ppl_genmodels.data import load; import numpy;"
        "resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**29, 3 * 2**29));"
        "print(load(sys.argv[1]).data[77_777].mean())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "x.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "3.0\n"
