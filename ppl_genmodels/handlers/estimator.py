"""What every gradient estimator shares: it takes a site of the guide, and no other estimator may.

Convention of this module: an estimator marks the sites it takes with itself (``infer["gradient"]``). One that changes
the draw overrides :meth:`Estimator.transform`; one that leaves the draw alone and adds the gradient that the draw lets
through no other way overrides :meth:`Estimator.surrogate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ClassVar, Protocol

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions import Independent

from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.handlers.instead import exchanged
from ppl_genmodels.handlers.site_handler import SiteHandler, Sites

__all__ = ["Estimator", "NamedAtSites", "Site", "at_step", "base_of", "current_step", "for_gradient"]


_FOR_GRADIENT = ContextVar("for_gradient", default=False)
_STEP: ContextVar[int | Tensor] = ContextVar("step", default=0)


@contextmanager
def for_gradient() -> Iterator[None]:
    """While open, runs without gradients are part of taking one."""
    token = _FOR_GRADIENT.set(True)
    try:
        yield
    finally:
        _FOR_GRADIENT.reset(token)


@contextmanager
def at_step(step: int | Tensor) -> Iterator[None]:
    """While open, estimators see this training step, a tensor in a traced run."""
    token = _STEP.set(step)
    try:
        yield
    finally:
        _STEP.reset(token)


def current_step() -> int | Tensor:
    """The training step of the run that is being made; 0 outside of runs.

    Example:
        >>> with at_step(3):
        ...     current_step()
        3
    """
    return _STEP.get()


class Site(Protocol):
    """What an estimator is told of a latent site and of what its draw costs; see ``objectives/alternatives.py``.

    All tensors have the batch layout of the run: (particles, plates), 1 where the site is not repeated. Costs are what
    is maximised, in nats, so scaled that their sum over all dims but the first is the objective.
    """

    name: str
    fn: Any
    value: Tensor

    @property
    def log_prob(self) -> Tensor:
        """The log-density of the draw, with gradient."""

    @property
    def cost(self) -> Tensor:
        """What the draw has an influence on, without gradient; zero where nothing has."""

    @property
    def mixed_cost(self) -> Tensor | None:
        """The same of terms in which all particles of a datum enter; its first dim is 1."""

    @property
    def mixed_baseline(self) -> Tensor:
        """What such terms would be without each of the particles, as far as that is known; zero otherwise."""

    @property
    def data_dim(self) -> int | None:
        """The dim along which the costs of other data do not depend on this datum's draw; None when there is none."""

    @property
    def data_axis(self) -> int | None:
        """The dim of the data in batch layout, counted from the left; None for a global site."""

    def in_layout(self, value: Tensor, inner: int) -> Tensor:
        """A value with so many dims after the batch dims, in batch layout."""

    @property
    def objective(self) -> Tensor:
        """What is maximised as it was drawn, with gradient, in the layout of the costs of alternatives."""

    def alternatives(self, draws: Tensor, later: Any, gradient: bool = False) -> tuple[Tensor, Tensor]:
        """What other draws of this site would cost, and the log-density of the guide's draws that depend on it.

        What becomes of the sites drawn after it is one of ``handlers/later.py``.
        """

    def around(self, draw: Tensor, later: Any) -> tuple[Tensor, Tensor]:
        """What another draw of this site would cost, as :attr:`cost`, and the gradient of the objective in it."""

    @property
    def inputs(self) -> Tensor:
        """The data that have a row for each datum, as one vector for each, shape (data, features)."""

    @property
    def share(self) -> float:
        """What a nat of one datum counts in costs; a nat of the objective for a global site."""

    def per_datum(self, values: Tensor) -> Tensor:
        """Values in nats for each datum, shape (data,), laid out and scaled as costs are."""


