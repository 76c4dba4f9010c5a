"""Named draws on the host: what every inference engine returns, before any container of posteriors.

Convention of this module: an array of draws has the shape (chain, draw, *plates, *event).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draws"]

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Draws:
    """Draws from a posterior with what is needed to judge them.

    Attributes:
        posterior: Latent and deterministic sites, shape (chain, draw, *plates, *event).
        dims: For each variable the names of its dims after (chain, draw): plates first.
        log_likelihood: For each observed site its log-density in nats, shape (chain, draw, *plates).
        sample_stats: Numbers about each draw, shape (chain, draw) or (chain, draw, rows);
            a variational run gives ``log_p``, ``log_q`` and ``log_weight`` in nats.
        posterior_predictive: Replicated observations, shape (chain, draw, *plates, *event).
        observed_data: The observations, shape (*plates, *event).
        attrs: What else the reader should know, such as the engine's name.

    Example:
        >>> draws = Draws({"mu": np.zeros((1, 5))}, {"mu": ()})
        >>> draws.posterior["mu"].shape
        (1, 5)
    """

    posterior: Arrays
    dims: Mapping[str, tuple[str, ...]]
    log_likelihood: Arrays = field(default_factory=dict)
    sample_stats: Arrays = field(default_factory=dict)
    posterior_predictive: Arrays = field(default_factory=dict)
    observed_data: Arrays = field(default_factory=dict)
    attrs: Mapping[str, str] = field(default_factory=dict)
