"""Tables of scikit-learn and ways to estimate the density of a row, for :mod:`flow_tables`.

Convention of this module: rows are standard by the rows that are fitted; log-densities are those of such rows, in nats.
What a way leaves open is chosen by validation rows, and the way is then fitted to all rows that are not for the test.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from torch import Tensor, nn

import ppl_genmodels as ppl
from ppl_genmodels.distributions import Flow
from ppl_genmodels.models import SplineFlow
from ppl_genmodels.transforms import Affine, Autoregressive, Coupling, InvertibleLinear

Rows = NDArray[np.float64]
LogProb = Callable[[Rows], Rows]

TABLES: Mapping[str, Callable[[], Rows]] = {
    "wine": lambda: datasets.load_wine().data,
    "breast cancer": lambda: datasets.load_breast_cancer().data,
    "diabetes": lambda: datasets.load_diabetes(scaled=False).data,
}
COMPONENTS = {"full": (1, 2, 3, 4, 6), "diag": (1, 2, 4, 8, 16, 32)}
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
BANDWIDTHS = tuple(np.geomspace(0.1, 1.5, 14))
NOISE = 0.5
"""Standard deviation of the noise that is added to the whitened rows which a flow is fitted to."""
COPIES, EPOCHS, PATIENCE, LEARNING_RATE = 10, 50, 6, 1e-3
BATCH = 500


def dequantized(rows: Rows, seed: int) -> Rows:
    """Rows with uniform noise of each column's resolution: the smallest step between two of its values."""
    steps = [np.diff(np.unique(column)) for column in rows.T]
    resolution = [step[step > 1e-9 * np.ptp(column)].min() for step, column in zip(steps, rows.T, strict=True)]
    noise: Rows = np.random.default_rng(seed).random(rows.shape)
    return noise * resolution + rows


@dataclass(frozen=True)
class Linear:
    """A linear map of rows that makes them standard, each column by itself or all together."""

    mean: Rows
    root: Rows

    @classmethod
    def standard(cls, rows: Rows) -> Linear:
        """Mean zero and variance one for each column."""
        return cls(rows.mean(0), np.diag(rows.std(0)).astype(np.float64))

    @classmethod
    def whitening(cls, rows: Rows) -> Linear:
        """Mean zero and the identity as covariance."""
        return cls(rows.mean(0), np.linalg.cholesky(np.cov(rows.T, bias=True)))

    def __call__(self, rows: Rows) -> Rows:
        return np.asarray(np.linalg.solve(self.root, (rows - self.mean).T).T, np.float64)

    def back(self, rows: Rows) -> Rows:
        """The rows that are carried to these."""
        return rows @ self.root.T + self.mean

    @property
    def log_volume(self) -> float:
        """The log-determinant of the map."""
        return -float(np.linalg.slogdet(self.root)[1])


@dataclass(frozen=True)
class Parts:
    """Rows to fit, to choose by, and to test on, and the map that made them standard."""

    train: Rows
    validation: Rows
    test: Rows
    standard: Linear

    @classmethod
    def of(cls, rows: Rows, seed: int) -> Parts:
        """A random split: a fifth to test on, a fifth of the rest to choose by; standard by all but the test."""
        order = np.random.default_rng(seed).permutation(len(rows))
        kept, train = len(rows) * 4 // 5, len(rows) * 16 // 25
        standard = Linear.standard(rows[order[:kept]])
        rows = standard(rows[order])
        return cls(rows[:train], rows[train:kept], rows[kept:], standard)

    @property
    def kept(self) -> Rows:
        """All rows that are not for the test."""
        return np.concatenate([self.train, self.validation])


def gaussian(parts: Parts, seed: int) -> LogProb:
    """One Gaussian, its covariance that of the rows."""
    return whitened(parts.kept, lambda rows: -0.5 * (rows**2 + np.log(2 * np.pi)).sum(-1))


def mixture(kind: str) -> Callable[[Parts, int], LogProb]:
    """Gaussian mixtures: the number of components, the ridge on variances, and whether of whitened rows, are chosen."""

    def fitted(parts: Parts, seed: int) -> LogProb:
        def one(rows: Rows, components: int, ridge: float, white: bool) -> LogProb:
            made = GaussianMixture(components, covariance_type=kind, reg_covar=ridge, random_state=seed)
            return of_rows(rows, lambda each: made.fit(each).score_samples, white)

        return best(one, itertools.product(COMPONENTS[kind], RIDGES, (False, True)), parts)

    return fitted


def kernel(parts: Parts, seed: int) -> LogProb:
    """A Gaussian kernel on each row: its width, and whether of whitened rows, are chosen."""

    def one(rows: Rows, bandwidth: float, white: bool) -> LogProb:
        return of_rows(rows, lambda each: KernelDensity(bandwidth=bandwidth).fit(each).score_samples, white)

    return best(one, itertools.product(BANDWIDTHS, (False, True)), parts)


