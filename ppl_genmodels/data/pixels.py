"""Pixels: grey levels between 0 and 1, and their binarisations.

Convention of this module: pixels are float32 from 0 to 1; a binary pixel is 0.0 or 1.0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ppl_genmodels.errors import DataError, OptionError

__all__ = ["BINARIZATIONS", "binarize_pixels"]

BINARIZATIONS = ("none", "threshold", "sample")


def binarize_pixels(pixels: NDArray[np.float32], how: str, seed: int = 0) -> NDArray[np.float32]:
    r"""Pixels made binary, so that a Bernoulli likelihood is one.

    Args:
        pixels: Grey levels in [0, 1], any shape.
        how: ``"none"`` leaves them; ``"threshold"`` gives 1 above 0.5; ``"sample"`` draws each
            pixel once from :math:`\mathrm{Bernoulli}(\text{grey level})`.
        seed: Of the draw; the same seed gives the same pixels.

    Raises:
        OptionError: When ``how`` is none of these.
        DataError: When a pixel is outside [0, 1].

    References:
        Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks, whose
        binary MNIST is drawn in this way.

    Example:
        >>> binarize_pixels(np.array([0.2, 0.7], dtype=np.float32), "threshold")
        array([0., 1.], dtype=float32)
    """
    if how not in BINARIZATIONS:
        known = ", ".join(BINARIZATIONS)
        raise OptionError(f"binarize={how!r} is unknown. Remedy: use one of {known}.")
    if how == "none":
        return pixels
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise DataError(
            f"binarize='{how}' needs grey levels in [0, 1]; got {pixels.min()} to {pixels.max()}. "
            f"Remedy: divide by the largest level first."
        )
    if how == "threshold":
        return (pixels > 0.5).astype(np.float32)
    noise = np.random.default_rng(seed).random(pixels.shape, dtype=np.float32)
    return (noise < pixels).astype(np.float32)
