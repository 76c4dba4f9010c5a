"""Stand-ins for fitted programs whose posterior is known in closed form."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.diagnostics import to_inference_data
from ppl_genmodels.inference.draws import Draws
from ppl_genmodels.structure import Plate, Site, Structure


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def site(name, kind="latent", plates=(), parents=(), event=(), distribution="Normal", batch=()):
    shapes = torch.Size(batch), torch.Size(event)
    return Site(name, kind, distribution, plates, *shapes, False, parents)


def history(steps=400, terms=("log_lik", "kl"), seed=0):
    noise = np.random.default_rng(seed)
    step = np.arange(steps)
    rise = 25.0 - 66.0 * np.exp(-step / max(1, steps / 12)) + 0.4 * noise.normal(size=steps)
    frame = pd.DataFrame({"step": step, "epoch": step // 20, "objective": rise})
    for number, name in enumerate(terms):
        frame[name] = rise + 10 if number == 0 else 10.0 + 0.1 * noise.normal(size=steps)
    frame["gradient_norm"] = 3.0 + 200 * np.exp(-step / 20) + noise.exponential(size=steps)
    frame["time"] = 0.01 * step
    frame["validation"] = np.where(step % 20 == 19, rise - 1.0, np.nan)
    return frame


CARD = {
    "seed": 0,
    "versions": {"ppl-genmodels": "0.1.0", "torch": "2.13.0"},
    "settings": {"epochs": 20, "batch_size": 128, "optimizer": "Adam(lr=0.001)"},
    "data": {"rows": 1797, "columns": 64},
    "metrics": {"objective": 25.312345678, "validation": None},
}


@dataclass
class LinearGaussian:
    """Probabilistic PCA at its maximum likelihood, with its posterior as guide unless narrowed."""

    rows: np.ndarray
    latent_dim: int
    narrow: float = 1.0
    program: Any = None
    objective: str = "E_q[log p(x|z)] - KL[q(z|x) || p(z)]"
    history: pd.DataFrame = field(default_factory=history)
    card: dict = field(default_factory=lambda: CARD)

    def __post_init__(self):
        self.mean = self.rows.mean(0)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(self.rows.T)))
        values, vectors = values[::-1], vectors[:, ::-1]
        width = self.latent_dim
        self.variance = values[width:].mean() if width < len(values) else 0.1
        self.weight = vectors[:, :width] * np.sqrt(np.maximum(values[:width] - self.variance, 0))
        precision = np.eye(width) + self.weight.T @ self.weight / self.variance
        self.covariance = np.linalg.inv(precision)
        self.features = self.rows.shape[1]
        plates = ("data",)
        self.structure = Structure(
            (
                site("z", plates=plates, event=(width,)),
                site("x", "observed", plates, ("z",), (self.features,)),
            ),
            (Plate("data", -1, 128, len(self.rows)),),
            "data",
            1,
        )

    def posterior_mean(self, data):
        return (data - self.mean) @ self.weight @ self.covariance / self.variance

    def sample(self, n, seed=None):
        noise = np.random.default_rng(seed)
        z = noise.normal(size=(n, self.latent_dim))
        return {"z": torch.tensor(z), "x": torch.tensor(self._observe(z, noise))}

    def _observe(self, z, noise):
        mean = z @ self.weight.T + self.mean
        return mean + np.sqrt(self.variance) * noise.normal(size=mean.shape)

    def reconstruct(self, data):
        data = rows_of(data)
        return {"x": torch.tensor(self.posterior_mean(data) @ self.weight.T + self.mean)}

    def infer(self, data, num_samples=500, *, predictive=False, seed=None):
        return to_inference_data(self.draws(data, num_samples, predictive, seed))

    def draws(self, data, num_samples, predictive=False, seed=None):
        data = rows_of(data)
        noise = np.random.default_rng(seed)
        root = np.linalg.cholesky(self.covariance) * self.narrow
        standard = noise.normal(size=(num_samples, len(data), self.latent_dim))
        z = self.posterior_mean(data) + standard @ root.T
        residual = data - z @ self.weight.T - self.mean
        log_lik = _normal(residual / np.sqrt(self.variance)) - 0.5 * self.features * np.log(self.variance)
        log_p = log_lik + _normal(z)
        log_q = _normal(standard) - np.log(np.diagonal(root)).sum()
        stats = {"log_p": log_p[None], "log_q": log_q[None], "log_weight": (log_p - log_q)[None]}
        return Draws(
            posterior={"z": z[None]},
            dims={"z": ("data", "z_dim_0"), "x": ("data", "x_dim_0")},
            log_likelihood={"x": log_lik[None]},
            sample_stats=stats,
            posterior_predictive={"x": self._observe(z, noise)[None]} if predictive else {},
            observed_data={"x": data},
            attrs={"data_plate": "data"},
        )


def rows_of(data):
    """The one array of the data, as a program would take it."""
    (array,), _ = Rows.of(data).take(slice(None))
    return array.double().numpy()


def _normal(standard):
    """Log-density of independent standard normals over the last dim."""
    return -0.5 * (standard**2 + np.log(2 * np.pi)).sum(-1)


SCHOOLS = Structure(
    (
        site("mu"),
        site("tau", distribution="HalfCauchy"),
        site("theta", plates=("school",), parents=("mu", "tau"), batch=(8,)),
        site("y", "observed", ("school",), ("theta",), batch=(8,)),
    ),
    (Plate("school", -1, 8, 8),),
    "school",
    1,
)


@dataclass
class Schools:
    """Eight schools with a posterior made by hand: two global latents and one for each school."""

    program: Any = None
    objective: str = "E_q[log p(x|z)] - KL[q(z|x) || p(z)]"
    history: pd.DataFrame = field(default_factory=lambda: history(200))
    card: dict = field(default_factory=lambda: CARD)
    structure: Structure = SCHOOLS
    chains: int = 1

    def sample(self, n, seed=None):
        noise = np.random.default_rng(seed)
        return {"mu": torch.tensor(noise.normal(size=n)), "y": torch.tensor(noise.normal(size=(n, 8)))}

    def reconstruct(self, data):
        return {"y": torch.tensor(0.5 * rows_of(data) + 4)}

    def infer(self, data, num_samples=500, *, predictive=False, seed=None):
        noise, data = np.random.default_rng(seed), rows_of(data)
        shape = (self.chains, num_samples)
        mu, tau = noise.normal(4.4, 3.3, shape), noise.gamma(2.0, 2.0, shape)
        theta = mu[..., None] + tau[..., None] * noise.normal(size=(*shape, 8))
        y = theta + 10 * noise.normal(size=theta.shape)
        return to_inference_data(
            Draws(
                posterior={"mu": mu, "tau": tau, "theta": theta},
                dims={"theta": ("school",), "y": ("school",)},
                log_likelihood={"y": -0.5 * ((data - theta) / 10) ** 2},
                sample_stats={"log_weight": noise.normal(size=shape)},
                posterior_predictive={"y": y} if predictive else {},
                observed_data={"y": np.asarray(data)},
                attrs={"data_plate": "school"},
            )
        )


EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])


@pytest.fixture(scope="session")
def digits():
    return load_digits()


@pytest.fixture
def make_linear():
    """The stand-in fitted to given rows: ``make_linear(rows, latent_dim)``."""
    return LinearGaussian


@pytest.fixture
def linear(digits):
    return LinearGaussian(digits.data / 16, 8)


@pytest.fixture
def schools():
    return Schools()
