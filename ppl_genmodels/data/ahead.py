"""Making the next item of an iterable while the present one is used.

Convention of this module: the items are made one after another by a single thread, so that their order, and what the
thread reads, do not depend on who is faster. What it runs must not draw from torch's default generator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each made by a thread while the caller works with the one before.

    An error in the making is raised where its item would have come. The thread ends with the iterator, also when that
    is closed before its end.

    Args:
        items: What is made when its iterator is advanced.

    Example:
        >>> list(ahead(number**2 for number in range(4)))
        [0, 1, 4, 9]
    """
    iterator = iter(items)

    def make() -> tuple[Item, ...]:
        for item in iterator:
            return (item,)
        return ()

    with ThreadPoolExecutor(1, "data-ahead") as thread:
        coming = thread.submit(make)
        while made := coming.result():
            coming = thread.submit(make)
            yield made[0]
