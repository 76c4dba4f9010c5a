"""Distributions that are drawn and priced, and let no gradient through the draw.

Convention of this module: the class stays a subclass of the distribution's own, so closed forms and errors know it.
"""

from __future__ import annotations

import copy
from functools import cache
from types import new_class
from typing import Any

from ppl_genmodels.distributions.relaxed import replaced

__all__ = ["drawn_only"]


def drawn_only(fn: Any) -> Any:
    """The same distribution without ``rsample``; one given is left as it is.

    Args:
        fn: A distribution, within ``Independent`` or not.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> fn = dist.Normal(torch.zeros(3, requires_grad=True), 1.0).to_event(1)
        >>> drawn_only(fn).has_rsample, drawn_only(fn).expand([2])().requires_grad
        (False, False)
    """
    return replaced(fn, _base_drawn_only)


def _base_drawn_only(fn: Any) -> Any:
    fn = copy.copy(fn)
    kind: Any = type(fn)
    fn.__class__ = _without_rsample(kind)
    return fn


@cache
def _without_rsample(kind: Any) -> type:
    return new_class(kind.__name__, (kind,), exec_body=lambda body: body.update(has_rsample=False))
