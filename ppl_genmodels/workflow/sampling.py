"""Markov chain Monte Carlo on the same program, with the same kind of result as variational inference.

Convention of this module: what comes back is InferenceData, as :meth:`ppl_genmodels.Fitted.infer` gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ppl_genmodels import diagnostics
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.inference import mcmc

if TYPE_CHECKING:
    from arviz import InferenceData

__all__ = ["nuts"]


def nuts(
    program: Any,
    data: Any,
    *,
    num_samples: int = 1000,
    warmup: int = 500,
    chains: int = 4,
    seed: int = 0,
    coords: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> InferenceData:
    """The posterior of a program's model by the no-U-turn sampler; the guide is not used.

    Args:
        program: Any object with ``.model``, a pair, or a model.
        data: As :func:`ppl_genmodels.fit` takes them.
        num_samples: Draws kept in each chain.
        warmup: Draws before them, for adaptation.
        chains: Chains, one after another.
        seed: Of the chains.
        coords: Labels for the dims, by name of the dim.
        progress: Whether to show a progress bar.

    Returns:
        Groups posterior, log_likelihood, sample_stats (diverging, lp, ...) and observed_data.

    Raises:
        DataError: When the data cannot be used.
        ProgramError: When the sampler cannot serve the model.

    References:
        Hoffman and Gelman (2014), The No-U-Turn Sampler.

    Example:
        >>> from ppl_genmodels.models import EightSchools
        >>> idata = nuts(EightSchools(), EightSchools.data(), num_samples=5, warmup=5, chains=1)
        >>> dict(idata.posterior["theta"].sizes)
        {'chain': 1, 'draw': 5, 'schools': 8}
    """
    rows = Rows.of(data)
    args, kwargs = rows.take(range(len(rows)))
    draws = mcmc.nuts(
        program,
        *args,
        num_samples=num_samples,
        warmup=warmup,
        chains=chains,
        seed=seed,
        progress=progress,
        **kwargs,
    )
    return diagnostics.to_inference_data(draws, coords)
