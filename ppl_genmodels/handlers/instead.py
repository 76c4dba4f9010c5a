"""Other gradient estimators at some sites than the program's own, so that they can be compared.

Convention of this module: what is exchanged holds for the guide and the model, whether the program's own estimator is a
handler or named at the site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

__all__ = ["exchanged", "instead"]

_EXCHANGED: ContextVar[Mapping[str, Any]] = ContextVar("exchanged", default=MappingProxyType({}))


@contextmanager
def instead(estimators: Mapping[str, Any]) -> Iterator[None]:
    """While open, the named sites are served by these estimators and by no others.

    Args:
        estimators: For each site an :class:`~ppl_genmodels.handlers.Estimator`, or None for the pathwise gradient.

    Example:
        >>> with instead({"z": None}):
        ...     dict(exchanged())
        {'z': None}
    """
    token = _EXCHANGED.set(estimators)
    try:
        yield
    finally:
        _EXCHANGED.reset(token)


def exchanged() -> Mapping[str, Any]:
    """For each site whose estimator is exchanged, the one it has instead."""
    return _EXCHANGED.get()
