"""Missing values: observed entries that are NaN leave the likelihood, and the guide sees zero in their place.

Convention of this module: NaN in floating-point data means not observed, at random given what is observed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pyro.distributions import Independent
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import biject_to

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.site_handler import SiteHandler, Sites
from ppl_genmodels.program import Program, as_program
from ppl_genmodels.structure import is_deterministic, is_factor

__all__ = ["MaskMissing", "mask_missing", "without_missing"]


class MaskMissing(SiteHandler):
    """Masks the NaN entries of observed sites, each entry by itself.

    Args:
        sites: Which observed sites; by default all of them.

    Raises:
        ProgramError: When entries of a selected site are not independent, so that one cannot be left out.

    References:
        Mattei and Frellsen (2019), MIWAE, section 3: the likelihood of the observed part, zeros for the encoder.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> x = torch.tensor([1.0, float("nan")])
        >>> with pyro.poutine.trace() as traced, MaskMissing():
        ...     _ = pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)
        >>> traced.trace.log_prob_sum()
        tensor(-1.4189)
    """

    def __init__(self, sites: Sites = None) -> None:
        super().__init__(sites)

    def _pyro_sample(self, msg: Message) -> None:
        value, fn = msg["value"], msg["fn"]
        skipped = not msg["is_observed"] or is_deterministic(msg) or is_factor(msg)
        if skipped or not self.selects(msg) or not isinstance(value, Tensor) or not value.is_floating_point():
            return
        base, depth = (fn.base_dist, fn.reinterpreted_batch_ndims) if isinstance(fn, Independent) else (fn, 0)
        missing = value.isnan()
        if base.event_dim and not missing.any():
            return
        if base.event_dim:
            raise ProgramError(
                f"site '{msg['name']}': single entries of {type(base).__name__} are not independent and cannot be left "
                f"out. Remedy: an independent likelihood with .to_event, or rows without NaN."
            )
        msg["infer"] = {**msg["infer"], "missing": missing | msg["infer"].get("missing", False)}
        msg["value"] = torch.where(missing, _inside(base.support, value), value)
        msg["fn"] = base.expand(base.batch_shape).mask(~missing).to_event(depth)


def mask_missing(program: Any, sites: Sites = None) -> Program:
    """A program that takes NaN in its data as missing.

    Its observed sites leave out the entries that are NaN; its guide is given zero in their place.

    Args:
        program: Any object with ``.model`` and ``.guide``, or a pair of them.
        sites: Which observed sites; by default all of them.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)
        >>> from ppl_genmodels.objectives import elbo
        >>> x = torch.tensor([[0.0, float("nan")]])
        >>> elbo().loss(mask_missing((model, None)), x)
        tensor(0.9189)
    """
    source, masked = as_program(program), MaskMissing(sites)
    return source.wrap(masked, lambda guide: partial(_run_filled, guide))


def without_missing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments with zero where they are NaN.

    Example:
        >>> without_missing((torch.tensor([1.0, float("nan")]),), {})
        ((tensor([1., 0.]),), {})
    """
    return tuple(map(_zeroed, args)), {name: _zeroed(value) for name, value in kwargs.items()}


def _run_filled(guide: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs a guide with zero where its data are NaN."""
    args, kwargs = without_missing(args, kwargs)
    return guide(*args, **kwargs)


def _zeroed(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return torch.where(value.isnan(), torch.zeros_like(value), value)
    return value


def _inside(support: Any, like: Tensor) -> Tensor:
    """A value inside the support, so that the masked density has a finite gradient."""
    zeros = torch.zeros_like(like)
    return zeros if support.is_discrete else biject_to(support)(zeros)
