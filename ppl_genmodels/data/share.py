"""How several processes share the rows of a batch.

Convention of this module: every process sees the same batches in the same order and takes a contiguous part of each;
the parts' sizes differ by one row at most.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Share"]


@dataclass(frozen=True)
class Share:
    """The part of every batch that one process takes.

    Attributes:
        process: The number of the process, from 0 on.
        processes: How many there are.

    Example:
        >>> [Share(process, 2).of(5) for process in range(2)]
        [(slice(0, 2, None), 0.8), (slice(2, 5, None), 1.2)]
    """

    process: int = 0
    processes: int = 1

    def of(self, rows: int) -> tuple[slice, float]:
        """The part of a batch, and the weight of a mean over that part.

        The mean over processes of the weighted means is the mean over the batch. A process for which there is no row
        takes the first one with weight zero, because it must take part in what all processes do together.

        Args:
            rows: Rows in the batch.
        """
        if self.processes == 1:
            return slice(0, rows), 1.0
        start, stop = (rows * (self.process + end) // self.processes for end in (0, 1))
        if start == stop:
            return slice(0, 1), 0.0
        return slice(start, stop), (stop - start) * self.processes / rows
