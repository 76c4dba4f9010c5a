"""The divergence of n-grams, against numbers computed by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from ppl_genmodels.diagnostics import ngram_divergence
from ppl_genmodels.errors import DataError, OptionError


def test_the_divergence_is_that_computed_by_hand():
    """Pairs ab, ba, ab against ab, bb, ba: shares (2/3, 1/3, 0) and (1/3, 1/3, 1/3), the middle (1/2, 1/3, 1/6)."""
    first = 2 / 3 * math.log(4 / 3)
    second = 1 / 3 * math.log(2 / 3) + 1 / 3 * math.log(2)
    assert ngram_divergence(["abab"], ["abba"], 2) == pytest.approx((first + second) / 2, rel=1e-12)


def test_single_symbols_agree_with_scipy():
    generator = np.random.default_rng(0)
    one, other = generator.integers(5, size=(40, 7)), generator.integers(4, size=(30, 9))
    shares = [np.bincount(rows.ravel(), minlength=5) for rows in (one, other)]
    assert ngram_divergence(one, other, 1) == pytest.approx(jensenshannon(*shares) ** 2, rel=1e-10)


def test_it_is_zero_for_one_text_and_log_two_for_texts_that_share_nothing():
    assert ngram_divergence(["hello world"], ["hello world"], 3) == 0.0
    assert ngram_divergence(["aaaa"], ["bbbb"], 2) == pytest.approx(math.log(2), rel=1e-12)


def test_ngrams_do_not_cross_rows():
    assert ngram_divergence(["ab", "ab"], ["ab"], 2) == 0.0
    assert ngram_divergence(["abab"], ["ab"], 2) > 0.1


def test_strings_tables_and_tensors_are_one_text():
    rows = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]])
    spelled, other = ["abcb", "ccab"], torch.tensor([[0, 0, 1, 2]])
    found = [ngram_divergence(rows, other, 2), ngram_divergence(rows.numpy(), other, 2)]
    assert found == [ngram_divergence(spelled, ["aabc"], 2)] * 2


def test_what_has_no_ngrams_is_refused():
    with pytest.raises(DataError, match="no row of data has 3 symbols"):
        ngram_divergence(["abc"], ["ab", "c"], 3)
    with pytest.raises(DataError, match=r"samples has the shape \(4,\)"):
        ngram_divergence([0, 1, 2, 3], [[0, 1]], 1)
    with pytest.raises(OptionError, match="n=0, expected a positive integer"):
        ngram_divergence(["abc"], ["abc"], 0)
