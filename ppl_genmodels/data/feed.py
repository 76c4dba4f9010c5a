"""Batches on their way to a device, so that the device does not wait for them.

Convention of this module: arrays that fit are sent to a GPU once and rows are chosen there; other arrays for a GPU, and
arrays on the disk, are read one batch ahead by a thread; a ``DataLoader`` reads ahead by its own workers. None of this
changes which rows a batch has or touches torch's random state.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

import torch
from torch import Tensor

from ppl_genmodels.data.ahead import ahead
from ppl_genmodels.data.batches import Batch, Batches, LoaderBatches
from ppl_genmodels.data.gather import is_mapped
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.data.share import Share
from ppl_genmodels.errors import DataError

__all__ = ["RESIDENT_SHARE", "Feed", "LoaderFeed", "Weighted", "feed_of"]

RESIDENT_SHARE = 0.25
"""Arrays are kept on a GPU when they take at most this share of the memory that is free when training begins."""

Place = Callable[[Batch], Batch]
"""From arguments to the same arguments as a program takes them, on its device."""
Weighted = tuple[Batch, float]
"""The part of a batch that a process takes, and the weight of its mean (:class:`~ppl_genmodels.data.share.Share`)."""

Deliveries = Generator[Weighted, None, None]


class Feed:
    """The batches of rows as one process takes them, on its device.

    Args:
        batches: The batches.
        place: What puts arguments on the device.
        device: The device.
        share: The part of each batch that this process takes.

    Example:
        >>> batches = Batches(Rows.of(torch.arange(5.0)), batch_size=2, seed=0)
        >>> feed = Feed(batches, lambda batch: batch, torch.device("cpu"), Share())
        >>> [args[0].tolist() for (args, _), weight in feed.in_order()]
        [[0.0, 1.0], [2.0, 3.0], [4.0]]
    """

    def __init__(self, batches: Batches, place: Place, device: torch.device, share: Share) -> None:
        self.batches, self.place, self.device, self.share = batches, place, device, share
        rows = batches.rows
        self._floating = torch.get_default_dtype()  # taken here: precisions change it while a step runs
        self._resident = _fits(rows, device)
        self._rows = rows.sent_to(device) if self._resident else rows
        self._pins = device.type == "cuda" and not self._resident and rows.dataset is None
        self._ahead = self._pins or any(map(is_mapped, rows.arrays().values()))

    def epoch(self, number: int, skip: int = 0) -> Deliveries:
        """The batches of one epoch, the first ``skip`` of them left out."""
        order = self.batches.order(number)
        order = order.to(self.device) if self._resident else order
        return self._delivered(order.split(self.batches.batch_size)[skip:])

    def in_order(self) -> Deliveries:
        """All rows in their own order."""
        return self._delivered(self.batches.slices())

    def drawn(self) -> Batch:
        """As many rows as a batch has, drawn at random with replacement by torch's generator."""
        index = torch.randint(len(self.batches.rows), (self.batches.batch_size,), device="cpu")
        return self.place(self._rows.take(index.to(self.device) if self._resident else index, self._floating))

    def _delivered(self, indices: Iterable[Tensor | slice]) -> Deliveries:
        taken = map(self._take, indices)
        for batch, weight in ahead(taken) if self._ahead else taken:
            yield self.place(batch), weight

    def _take(self, index: Tensor | slice) -> Weighted:
        if isinstance(index, slice):
            part, weight = self.share.of(index.stop - index.start)
            chosen: Tensor | slice = slice(index.start + part.start, index.start + part.stop)
        else:
            part, weight = self.share.of(len(index))
            chosen = index[part]
        batch = self._rows.take(chosen, self._floating)
        return (_pinned(batch, self.device) if self._pins else batch), weight


class LoaderFeed:
    """The batches of a user's ``DataLoader`` as one process takes them: each is loaded whole, and its part is kept.

    Args:
        batches: The batches.
        place: What puts arguments on the device.
        share: The part of each batch that this process takes.
    """

    def __init__(self, batches: LoaderBatches, place: Place, share: Share) -> None:
        self.batches, self.place, self.share = batches, place, share

    def epoch(self, number: int, skip: int = 0) -> Deliveries:
        """The batches of one epoch, the first ``skip`` of them left out."""
        for batch in self.batches.epoch(number, skip):
            part, weight = (batch, 1.0) if self.share.processes == 1 else self._part(*batch)
            yield self.place(part), weight

    def drawn(self) -> None:
        """Nothing: a loader gives rows in its own order alone."""

    def _part(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Weighted:
        values = (*args, *kwargs.values())
        rows = next((len(value) for value in values if isinstance(value, Tensor) and value.dim() > 0), 0)
        if rows == 0:
            raise DataError(
                "a batch of the DataLoader holds no tensor of rows, so that several processes cannot share it. "
                "Remedy: devices=1, or a collate_fn that gives tensors."
            )
        part, weight = self.share.of(rows)
        cut = {name: _cut(value, part, rows) for name, value in kwargs.items()}
        return (tuple(_cut(value, part, rows) for value in args), cut), weight


def feed_of(batches: Batches | LoaderBatches, place: Place, device: torch.device, share: Share) -> Feed | LoaderFeed:
    """The feed of either kind of batches."""
    if isinstance(batches, LoaderBatches):
        return LoaderFeed(batches, place, share)
    return Feed(batches, place, device, share)


def _fits(rows: Rows, device: torch.device) -> bool:
    if device.type != "cuda" or rows.dataset is not None:
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return rows.size_in_bytes <= RESIDENT_SHARE * free


def _pinned(batch: Batch, device: torch.device) -> Batch:
    """The same batch in memory from which a GPU copies by itself; the thread that asks must be at that device."""
    args, kwargs = batch
    with torch.cuda.device(device):
        return tuple(value.pin_memory() for value in args), {n: value.pin_memory() for n, value in kwargs.items()}


def _cut(value: Any, part: slice, rows: int) -> Any:
    return value[part] if isinstance(value, Tensor) and value.dim() > 0 and len(value) == rows else value
