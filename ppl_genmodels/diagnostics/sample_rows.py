r"""Samples as tables of numbers: what every comparison of two samples asks of its arguments.

Convention of this module: a sample has the shape (rows, \*event), as an array, a tensor or a frame; a row is taken
as one flat vector of double precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppl_genmodels.diagnostics.fitted_like import to_array
from ppl_genmodels.errors import DataError

__all__ = ["Values", "checked_rows", "checked_samples"]

Values = NDArray[np.float64]


def checked_samples(where: str, fewest: int = 2, **samples: Any) -> tuple[Values, ...]:
    r"""Samples as tables of the same columns, in the order they are named.

    Args:
        where: Who asks, for the message.
        fewest: How many rows each must have.
        **samples: Their values, shape (rows, \*event), by the names of the arguments.

    Raises:
        DataError: When rows are too few or hold values that are not finite, or events differ in shape.

    Example:
        >>> first, second = checked_samples("mmd_test", first=np.zeros((5, 2, 2)), second=np.ones((3, 2, 2)))
        >>> first.shape, second.shape
        ((5, 4), (3, 4))
    """
    arrays = {name: to_array(values) for name, values in samples.items()}
    tables = tuple(checked_rows(where, name, array, fewest) for name, array in arrays.items())
    events = {name: array.shape[1:] for name, array in arrays.items()}
    if len(set(events.values())) > 1:
        shapes = " and ".join(f"{name} the event shape {event}" for name, event in events.items())
        raise DataError(f"{where}: {shapes}, expected the same. Remedy: pass samples of one kind, (rows, *event) each.")
    return tables


def checked_rows(where: str, name: str, values: Any, fewest: int = 2) -> Values:
    r"""A sample as a table, shape (rows, features); a sample of numbers has one feature.

    Args:
        where: Who asks, for the message.
        name: Of the argument, for the message.
        values: Shape (rows, \*event).
        fewest: How many rows there must be.

    Raises:
        DataError: When there are fewer rows, or values that are not finite.

    Example:
        >>> checked_rows("mmd_test", "first", [1, 2, 3]).shape
        (3, 1)
    """
    array = to_array(values)
    if array.ndim == 0 or len(array) < fewest or array.size == 0:
        raise DataError(
            f"{where}: {name} has the shape {array.shape}, expected (rows, *event) with at least {fewest} rows. "
            f"Remedy: draw more."
        )
    table = array.astype(np.float64).reshape(len(array), -1)
    incomplete = np.flatnonzero(~np.isfinite(table).all(-1))
    if len(incomplete):
        raise DataError(
            f"{where}: {len(incomplete)} of {len(table)} rows of {name} hold NaN or infinite values, the first of them "
            f"row {incomplete[0]}; expected finite values. Remedy: leave these rows out, and ask why they are there."
        )
    return table
