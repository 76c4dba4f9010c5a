"""Batches of rows in an order that depends on nothing but the seed and the epoch.

Convention of this module: an epoch visits every row once; its last batch may be smaller.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ppl_genmodels.data.rows import Rows, arguments
from ppl_genmodels.errors import OptionError

__all__ = ["Batch", "Batches", "LoaderBatches", "split"]

Batch = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Batches:
    """Shuffled batches of rows.

    Args:
        rows: The data.
        batch_size: Rows in a batch; more than there are means all of them.
        seed: Of the shuffling.

    Raises:
        OptionError: When ``batch_size`` is below 1.

    Example:
        >>> batches = Batches(Rows.of(torch.arange(5.0)), batch_size=2, seed=0)
        >>> [len(args[0]) for args, _ in batches.epoch(0)]
        [2, 2, 1]
    """

    rows: Rows
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, got {self.batch_size}. Remedy: batch_size=128.")

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def order(self, number: int) -> Tensor:
        """The positions of the rows in the order in which one epoch visits them, shape (rows,)."""
        if self.per_epoch == 1:
            return torch.arange(len(self.rows))
        return torch.randperm(len(self.rows), generator=_generator(self.seed, number))

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, the first ``skip`` of them left out."""
        return map(self.rows.take, self.order(number).split(self.batch_size)[skip:])

    def in_order(self) -> Iterator[Batch]:
        """All rows in their own order."""
        return map(self.rows.take, self.slices())

    def slices(self) -> list[slice]:
        """The rows of each batch, in their own order."""
        count, size = len(self.rows), self.batch_size
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]


@dataclass(frozen=True)
class LoaderBatches:
    """The batches of a user's ``DataLoader``, its own shuffling made reproducible.

    Args:
        loader: The loader; its data set has a length.
        seed: Of the shuffling.
    """

    loader: DataLoader[Any]
    seed: int

    @cached_property
    def rows(self) -> Rows:
        """The loader's data set as rows."""
        return Rows.of(self.loader)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.loader)

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, the first ``skip`` of them left out.

        The order is drawn with the first item, which is read here from the epoch's own random state; items that are
        left out do not touch the caller's.
        """
        state = _generator(self.seed, number)
        for holder in (self.loader, self.loader.sampler):
            generator = getattr(holder, "generator", None)
            if generator is not None:
                generator.manual_seed(state.initial_seed())
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(state.get_state())
            iterator = iter(self.loader)
            opening = [item for i, item in enumerate(itertools.islice(iterator, max(skip, 1))) if i >= skip]
        yield from map(arguments, itertools.chain(opening, iterator))


def split(rows: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Rows split at random into those to train on and those to validate on.

    Args:
        rows: The data.
        fraction: Share of the second part, strictly between 0 and 1.
        seed: Of the split.

    Raises:
        OptionError: When the fraction is out of range or leaves a part empty.

    Example:
        >>> train, held_out = split(Rows.of(torch.zeros(10, 2)), 0.2, seed=0)
        >>> len(train), len(held_out)
        (8, 2)
    """
    count = round(fraction * len(rows))
    if not 0 < fraction < 1 or not 0 < count < len(rows):
        raise OptionError(
            f"validation={fraction} of {len(rows)} rows leaves a part empty or is no fraction. "
            f"Remedy: a fraction between 0 and 1, or held-out data."
        )
    order = torch.randperm(len(rows), generator=_generator(seed, -1)).tolist()
    return rows.subset(order[count:]), rows.subset(order[:count])


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch + 1) % 2**63)
