"""Batches: every row once in an epoch, in an order that the seed and the epoch alone decide."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ppl_genmodels.data.batches import Batches, LoaderBatches, split
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import OptionError

COUNT = 23
NUMBERS = torch.arange(float(COUNT))


def stored(seed=0, batch_size=5):
    return Batches(Rows.of(NUMBERS), batch_size, seed)


def loaded(seed=0, **options):
    options = {"shuffle": True} | options
    return LoaderBatches(DataLoader(TensorDataset(NUMBERS), batch_size=5, **options), seed)


def order(batches, epoch=0, skip=0):
    return [args[0].tolist() for args, _ in batches.epoch(epoch, skip)]


KINDS = pytest.mark.parametrize("make", [stored, loaded])


@KINDS
def test_every_row_comes_once_in_an_epoch(make):
    batches = order(make())
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert sorted(number for batch in batches for number in batch) == NUMBERS.tolist()
    assert make().per_epoch == 5


@KINDS
def test_the_order_depends_on_seed_and_epoch_alone(make):
    first = order(make())
    torch.rand(7)
    assert order(make()) == first
    assert order(make(), epoch=1) != first
    assert order(make(seed=1)) != first
    assert order(make(seed=1), epoch=1) != order(make(), epoch=1)


@KINDS
@pytest.mark.parametrize("skip", [0, 1, 3, 5])
def test_skipping_leaves_the_rest_as_it_was(make, skip):
    assert order(make(), epoch=4, skip=skip) == order(make(), epoch=4)[skip:]


@KINDS
@pytest.mark.parametrize("skip", [0, 2])
def test_the_callers_random_state_is_not_touched(make, skip):
    before = torch.get_rng_state()
    order(make(), skip=skip)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loaders_own_generator_is_made_reproducible():
    batches = loaded(generator=torch.Generator())
    first = order(batches)
    assert order(batches, epoch=1) != first
    assert order(batches) == first


class Noisy(Dataset):
    """Items drawn anew at each reading, from the caller's random state."""

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return index + torch.rand(())


@pytest.mark.parametrize("skip", [1, 3])
def test_random_items_after_a_skip_are_those_of_an_epoch_that_was_never_left(skip):
    """At the skip the caller's state is put back to what it was there, as a resumed run does."""
    batches = LoaderBatches(DataLoader(Noisy(), batch_size=5, shuffle=True), seed=0)
    torch.manual_seed(0)
    whole, states = [], []
    for args, _ in batches.epoch(0):
        whole.append(args[0])
        states.append(torch.get_rng_state())
    torch.set_rng_state(states[skip - 1])
    rest = [args[0] for args, _ in batches.epoch(0, skip)]
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[skip:], strict=True))


def test_a_loader_over_single_precision_gets_single_precision():
    loader = DataLoader(TensorDataset(NUMBERS.double(), torch.ones(COUNT, dtype=torch.int32)), batch_size=5)
    args, _ = next(LoaderBatches(loader, 0).epoch(0))
    assert [value.dtype for value in args] == [torch.float32, torch.int64]


def test_one_batch_holds_the_rows_in_their_own_order():
    assert order(stored(batch_size=100)) == [NUMBERS.tolist()]


def test_in_order_is_in_order():
    batches = [args[0] for args, _ in stored().in_order()]
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert torch.equal(torch.cat(batches), NUMBERS)


def rows_of(part):
    return part.take(range(len(part)))[0][0].tolist()


def test_split_parts_are_disjoint_whole_and_reproducible():
    train, held_out = split(Rows.of(NUMBERS), 0.3, seed=0)
    assert (len(train), len(held_out)) == (16, 7)
    assert sorted(rows_of(train) + rows_of(held_out)) == NUMBERS.tolist()
    again, _ = split(Rows.of(NUMBERS.numpy()), 0.3, seed=0)
    assert rows_of(again) == rows_of(train)
    other, _ = split(Rows.of(NUMBERS), 0.3, seed=1)
    assert rows_of(other) != rows_of(train)


def test_split_keeps_arrays_together():
    rows = Rows.of({"x": np.arange(20), "y": -np.arange(20)})
    _, held_out = split(rows, 0.25, seed=0)
    _, kwargs = held_out.take(range(5))
    assert torch.equal(kwargs["x"], -kwargs["y"])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, 0.01, 0.99])
def test_a_fraction_that_leaves_a_part_empty_is_refused(fraction):
    with pytest.raises(OptionError, match=rf"validation={fraction} of 23 rows .* Remedy: a fraction"):
        split(Rows.of(NUMBERS), fraction, seed=0)


def test_a_batch_holds_at_least_one_row():
    with pytest.raises(OptionError, match=r"batch_size must be at least 1, got 0\. Remedy"):
        stored(batch_size=0)
