"""Batches on their way to a device: the same rows whichever way they go, and nobody's random state touched."""

import threading

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ppl_genmodels as ppl
from ppl_genmodels.data import feed as feeds
from ppl_genmodels.data import gather as gathering
from ppl_genmodels.data.ahead import ahead
from ppl_genmodels.data.batches import Batches, LoaderBatches
from ppl_genmodels.data.feed import Feed, feed_of
from ppl_genmodels.data.gather import gather
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.data.share import Share
from ppl_genmodels.errors import DataError
from ppl_genmodels.inference.state import placed

ROWS = 23
NUMBERS = np.arange(3.0 * ROWS, dtype=np.float32).reshape(ROWS, 3)
HOST = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "x.npy", NUMBERS)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("data-ahead")]


def feed(data, share=None, device=HOST, place=lambda batch: batch):
    return Feed(Batches(Rows.of(data), 5, seed=0), place, device, share or Share())


def values(delivered):
    return [args[0] for (args, _), _ in delivered]


def assert_same(received, expected):
    assert len(received) == len(expected)
    for one, other in zip(received, expected, strict=True):
        assert torch.equal(one.cpu(), other)
        assert one.dtype == other.dtype


def test_items_made_ahead_come_in_order_and_one_at_a_time():
    made = []
    iterator = ahead(made.append(number) or number for number in range(5))
    assert made == []
    assert next(iterator) == 0
    assert next(iterator) == 1
    assert made in ([0, 1], [0, 1, 2])
    assert list(iterator) == [2, 3, 4]
    assert threads() == []


def test_an_error_is_raised_where_its_item_would_have_come():
    def items():
        yield 1
        raise OSError("the disk is gone")

    iterator = ahead(items())
    assert next(iterator) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(iterator)
    assert threads() == []


def test_the_thread_ends_when_the_iterator_is_left_before_its_end(mapped):
    delivered = feed(mapped).epoch(0)
    next(delivered)
    assert len(threads()) == 1
    delivered.close()
    assert threads() == []


@pytest.mark.parametrize("skip", [0, 2, 5])
def test_arrays_on_the_disk_and_in_memory_give_the_batches_of_an_epoch(mapped, skip):
    expected = [args[0] for args, _ in Batches(Rows.of(NUMBERS), 5, seed=0).epoch(3, skip)]
    for data in (mapped, NUMBERS, torch.from_numpy(NUMBERS)):
        assert_same(values(feed(data).epoch(3, skip)), expected)


def test_all_rows_in_their_own_order(mapped):
    for data in (mapped, NUMBERS, torch.from_numpy(NUMBERS)):
        assert_same(values(feed(data).in_order()), list(torch.from_numpy(NUMBERS).split(5)))


def test_reading_ahead_leaves_the_random_state_to_those_who_draw(mapped):
    torch.manual_seed(0)
    expected = [torch.rand(()) for _ in range(5)]
    torch.manual_seed(0)
    assert [torch.rand(()) for _ in feed(mapped).epoch(0)] == expected


def test_batches_have_the_precision_of_the_beginning(mapped):
    """Another thread's default dtype is everybody's: a step in double precision must not reach the next batch."""
    delivered = feed(mapped)
    torch.set_default_dtype(torch.float64)
    try:
        assert {batch.dtype for batch in values(delivered.epoch(0))} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("processes", [2, 3, 8])
@pytest.mark.parametrize("kind", ["array", "loader"])
def test_parts_make_up_the_batch_and_their_weighted_means_its_mean(kind, processes):
    """The last batch has three rows: of eight processes five take the first of them with weight zero."""

    def delivered(share):
        loader = DataLoader(TensorDataset(torch.from_numpy(NUMBERS)), batch_size=5, shuffle=True)
        batches = LoaderBatches(loader, seed=0) if kind == "loader" else Batches(Rows.of(NUMBERS), 5, seed=0)
        return list(feed_of(batches, lambda batch: batch, HOST, share).epoch(1))

    whole = values(delivered(Share()))
    parts = [delivered(Share(process, processes)) for process in range(processes)]
    for batch, *delivery in zip(whole, *parts, strict=True):
        pieces = [(args[0], weight) for (args, _), weight in delivery]
        assert torch.equal(torch.cat([piece for piece, weight in pieces if weight > 0]), batch)
        mean = sum(weight * piece.mean(0) for piece, weight in pieces) / processes
        torch.testing.assert_close(mean, batch.mean(0))
        assert all(torch.equal(piece, batch[:1]) for piece, weight in pieces if weight == 0)