class Estimator(SiteHandler):
    """How the gradient passes a site. Works as a context manager, as a decorator, and on a program.

    Where no gradient is taken (``infer``, ``sample``, validation) an estimator has nothing to do, and one that changes
    the draw leaves it as the program has it.

    Args:
        sites: Which sites; by default all that it can serve.

    Attributes:
        biased: Whether the gradient's expectation is not the gradient of the objective.
        serves_what: What sites it can serve, in words.
    """

    biased: ClassVar[bool] = False
    serves_what: ClassVar[str] = "any site"

    def __init__(self, sites: Sites = None) -> None:
        super().__init__(sites)
        self._seen: set[str] = set()

    def serves(self, fn: Any) -> bool:
        """Whether it can serve a distribution, given without ``Independent`` around it."""
        return True

    def transform(self, msg: Message) -> None:
        """Changes how a site that was taken is drawn and priced."""

    def surrogate(self, site: Site) -> Tensor | float:
        """A zero whose gradient is what the draw of this site does not let through.

        One that knows the objective better than by the draw (``Marginalize``) gives the difference instead of a zero.
        """
        return 0.0

    def _pyro_sample(self, msg: Message) -> None:
        self._seen.add(msg["name"])
        fixed = msg["is_observed"] or msg["infer"].get("_deterministic") or isinstance(msg["fn"], _Subsample)
        fixed = fixed or msg["name"] in exchanged()
        if not fixed and self.selects(msg) and (self._names is not None or self.serves(base_of(msg["fn"]))):
            self.take(msg)

    def take(self, msg: Message) -> None:
        """Takes a site.

        Raises:
            OptionError: When another estimator has it already.
            ProgramError: When it cannot serve the site's distribution.
        """
        other = msg["infer"].get("gradient")
        if other is self and msg["infer"].get("gradient_taken"):
            return  # around a whole objective: replayed in the model, where it was named by the guide's site
        if msg["infer"].get("gradient_taken"):
            raise OptionError(
                f"site '{msg['name']}' is claimed by two gradient estimators, {type(other).__name__} and "
                f"{type(self).__name__}. Remedy: name the sites of each with sites=..., and each site once."
            )
        if not self.serves(base_of(msg["fn"])):
            raise ProgramError(
                f"site '{msg['name']}': {type(self).__name__} serves {self.serves_what}, got "
                f"{type(base_of(msg['fn'])).__name__}. Remedy: {_those_that_can(base_of(msg['fn']))}."
            )
        msg["infer"] = {**msg["infer"], "gradient": self, "gradient_taken": True}
        if torch.is_grad_enabled() or _FOR_GRADIENT.get():
            self.transform(msg)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        absent = sorted((self._names or frozenset()) - self._seen)
        if error is None and absent:
            raise UnknownNameError("site", absent[0], self._seen, f"of {type(self).__name__}")


class NamedAtSites(Messenger):
    """Lets the estimators act that sites name themselves, as ``infer={"gradient": ...}`` in ``pyro.sample``.

    Args:
        guide: The nodes of the guide, whose estimators its sites have in the model too.
    """

    def __init__(self, guide: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.guide = guide or {}

    def _pyro_sample(self, msg: Message) -> None:
        if msg["infer"].get("gradient_taken") or isinstance(msg["fn"], _Subsample):
            return
        in_guide = self.guide.get(msg["name"])
        named = msg["infer"].get("gradient") or (in_guide and in_guide["infer"].get("gradient"))
        if msg["name"] in exchanged():
            msg["infer"] = {key: value for key, value in msg["infer"].items() if key != "gradient"}
            named = exchanged()[msg["name"]]
        if named is not None and (in_guide is not None or not msg["is_observed"]):
            named.take(msg)


def base_of(fn: Any) -> Any:
    """A distribution without what declares its dims as event dims.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> type(base_of(dist.Normal(torch.zeros(2), 1.0).to_event(1))).__name__
        'Normal'
    """
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn


def _those_that_can(fn: Any) -> str:
    import ppl_genmodels.handlers as handlers

    classes = (getattr(handlers, name) for name in handlers.__all__)
    found = [c for c in classes if isinstance(c, type) and issubclass(c, Estimator) and c is not Estimator]
    able = [c.__name__ for c in found if c.serves(c.__new__(c), fn)]
    return f"one of {', '.join(able)} serves it" if able else "a site that is reparameterized needs none"
