r"""How far apart the n-grams of two texts are.

Convention of this module: a text is rows of symbols, (rows, length), or strings; an n-gram lies within one row.
Divergences are in nats: 0 for the same shares of all n-grams, log 2 = 0.693 when no n-gram is in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import rel_entr

from ppl_genmodels.diagnostics.fitted_like import to_array
from ppl_genmodels.errors import DataError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["ngram_divergence"]

Gram = tuple[Any, ...]


def ngram_divergence(samples: Any, data: Any, n: int) -> float:
    r"""The Jensen-Shannon divergence of the n-grams in two texts, in nats.

    .. math:: \tfrac 1 2 KL[p \,\|\, m] + \tfrac 1 2 KL[q \,\|\, m], \quad m = \tfrac 1 2 (p + q)

    with p and q the shares of each n-gram. Of two samples of one text it is positive, the more so the longer the
    n-grams and the shorter the texts: compare it with that of data of the same amount.

    Args:
        samples: Symbols, shape (rows, length), or strings.
        data: The same.
        n: Symbols in an n-gram.

    Raises:
        OptionError: When ``n`` is no positive integer.
        DataError: When a text has no n-gram, or is neither of strings nor a table.

    References:
        Lin (1991), Divergence Measures Based on the Shannon Entropy, equation 4.1; the code published with Gulrajani
        and others (2017), Improved Training of Wasserstein GANs, watches training by it, in bits.

    Example:
        >>> round(ngram_divergence(["abab"], ["abba"], n=1), 3), round(ngram_divergence(["abab"], ["abba"], n=2), 3)
        (0.0, 0.144)
    """
    size = check_size("ngram_divergence", "n", n)
    drawn, seen = _counts("samples", samples, size), _counts("data", data, size)
    grams = list(drawn | seen)
    found = [np.array([counts[gram] for gram in grams], dtype=np.float64) for counts in (drawn, seen)]
    p, q = (share / share.sum() for share in found)
    middle = (p + q) / 2
    return float(rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / 2


def _counts(name: str, text: Any, n: int) -> Counter[Gram]:
    """How often each n-gram is there."""
    counts = Counter(
        gram for row in _rows(name, text) for gram in zip(*(row[start:] for start in range(n)), strict=False)
    )
    if not counts:
        raise DataError(f"ngram_divergence: no row of {name} has {n} symbols. Remedy: longer rows, or a smaller n.")
    return counts


def _rows(name: str, text: Any) -> list[Sequence[Any]]:
    if not isinstance(text, str) and all(isinstance(row, str) for row in text):
        return list(text)
    table = to_array(text)
    if table.ndim != 2:
        raise DataError(
            f"ngram_divergence: {name} has the shape {table.shape}, expected (rows, length) or a list of strings. "
            f"Remedy: text.reshape(1, -1) for one row."
        )
    rows: list[Sequence[Any]] = table.tolist()
    return rows
