"""Reads latents out of an InferenceData: which range over the rows, and their draws as matrices.

Convention of this module: chains are stacked, so that draws of one variable have the shape
(draw, row, dim) with its event flattened into ``dim``. A variable is local when it has the data
plate among its dims, global otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
from arviz import InferenceData
from numpy.typing import NDArray

from ppl_genmodels.errors import UnknownNameError

__all__ = [
    "data_plate",
    "dim_labels",
    "global_variables",
    "is_discrete",
    "local_draws",
    "local_variables",
    "posterior_means",
    "stacked",
]


def data_plate(idata: InferenceData) -> str | None:
    """Name of the dim that ranges over the rows of the data, or None when nothing tells.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> data_plate(example_posterior())
        'data'
    """
    named = idata.attrs.get("data_plate")
    if named is not None:
        return str(named) or None
    if "sample_stats" in idata and "log_weight" in idata.sample_stats:
        dims = idata.sample_stats["log_weight"].dims[2:]
        if dims:
            return str(dims[0])
    if "log_likelihood" in idata:
        for variable in idata.log_likelihood.data_vars.values():
            if variable.ndim > 2:
                return str(variable.dims[-1])
    return None


def local_variables(idata: InferenceData) -> list[str]:
    """Names of the posterior's variables that have a value for each row.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> local_variables(example_posterior())
        ['z']
    """
    plate = data_plate(idata)
    return [name for name, value in _posterior(idata).items() if plate in value.dims]


def global_variables(idata: InferenceData) -> list[str]:
    """Names of the posterior's variables that all rows share.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> global_variables(example_posterior())
        []
    """
    plate = data_plate(idata)
    return [name for name, value in _posterior(idata).items() if plate not in value.dims]


def stacked(variable: Any, plate: str | None) -> NDArray[Any]:
    """Draws of a DataArray, shape (draw, row, dim); one row when it lacks the plate.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> stacked(example_posterior().posterior["z"], "data").shape
        (200, 60, 3)
    """
    rest = [dim for dim in variable.dims if dim not in ("chain", "draw", plate)]
    order = ["chain", "draw", *([plate] if plate in variable.dims else []), *rest]
    values = variable.transpose(*order).values
    rows = values.shape[2] if plate in variable.dims else 1
    return np.asarray(values.reshape(values.shape[0] * values.shape[1], rows, -1))


def local_draws(idata: InferenceData, sites: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Draws of the local variables, each of shape (draw, row, dim).

    Args:
        idata: The posterior.
        sites: The variables wanted; all local ones when None.

    Raises:
        UnknownNameError: When a wanted variable is not a local one of the posterior.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> local_draws(example_posterior())["z"].shape
        (200, 60, 3)
    """
    known = local_variables(idata)
    wanted = known if sites is None else list(sites)
    for name in wanted:
        if name not in known:
            raise UnknownNameError("local variable", name, known, "in the posterior")
    plate = data_plate(idata)
    return {name: stacked(idata.posterior[name], plate) for name in wanted}


def posterior_means(idata: InferenceData, sites: Iterable[str] | None = None) -> tuple[NDArray[np.float64], list[str]]:
    """Posterior mean of every continuous local dimension, shape (row, dim), and the dims' labels.

    Raises:
        UnknownNameError: When a wanted variable is not a local one of the posterior.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> means, labels = posterior_means(example_posterior())
        >>> means.shape, labels
        ((60, 3), ['z[0]', 'z[1]', 'z[2]'])
    """
    means, labels = [], []
    for name, draws in local_draws(idata, sites).items():
        if not is_discrete(draws):
            means.append(draws.mean(0, dtype=np.float64))
            labels += dim_labels(idata.posterior[name], data_plate(idata))
    if not means:
        return np.empty((0, 0)), []
    return np.concatenate(means, -1), labels


def dim_labels(variable: Any, plate: str | None = None) -> list[str]:
    """A label for each flattened component of a DataArray's draws, from its coordinates.

    Example:
        >>> from ppl_genmodels.diagnostics import example_posterior
        >>> dim_labels(example_posterior().posterior["z"], "data")
        ['z[0]', 'z[1]', 'z[2]']
    """
    dims = [dim for dim in variable.dims if dim not in ("chain", "draw", plate)]
    if not dims:
        return [str(variable.name)]
    places = product(*(variable[dim].values for dim in dims))
    return [f"{variable.name}[{', '.join(map(str, place))}]" for place in places]


def is_discrete(draws: NDArray[Any]) -> bool:
    """Whether every value looked at is a whole number.

    Example:
        >>> is_discrete(np.array([0.0, 1.0, 1.0])), is_discrete(np.array([0.5]))
        (True, False)
    """
    if draws.dtype.kind in "iub":
        return True
    some = draws.ravel()[:10_000]
    return bool(np.all(some == np.round(some)))


def _posterior(idata: InferenceData) -> dict[str, Any]:
    return dict(idata.posterior.data_vars) if "posterior" in idata else {}
