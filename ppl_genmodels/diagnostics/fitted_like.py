"""What a fitted program must offer to be looked at.

Convention of this module: the names are those of :class:`ppl_genmodels.Fitted`, which lies above
this package; anything that has them can be drawn and reported.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pandas as pd
from arviz import InferenceData
from numpy.typing import NDArray
from torch import Tensor

from ppl_genmodels.errors import UnknownNameError
from ppl_genmodels.structure import Structure

__all__ = ["FittedLike", "image_shape_of", "observed_site", "site_values", "to_array"]


class FittedLike(Protocol):
    """A fitted program: its training history and the three ways to draw from it."""

    objective: Any
    history: pd.DataFrame
    card: dict[str, Any]

    @property
    def program(self) -> Any:
        """The program as it was given to the fit."""

    @property
    def structure(self) -> Structure:
        """Its sites and plates."""

    def infer(
        self, data: Any, num_samples: int = ..., *, predictive: bool = ..., seed: int | None = ...
    ) -> InferenceData:
        """The posterior given ``data``."""

    def sample(self, n: int, seed: int | None = ...) -> dict[str, Tensor]:
        """Draws from the prior predictive, each of shape (n, plates, event)."""

    def reconstruct(self, data: Any) -> dict[str, Tensor]:
        """Means of the observed sites given ``data``, each of shape (plates, event)."""


def image_shape_of(program: Any) -> tuple[int, ...] | None:
    """The shape of its images, for a program that has an attribute ``image_shape``.

    Example:
        >>> class Program:
        ...     image_shape = [28, 20]
        >>> image_shape_of(Program()), image_shape_of(None)
        ((28, 20), None)
    """
    shape = getattr(program, "image_shape", None)
    return tuple(shape) if isinstance(shape, tuple | list) else None


def observed_site(fitted: FittedLike, site: str | None = None) -> str:
    """The observed site asked for, or the first; what a program that observes nothing generates stands for it.

    Raises:
        UnknownNameError: When the program observes no such site.
    """
    known = [each.name for each in fitted.structure.observed or fitted.structure.generated]
    if site in known:
        return str(site)
    if site is not None or not known:
        raise UnknownNameError("observed site", str(site), known, "in the program")
    return known[0]


def site_values(fitted: FittedLike, name: str, values: Any) -> NDArray[Any]:
    """Values of a site with all plates in one: shape (count, event).

    Args:
        fitted: What was fitted.
        name: The site.
        values: Shape (plates, event), or with any dims before.
    """
    array = to_array(values)
    return array.reshape(-1, *fitted.structure.site(name).event_shape)


def to_array(values: Any) -> NDArray[Any]:
    """A NumPy array of a tensor, an array, or a frame.

    Example:
        >>> import torch
        >>> to_array(torch.ones(2, requires_grad=True))
        array([1., 1.], dtype=float32)
    """
    return np.asarray(values.detach().cpu()) if isinstance(values, Tensor) else np.asarray(values)
