r"""Two samples told apart by a classifier: how much of a difference can be learned.

Convention of this module: an accuracy of 1/2 means that the samples cannot be told apart, one of 1 that they always can;
it is that of rows held out of the classifier's training.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ppl_genmodels.diagnostics.sample_rows import checked_samples

__all__ = ["ClassifierTwoSample", "classifier_two_sample"]

FOLDS = 5
FEWEST = 20
"""Rows of each sample, of which a fold holds four."""


@dataclass(frozen=True)
class ClassifierTwoSample:
    """How well a classifier tells two samples apart.

    Attributes:
        accuracy: Share of held-out rows that are told right; 1/2 for samples that cannot be told apart.
        standard_error: Of the accuracy.
        p_value: Of an accuracy this high or higher when both samples have one distribution.
        rows: Of each sample that were used.
    """

    accuracy: float
    standard_error: float
    p_value: float
    rows: int

    def __str__(self) -> str:
        return (
            f"a classifier tells {self.rows} rows of each apart with accuracy {self.accuracy:.3f} ± "
            f"{self.standard_error:.3f} (0.5: not at all), p = {self.p_value:.3g}"
        )


def classifier_two_sample(
    first: Any, second: Any, *, classifier: Any = None, seed: int = 0
) -> ClassifierTwoSample:
    r"""The cross-validated accuracy of a classifier that is to tell two samples apart.

    Of the larger sample as many rows are drawn as the smaller has. Columns are standardised by the training rows of both.
    """
    tables = checked_samples("classifier_two_sample", FEWEST, first=first, second=second)
    generator = np.random.default_rng(seed)
    rows = min(map(len, tables))
    values = np.concatenate([generator.permutation(table)[:rows] for table in tables])
    labels = np.repeat([0, 1], rows)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        told = cross_val_predict(make_pipeline(StandardScaler(), classifier or _network(seed)), values, labels, cv=folds)
    accuracy = float((told == labels).mean())
    return ClassifierTwoSample(accuracy, np.sqrt(accuracy * (1 - accuracy) / (2 * rows)), norm.sf((accuracy-.5)*2*np.sqrt(2*rows)), rows)


def _network(seed: int) -> MLPClassifier:
    return MLPClassifier((64, 64), early_stopping=True, n_iter_no_change=10, max_iter=300, random_state=seed)
