"""Posteriors to try the pictures on, whose numbers are known.

Convention of this module: seeds are fixed. Rows are drawn from the program itself, and the guide is
a little too narrow for them.
"""

from __future__ import annotations

import numpy as np
from arviz import InferenceData
from numpy.typing import NDArray

from ppl_genmodels.diagnostics.bridge import to_inference_data
from ppl_genmodels.inference.draws import Draws

__all__ = ["example_globals", "example_posterior"]

ROWS, DRAWS = 60, 200
NARROW = 0.8
"""Scale of the guide as a share of the posterior's."""

WEIGHT = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
"""Of four features on three latent dimensions, the last of which is not used."""


def example_posterior() -> InferenceData:
    r"""Posterior of 60 rows under :math:`z \sim N(0, I_3)`, :math:`x|z \sim N(Wz, I_4)`.

    Returns:
        200 draws of ``z`` for each row, with log weights, k-hat, observations of ``x`` and their
        replicates.

    Example:
        >>> dict(example_posterior().posterior["z"].sizes)
        {'chain': 1, 'draw': 200, 'data': 60, 'z_dim_0': 3}
    """
    generator = np.random.default_rng(0)
    observed = generator.normal(size=(ROWS, 3)) @ WEIGHT.T + generator.normal(size=(ROWS, 4))
    covariance = np.linalg.inv(np.eye(3) + WEIGHT.T @ WEIGHT)
    root = NARROW * np.linalg.cholesky(covariance)
    standard = generator.normal(size=(DRAWS, ROWS, 3))
    z = observed @ WEIGHT @ covariance + standard @ root.T
    mean = z @ WEIGHT.T
    log_lik = _normal(observed - mean)
    log_p = log_lik + _normal(z)
    log_q = _normal(standard) - np.log(np.diagonal(root)).sum()
    stats = {"log_p": log_p, "log_q": log_q, "log_weight": log_p - log_q}
    return to_inference_data(
        Draws(
            posterior={"z": z[None]},
            dims={"z": ("data", "z_dim_0"), "x": ("data", "x_dim_0")},
            log_likelihood={"x": log_lik[None]},
            sample_stats={name: values[None] for name, values in stats.items()},
            posterior_predictive={"x": (mean + generator.normal(size=mean.shape))[None]},
            observed_data={"x": observed},
            attrs={"data_plate": "data"},
        )
    )


def example_globals() -> InferenceData:
    r"""1000 draws of two global latents: :math:`\mu \sim N(4, 1)` and :math:`\tau` exponential.

    Example:
        >>> list(example_globals().posterior)
        ['mu', 'tau']
    """
    generator = np.random.default_rng(0)
    mu, tau = generator.normal(4.0, 1.0, (1, 1000)), generator.exponential(2.0, (1, 1000))
    return to_inference_data(Draws({"mu": mu, "tau": tau}, {"mu": (), "tau": ()}))


def _normal(standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-density of independent standard normals over the last dim."""
    return np.asarray(-0.5 * (standard**2 + np.log(2 * np.pi)).sum(-1))
