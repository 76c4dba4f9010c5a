"""Which sites a site is computed from, read from one run in which tensors remember where they come from.

Convention of this module: a value that leaves the tensors, as a Python number, as a branch of the program or to numpy,
may enter all that comes after it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch.overrides import TorchFunctionMode

from ppl_genmodels.structure import Node, is_deterministic, sample_sites

__all__ = ["READING", "parents_of"]

READING: ContextVar[bool] = ContextVar("READING", default=False)
"""Whether provenance is being read, when only what a value is computed from counts, not the value."""

_LEAVING = frozenset(
    {
        torch.Tensor.numpy,
        torch.Tensor.item,
        torch.Tensor.tolist,
        torch.Tensor.__array__,
        torch.Tensor.__bool__,
        torch.Tensor.__float__,
        torch.Tensor.__int__,
        torch.Tensor.__index__,
        torch.Tensor.data_ptr,
        torch.Tensor.__dlpack__,
    }
)


def parents_of(
    fn: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, tuple[str, ...]]:
    """For each site the sites that its distribution is computed from, in the order of the run.

    Empty for a function whose operations refuse the tensors that carry provenance.
    """
    if fn is None:
        return {}
    watch = _Leaving()
    reached = _AtSites(watch)
    token = READING.set(True)
    try:
        with pyro.validation_enabled(False), watch, reached, TrackProvenance(include_deterministic=True):
            nodes = sample_sites(poutine.trace(fn).get_trace(*args, **kwargs))
        found = {name: _provenance(node) | reached.left[name] for name, node in nodes.items()}
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError, NotImplementedError):
        return {}
    finally:
        READING.reset(token)
    return {name: tuple(n for n in nodes if n in found[name] - {name}) for name in nodes}


class _Leaving(TorchFunctionMode):
    """Collects the provenance of what leaves the tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.left: frozenset[str] = frozenset()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _LEAVING:
            self.left |= get_provenance(args[0])
        return func(*args, **(kwargs or {}))


class _AtSites(Messenger):
    """Notes what had left when a site was reached."""

    def __init__(self, watch: _Leaving) -> None:
        super().__init__()
        self.watch, self.left = watch, dict[str, frozenset[str]]()

    def _pyro_sample(self, msg: Message) -> None:
        self.left[str(msg["name"])] = self.watch.left


def _provenance(node: Node) -> frozenset[str]:
    fn = node["fn"]
    if is_deterministic(node):
        return get_provenance(fn.base_dist.v)
    return get_provenance(fn.log_prob(node["value"]))