def test_a_loader_without_tensors_cannot_be_shared():
    loader = DataLoader(TensorDataset(torch.ones(4)), batch_size=2, collate_fn=lambda items: {"x": 3})
    shared = feed_of(LoaderBatches(loader, 0), lambda batch: batch, HOST, Share(0, 2))
    with pytest.raises(DataError, match=r"holds no tensor of rows.*Remedy: devices=1"):
        next(shared.epoch(0))


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(3))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", dist.Normal(self.loc, 10.0).to_event(1), obs=x)


def fit(data, **settings):
    settings = {"batch_size": 5, "epochs": 2, "progress": False, "accelerator": "cpu"} | settings
    return ppl.fit(Mean(), data, **settings)


@pytest.mark.parametrize("validation", [None, 0.3])
def test_a_fit_to_an_array_on_the_disk_is_that_to_the_array(mapped, validation):
    one, other = (fit(data, validation=validation) for data in (mapped, NUMBERS))
    assert torch.equal(one.program.loc, other.program.loc)
    assert one.history.drop(columns="time").equals(other.history.drop(columns="time"))
    assert threads() == []


class Breaking(np.memmap):
    """An array whose disk fails when batches are read."""

    def __getitem__(self, index):
        if isinstance(index, np.ndarray) and len(index) == 5:
            raise OSError("input/output error of the disk")
        return super().__getitem__(index)


def test_a_disk_that_fails_ends_the_fit_with_its_own_error(mapped):
    with pytest.raises(OSError, match="input/output error of the disk"):
        fit(mapped.view(Breaking))
    assert threads() == []


ARRAYS = {
    "by rows": NUMBERS,
    "by columns": np.asfortranarray(NUMBERS),
    "read-only": np.frombuffer(NUMBERS.tobytes(), np.float32).reshape(NUMBERS.shape),
    "every other row": np.repeat(NUMBERS, 2, 0)[::2],
    "tensor": torch.from_numpy(NUMBERS),
    "tensor by columns": torch.from_numpy(NUMBERS.T.copy()).T,
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("index", [[7, 0, 7], torch.tensor([3, 1]), range(2, 9), slice(4, 9), slice(None)], ids=str)
def test_rows_are_gathered_from_any_layout(name, index):
    received = gather(ARRAYS[name], index)
    assert received.is_contiguous()
    assert np.array_equal(received.numpy(), NUMBERS[index if isinstance(index, slice) else np.asarray(index)])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool", "float64", ">f4"])
def test_rows_sent_to_a_device_in_pieces_are_taken_as_before(dtype, monkeypatch):
    monkeypatch.setattr(gathering, "PIECE", 40)
    rows = Rows.of({"x": NUMBERS.astype(dtype), "y": torch.arange(ROWS)}).subset([20, 3, 5, 11, 0])
    sent = rows.sent_to(HOST)
    for index in ([4, 0, 2], slice(1, 3)):
        for name, expected in rows.take(index)[1].items():
            assert torch.equal(sent.take(index)[1][name], expected)


@needs_gpu
@pytest.mark.parametrize("share", [0.25, 0.0], ids=["kept on the device", "prefetched"])
def test_a_gpu_gets_the_batches_of_the_host(mapped, share, monkeypatch):
    monkeypatch.setattr(feeds, "RESIDENT_SHARE", share)
    device = torch.device("cuda", 0)
    module = nn.Linear(1, 1).to(device)
    for data in (mapped, NUMBERS, torch.from_numpy(NUMBERS)):
        delivered = feed(data, device=device, place=lambda batch: placed(batch, module))
        received = values(delivered.epoch(1))
        assert {batch.device for batch in received} == {device}
        assert_same(received, values(feed(data).epoch(1)))
        assert_same(values(delivered.in_order()), values(feed(data).in_order()))
    assert threads() == []


@needs_gpu
def test_a_fit_on_a_gpu_does_not_depend_on_where_the_rows_are(monkeypatch):
    kept = fit(NUMBERS, accelerator="cuda", validation=0.3)
    monkeypatch.setattr(feeds, "RESIDENT_SHARE", 0.0)
    prefetched = fit(NUMBERS, accelerator="cuda", validation=0.3)
    assert torch.equal(kept.program.loc, prefetched.program.loc)