def best(fit: Callable[..., LogProb], choices: Iterable[tuple[Any, ...]], parts: Parts) -> LogProb:
    """Fitted to all rows that are not for the test, with the choice whose validation rows are the most probable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        chosen = max(choices, key=lambda choice: fit(parts.train, *choice)(parts.validation).mean())
        return fit(parts.kept, *chosen)


def of_rows(rows: Rows, fit: Callable[[Rows], LogProb], white: bool) -> LogProb:
    """A density of rows, or of whitened rows carried back."""
    return whitened(rows, fit(Linear.whitening(rows)(rows))) if white else fit(rows)


def whitened(rows: Rows, log_prob: LogProb) -> LogProb:
    """The density of rows, given that of what they are when whitened."""
    white = Linear.whitening(rows)
    return lambda value: log_prob(white(value)) + white.log_volume


class Density(nn.Module):
    """A flow of layers with fixed rotations between; it starts as the standard normal."""

    def __init__(self, layers: Sequence[nn.Module], features: int) -> None:
        super().__init__()
        rotations = [InvertibleLinear(features).requires_grad_(False) for _ in layers]
        pairs = itertools.chain.from_iterable(zip(layers, rotations, strict=True))
        self.transforms = nn.ModuleList(pairs)
        self.register_buffer("zeros", torch.zeros(features))

    def density(self) -> Flow:
        """The distribution of a row."""
        return Flow(dist.Normal(self.zeros, 1.0).to_event(1), self.transforms)

    def model(self, x: Tensor | None = None) -> None:
        """Rows, in the plate of data."""
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", self.density(), obs=x)


def affine_couplings(features: int) -> Density:
    """Two pairs of affine couplings."""
    return Density(
        [Coupling(features, (48,), Affine(largest=math.e), swap=swap) for swap in (False, True) * 2], features
    )


def affine_autoregressive(features: int) -> Density:
    """Two masked autoregressive layers, affine."""
    return Density([Autoregressive(features, (64,), Affine(largest=math.e)) for _ in range(2)], features)


def spline_couplings(features: int) -> SplineFlow:
    """One pair of spline couplings of the catalogue's flow."""
    return SplineFlow(features, layers=1, hidden=(48,), bins=6)


def flow(make: Callable[[int], Any], noise: float = NOISE) -> Callable[[Parts, int], LogProb]:
    """A flow of whitened rows: the length of the fit is chosen."""

    def fitted(parts: Parts, seed: int) -> LogProb:
        epochs = _best_epochs(make, parts, noise, seed)
        program = _fitted(make, parts.kept, noise, seed, epochs).program
        return whitened(parts.kept, lambda rows: _log_prob(program, rows))

    return fitted


def _best_epochs(make: Callable[[int], Any], parts: Parts, noise: float, seed: int) -> int:
    """After how many passes validation rows are the most probable."""
    validation = Linear.whitening(parts.train)(parts.validation)
    history = _fitted(make, parts.train, noise, seed, EPOCHS, validation).history
    return int(history["validation"].dropna().to_numpy().argmax()) + 1


def _fitted(
    make: Callable[[int], Any], rows: Rows, noise: float, seed: int, epochs: int, validation: Rows | None = None
) -> ppl.Fitted:
    """Fitted to copies of the whitened rows, each with noise of its own; one epoch sees all copies."""
    torch.manual_seed(seed)
    program = make(rows.shape[1])
    copies = torch.as_tensor(Linear.whitening(rows)(rows), dtype=torch.float32).repeat(COPIES, 1)
    return ppl.fit(
        program,
        copies + noise * torch.randn_like(copies),
        epochs=epochs,
        batch_size=min(len(rows), BATCH),
        optimizer=lambda parameters: torch.optim.Adam(parameters, LEARNING_RATE, fused=True),
        validation=None if validation is None else torch.as_tensor(validation, dtype=torch.float32),
        early_stopping=None if validation is None else PATIENCE,
        seed=seed,
        compile="off",
        progress=False,
    )


@torch.no_grad()
def _log_prob(program: Any, rows: Rows) -> Rows:
    found: Tensor = program.density().log_prob(torch.as_tensor(rows, dtype=torch.float32))
    return found.double().numpy()


WAYS: Mapping[str, Callable[[Parts, int], LogProb]] = {
    "Gaussian": gaussian,
    "Gaussian mixture, full": mixture("full"),
    "Gaussian mixture, diagonal": mixture("diag"),
    "kernel": kernel,
    "affine couplings": flow(affine_couplings),
    "affine autoregressive": flow(affine_autoregressive),
    "spline couplings": flow(spline_couplings),
}
BASELINES, FLOWS = tuple(WAYS)[:4], tuple(WAYS)[4:]
