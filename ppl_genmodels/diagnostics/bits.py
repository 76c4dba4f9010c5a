r"""Bits per dimension: the evidence of data of levels, as it is compared between densities of images.

Convention of this module: the evidence is that of the levels themselves, in nats for each datum, as
:meth:`ppl_genmodels.Fitted.log_evidence` gives it of a program whose observed site is discrete; a bound on it from
below is a bound on the bits from above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ppl_genmodels.errors import DataError

__all__ = ["BitsPerDimension", "bits_per_dimension"]


class BitsPerDimension(NamedTuple):
    """Bits per dimension of data.

    Attributes:
        mean: Over the data.
        standard_error: Of the mean, over the data; NaN for a single datum.
    """

    mean: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.standard_error:.3f} bits per dimension"


def bits_per_dimension(log_evidence: ArrayLike, event_shape: Sequence[int]) -> BitsPerDimension:
    r"""The mean of :math:`-\log_2 p(x) / D` over data, with its standard error.

    Args:
        log_evidence: :math:`\log p(x)` in nats, or bounds on it, shape (rows,).
        event_shape: The shape of one datum, of which :math:`D` is the number of entries.

    Raises:
        DataError: When there is not one number for each row.

    References:
        Theis, van den Oord and Bethge (2016), A note on the evaluation of generative models, section 3.1; van den Oord,
        Kalchbrenner and Kavukcuoglu (2016), Pixel Recurrent Neural Networks, section 5.

    Example:
        >>> print(bits_per_dimension(np.log([2.0**-16, 2.0**-48]), (2, 4, 4)))
        1.000 ± 0.500 bits per dimension
    """
    values = np.asarray(log_evidence, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise DataError(
            f"bits_per_dimension: log_evidence has shape {values.shape}, expected (rows,). Remedy: "
            f"fitted.log_evidence(data), of a program whose latent sites all belong to one datum."
        )
    bits = -values / (math.prod(event_shape) * math.log(2))
    error = bits.std(ddof=1) / math.sqrt(len(bits)) if len(bits) > 1 else math.nan
    return BitsPerDimension(float(bits.mean()), float(error))
