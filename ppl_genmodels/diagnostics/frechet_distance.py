r"""The Fréchet distance: the squared Wasserstein distance of normal distributions with two samples' moments.

Convention of this module: squared, in the squared units of the features, as the distances of images are reported;
:math:`d^2 = \|\mu_1 - \mu_2\|^2 + \mathrm{tr}(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2})`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_genmodels.diagnostics.fitted_like import to_array
from ppl_genmodels.diagnostics.sample_rows import Values, checked_samples

__all__ = ["frechet_distance"]

ROWS_AT_ONCE = 500


def frechet_distance(first: Any, second: Any, *, features: Callable[[Tensor], Tensor] | None = None) -> float:
    r"""The Fréchet distance of two samples, of their values or of features that a network sees in them.

    Of samples from one distribution it is positive, by about the number of features squared over the rows: compare
    samples of equally many rows, and many more rows than features. With the features of an Inception network it is the
    Fréchet inception distance.

    Args:
        first: Shape (rows, \*event).
        second: Shape (rows, \*event).
        features: A network in the mode it is to be used in, called with tensors of at most 500 rows; it gives features,
            shape (rows, \*features). Arrays are passed to it in the default dtype.

    Raises:
        DataError: When a sample has fewer than 2 rows or values that are not finite, or events differ in shape.

    References:
        Dowson and Landau (1982), The Fréchet distance between multivariate normal distributions, equation 4; Heusel,
        Ramsauer, Unterthiner, Nessler and Hochreiter (2017), GANs Trained by a Two Time-Scale Update Rule, equation 6.

    Example:
        >>> first = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
        >>> round(frechet_distance(first, 2 * first + [3.0, 0.0]), 6)
        10.333333
    """
    samples = {"first": first, "second": second}
    checked_samples("frechet_distance", **samples)
    if features is not None:
        samples = {name: _seen(features, values) for name, values in samples.items()}
    here, there = checked_samples("frechet_distance", **samples)
    roots = [_root(np.atleast_2d(np.cov(table.T))) for table in (here, there)]
    # tr (S1 S2)^(1/2) is the sum of the singular values of S1^(1/2) S2^(1/2), which are never negative.
    shared = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    spread = sum((root**2).sum() for root in roots) - 2 * shared
    return float(((here.mean(0) - there.mean(0)) ** 2).sum() + max(spread, 0.0))


def _root(covariance: Values) -> Values:
    """The symmetric square root."""
    values, vectors = np.linalg.eigh(covariance)
    root: Values = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root


@torch.no_grad()
def _seen(features: Callable[[Tensor], Tensor], values: Any) -> Values:
    if not isinstance(values, Tensor):
        values = torch.as_tensor(to_array(values), dtype=torch.get_default_dtype())
    return np.concatenate([to_array(features(part)) for part in values.split(ROWS_AT_ONCE)])
