"""What every handler of this library shares: how it selects sites, and its four calling forms.

Convention of this module: a handler is a context manager and a decorator, as all of Pyro's are; called with a
callable it wraps it, called with a program it wraps model and guide together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message

from ppl_genmodels.errors import OptionError
from ppl_genmodels.program import Program, as_program

__all__ = ["SiteHandler", "Sites", "applied", "module_key"]

Sites = str | Iterable[str] | Callable[[Message], bool] | None
"""One name, several names, a predicate on the message, or None for every site the handler can serve."""


class SiteHandler(Messenger):
    """A messenger that acts on selected sites.

    Args:
        sites: Which sites.

    Raises:
        OptionError: When ``sites`` is none of the things listed at :data:`Sites`.
    """

    def __init__(self, sites: Sites = None) -> None:
        super().__init__()
        if isinstance(sites, str):
            sites = (sites,)
        if sites is None or callable(sites):
            self._names, self._predicate = None, sites
        elif isinstance(sites, Iterable):
            self._names, self._predicate = frozenset(sites), None
        else:
            raise OptionError(f"sites is a name, several names or a predicate, got {sites!r}.")

    def selects(self, msg: Message) -> bool:
        """Whether the handler acts on this message."""
        if self._names is not None:
            return msg["name"] in self._names
        return self._predicate is None or bool(self._predicate(msg))


def applied(handler: Messenger, target: Any) -> Any:
    """A handler applied to nothing (itself), to a callable, or to a whole program.

    Example:
        >>> applied(SiteHandler(), (lambda: None, None)).guide is None
        True
    """
    if target is None:
        return handler
    if isinstance(target, Program | tuple) or hasattr(target, "model"):
        return as_program(target).wrap(handler)
    return handler(target)


def module_key(name: str) -> str:
    """What a module, a parameter or a buffer of a site is called: such names have no dots.

    Example:
        >>> module_key("network.weight")
        'network/weight'
    """
    return name.replace(".", "/")
