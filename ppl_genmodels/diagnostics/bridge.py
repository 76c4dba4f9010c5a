"""The bridge to ArviZ: named draws become an InferenceData.

Convention of this module: a plate gives its dims their names. ``k_hat`` in ``sample_stats`` has the
dims of ``log_weight`` without chain and draw: the data plate where every latent is local, none
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import arviz
from arviz import InferenceData
from numpy.typing import NDArray

from ppl_genmodels.diagnostics.psis import pareto_k
from ppl_genmodels.errors import DataError, nearest
from ppl_genmodels.inference.draws import Arrays, Draws

__all__ = ["to_inference_data"]

LIBRARY = "ppl_genmodels"

Coords = Mapping[str, Sequence[Any] | NDArray[Any]]


def to_inference_data(draws: Draws, coords: Coords | None = None) -> InferenceData:
    r"""An InferenceData with the groups of ``draws``, and PSIS k-hat where it has log weights.

    Args:
        draws: Arrays of shape (chain, draw, \*plates, \*event), densities in nats.
        coords: For each dim to be labelled, as many labels as it is long.

    Returns:
        Groups ``posterior``, ``posterior_predictive``, ``log_likelihood``, ``sample_stats`` and
        ``observed_data``, each present when ``draws`` has it; every group names the library and its
        version among its attributes.

    Raises:
        DataError: When ``coords`` names a dim that no variable has, or has not one label for each
            of its places.

    Example:
        >>> import numpy as np
        >>> draws = Draws({"theta": np.zeros((1, 5, 2))}, {"theta": ("school",)})
        >>> idata = to_inference_data(draws, coords={"school": ["Choate", "Deerfield"]})
        >>> idata.posterior["theta"].sel(school="Choate").shape
        (1, 5)
    """
    dims = {name: list(names) for name, names in draws.dims.items()}
    dims |= _dims_of_statistics(draws)
    labels = _checked(coords or {}, _sizes(draws, dims))
    idata = arviz.from_dict(
        posterior=dict(draws.posterior) or None,
        posterior_predictive=dict(draws.posterior_predictive) or None,
        log_likelihood=dict(draws.log_likelihood) or None,
        sample_stats=dict(draws.sample_stats) or None,
        observed_data=dict(draws.observed_data) or None,
        coords=labels,
        dims=dims,
    )
    if "log_weight" in draws.sample_stats:
        _add_k_hat(idata, dims["log_weight"])
    return _signed(idata, draws.attrs)


def _dims_of_statistics(draws: Draws) -> dict[str, list[str]]:
    """Dims of the sample statistics; log weights that range over rows range over the data plate."""
    plate = draws.attrs.get("data_plate") or "row"
    named: dict[str, list[str]] = {}
    for name, array in draws.sample_stats.items():
        if name in draws.dims:
            named[name] = list(draws.dims[name])
        elif array.ndim == 3 and name in ("log_p", "log_q", "log_weight"):
            named[name] = [plate]
        elif array.ndim == 2:
            named[name] = []
    return named


def _sizes(draws: Draws, dims: Mapping[str, list[str]]) -> dict[str, int]:
    """How long each dim is, read off every group."""
    drawn = [draws.posterior, draws.posterior_predictive, draws.log_likelihood, draws.sample_stats]
    groups: list[tuple[Arrays, int]] = [(group, 2) for group in drawn]
    groups.append((draws.observed_data, 0))
    sizes: dict[str, int] = {}
    for arrays, skipped in groups:
        for name, array in arrays.items():
            sizes |= dict(zip(dims.get(name, ()), array.shape[skipped:], strict=False))
    return sizes


def _checked(coords: Coords, sizes: Mapping[str, int]) -> dict[str, list[Any]]:
    for name, labels in coords.items():
        if name not in sizes:
            close = nearest(name, sizes)
            hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
            known = ", ".join(map(repr, sorted(sizes))) or "none"
            raise DataError(f"coords: no dim '{name}'.{hint} Known dims: {known}.")
        if len(labels) != sizes[name]:
            raise DataError(
                f"coords: dim '{name}' has length {sizes[name]}, got {len(labels)} labels. Give one label for each."
            )
    return {name: list(labels) for name, labels in coords.items()}


def _add_k_hat(idata: InferenceData, dims: list[str]) -> None:
    log_weight = idata.sample_stats["log_weight"]
    stacked = log_weight.values.reshape(-1, *log_weight.shape[2:])
    idata.sample_stats["k_hat"] = (dims, pareto_k(stacked))
    idata.sample_stats["k_hat"].attrs["description"] = "shape of the tail of the importance weights"


def _signed(idata: InferenceData, attrs: Mapping[str, str]) -> InferenceData:
    try:
        number = version("ppl-genmodels")
    except PackageNotFoundError:
        number = "unknown"
    signature = {"inference_library": LIBRARY, "inference_library_version": number, **attrs}
    idata.attrs.update(signature)
    for group in idata.groups():
        idata[group].attrs.update(signature)
    return idata
