r"""Two samples told apart by a classifier: how much of a difference can be learned.

Convention of this module: an accuracy of 1/2 means that the samples cannot be told apart, one of 1 that they always
can; it is that of rows held out of the classifier's training.
"""

from __future__ import annotations

import math
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
"""Rows of each sample; a fold has four of them."""

BATCH, STEPS, EPOCHS = 64, 1000, 100
"""Of the network's training: about so many steps, but no more than so many passes over the rows."""


@dataclass(frozen=True)
class ClassifierTwoSample:
    """How well a classifier tells two samples apart.

    Attributes:
        accuracy: Share of held-out rows that are told right; 1/2 when the samples cannot be told apart.
        standard_error: Of the accuracy.
        p_value: How often samples of one distribution would be told apart as well or better.
        rows: Of each sample, as many as were compared.
    """

    accuracy: float
    standard_error: float
    p_value: float
    rows: int

    def __str__(self) -> str:
        return (
            f"A classifier tells {self.rows} and {self.rows} rows apart with an accuracy of {self.accuracy:.3f} ± "
            f"{self.standard_error:.3f} (0.5 by chance), p = {self.p_value:.3g}."
        )


def classifier_two_sample(first: Any, second: Any, *, classifier: Any = None, seed: int = 0) -> ClassifierTwoSample:
    r"""The accuracy with which a classifier tells the rows of two samples apart, by cross-validation in five folds.

    Of the larger sample as many rows are drawn as the smaller has, and every column is standardised. The classifier is
    a network of two hidden layers of 64 units unless another is given; what it cannot learn is not seen.

    The folds share their training rows, so that the accuracy varies more than one of independent rows: by 1.3 to 1.9
    times in variance, where it was measured. It is taken as 2.25 times, and p-values are therefore rather too large.

    Args:
        first: Shape (rows, \*event).
        second: Shape (rows, \*event), maybe of other many rows.
        classifier: A classifier of scikit-learn's to use instead, as ``KNeighborsClassifier()``.
        seed: Of the rows drawn, the folds, and the network.

    Raises:
        DataError: When a sample has fewer than 20 rows or values that are not finite, or events differ in shape.

    References:
        Lopez-Paz and Oquab (2017), Revisiting Classifier Two-Sample Tests, section 3; Nadeau and Bengio (2003),
        Inference for the Generalization Error, section 3, for the variance.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> first, second = generator.normal(size=(2, 200, 2))
        >>> print(classifier_two_sample(first, second + 3.0))
        A classifier tells 200 and 200 rows apart with an accuracy of 0.97... ± 0.012 (0.5 by chance), p = ...
    """
    tables = checked_samples("classifier_two_sample", FEWEST, first=first, second=second)
    rows = min(map(len, tables))
    generator = np.random.default_rng(seed)
    values = np.concatenate([table[generator.permutation(len(table))[:rows]] for table in tables])
    labels = np.repeat([0, 1], rows)
    told = _told(make_pipeline(StandardScaler(), classifier or _network(rows, seed)), values, labels, seed)
    accuracy = float((told == labels).mean())
    by_chance = _standard_error(0.5, rows)
    return ClassifierTwoSample(
        accuracy, _standard_error(accuracy, rows), float(norm.sf((accuracy - 0.5) / by_chance)), rows
    )


def _told(classifier: Any, values: Any, labels: Any, seed: int) -> Any:
    """The label of each row by the classifier trained on the other folds."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # so many steps are enough to compare
        return cross_val_predict(classifier, values, labels, cv=folds)


def _network(rows: int, seed: int) -> MLPClassifier:
    batches = math.ceil(2 * rows * (FOLDS - 1) / FOLDS / BATCH)
    epochs = min(EPOCHS, math.ceil(STEPS / batches))
    return MLPClassifier(
        (64, 64),
        alpha=0.01,
        batch_size=min(BATCH, rows),
        learning_rate_init=2e-3,
        max_iter=epochs,
        n_iter_no_change=epochs,  # a plateau at the start is not the end
        random_state=seed,
    )


def _standard_error(accuracy: float, rows: int) -> float:
    """Of a share of all rows, each held out once; the folds' overlap by Nadeau and Bengio's correction."""
    inflation = 1 + FOLDS / (FOLDS - 1)
    return math.sqrt(inflation * accuracy * (1 - accuracy) / (2 * rows))
