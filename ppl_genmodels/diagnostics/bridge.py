"""The bridge to ArviZ: named draws become an InferenceData, in memory or in a file that is filled as they are made.

Convention of this module: a plate gives its dims their names. ``k_hat`` in ``sample_stats`` has the
dims of ``log_weight`` without chain and draw: the data plate where every latent is local, none
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import arviz
import numpy as np
from arviz import InferenceData

from ppl_genmodels.diagnostics.psis import pareto_k
from ppl_genmodels.inference.draws import Arrays, Draws
from ppl_genmodels.inference.netcdf import NetcdfStore
from ppl_genmodels.inference.posterior import Inferred
from ppl_genmodels.inference.store import Labels, Store, check_labels

__all__ = ["to_inference_data", "write_inference_data"]

LIBRARY = "ppl_genmodels"

WEIGHTS_AT_ONCE = 2**20
"""Log weights whose tails are fitted together."""
K_HAT = "shape of the tail of the importance weights"


def to_inference_data(draws: Draws, coords: Labels | None = None) -> InferenceData:
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
    check_labels(coords or {}, _sizes(draws, dims))
    idata = arviz.from_dict(
        posterior=dict(draws.posterior) or None,
        posterior_predictive=dict(draws.posterior_predictive) or None,
        log_likelihood=dict(draws.log_likelihood) or None,
        sample_stats=dict(draws.sample_stats) or None,
        observed_data=dict(draws.observed_data) or None,
        coords={name: list(labels) for name, labels in (coords or {}).items()},
        dims=dims,
    )
    if "log_weight" in draws.sample_stats:
        _add_k_hat(idata, dims["log_weight"])
    return _signed(idata, draws.attrs)


def write_inference_data(
    path: str | Path, fill: Callable[[Store], Inferred], coords: Labels | None = None
) -> InferenceData:
    """An InferenceData in a netCDF-4 file, written as its draws are made, and opened lazily.

    Its variables are those of :func:`to_inference_data`. The rows have no coordinate unless labels are given: xarray
    would hold it in memory.

    Args:
        path: The file; it appears when all is written.
        fill: Puts the draws into a store.
        coords: For each dim to be labelled, as many labels as it is long.

    Raises:
        DataError: When ``coords`` do not fit the dims.
        RunFolderError: When the file cannot be written; nothing is left of it.
    """
    with NetcdfStore(path, coords) as store:
        attrs = fill(store).attrs
        _write_k_hat(store, attrs["data_plate"])
        made = arviz.dict_to_dataset({"nothing": np.zeros((1, 1))}).attrs
        store.finish(_signature(attrs), made | _signature(attrs), attrs["data_plate"])
    return arviz.from_netcdf(str(path))


def _write_k_hat(store: NetcdfStore, plate: str) -> None:
    """Fits the tails of the weights that were written, some rows at a time."""
    log_weight = store.read("sample_stats", "log_weight")
    draws, rows = log_weight.shape[1], log_weight.shape[2:]
    if not rows:
        shape = pareto_k(log_weight[0])
        store.create("sample_stats", "k_hat", (), (), shape, {"description": K_HAT})[...] = shape
        return
    size = max(1, WEIGHTS_AT_ONCE // draws)
    k_hat = store.create("sample_stats", "k_hat", (plate,), rows, np.empty(min(size, *rows)), {"description": K_HAT})
    for start in range(0, rows[0], size):
        k_hat[start : start + size] = pareto_k(log_weight[0, :, start : start + size])


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


def _add_k_hat(idata: InferenceData, dims: list[str]) -> None:
    log_weight = idata.sample_stats["log_weight"]
    stacked = log_weight.values.reshape(-1, *log_weight.shape[2:])
    idata.sample_stats["k_hat"] = (dims, pareto_k(stacked))
    idata.sample_stats["k_hat"].attrs["description"] = K_HAT


def _signed(idata: InferenceData, attrs: Mapping[str, str]) -> InferenceData:
    signature = _signature(attrs)
    idata.attrs.update(signature)
    for group in idata.groups():
        idata[group].attrs.update(signature)
    return idata


def _signature(attrs: Mapping[str, str]) -> dict[str, str]:
    try:
        number = version("ppl-genmodels")
    except PackageNotFoundError:
        number = "unknown"
    return {"inference_library": LIBRARY, "inference_library_version": number, **attrs}
