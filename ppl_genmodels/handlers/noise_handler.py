"""What handlers of noise share: a draw is made from parameter-free noise, and each handler may change that noise.

Convention of this module: a handler says of a message that it asks for noise (``infer["noise"]``) and leaves the draw
to one messenger at the bottom of Pyro's stack. That one acts last, when every plate and every other handler has had its
say, so that it sees the distribution that is drawn and leaves alone what was replayed. Noise is made, then mirrored,
then held, however the handlers are nested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK, Message
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor

from ppl_genmodels.distributions.noise import from_noise, noise_of
from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.detach_score import Landing
from ppl_genmodels.handlers.estimator import base_of
from ppl_genmodels.handlers.known_sites import KnownSites
from ppl_genmodels.handlers.score_function import ScoreFunction
from ppl_genmodels.handlers.site_handler import SiteHandler
from ppl_genmodels.structure import PARTICLES

__all__ = ["AsksForNoise", "NoiseHandler", "drawn_from_noise", "gradient_passes", "is_drawn", "particle_axis"]


class AsksForNoise(SiteHandler):
    """A handler by which some sites are drawn from noise.

    Attributes:
        stage: When it has its turn with the noise of a site.
        pathwise: Whether it serves only sites whose draws the gradient passes.
    """

    stage: ClassVar[int] = 0
    pathwise: ClassVar[bool] = False

    def __enter__(self) -> Any:
        entered = super().__enter__()
        _BOTTOM.put()
        return entered

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _BOTTOM.remove()
        super().__exit__(kind, error, trace)

    def ask(self, msg: Message) -> None:
        """Has a site drawn from noise."""
        msg["infer"] = {**msg["infer"], "noise": (*msg["infer"].get("noise", ()), self)}

    def noise(self, fn: Any, msg: Message, draw: Callable[[], Tensor]) -> Tensor:
        """The noise of a site.

        Args:
            fn: The distribution of the noise, expanded to all plates.
            msg: The message of the site.
            draw: Makes the noise that there would be without this handler.
        """
        return draw()

    def names(self, msg: Message) -> bool:
        """Whether the user named this very site."""
        return msg["name"] in (self._names or ())


class NoiseHandler(AsksForNoise, KnownSites):
    """A handler that changes the noise of sites and leaves their densities and their gradient's estimator alone.

    Args:
        sites: Which sites; by default all that have a map from parameter-free noise, and, where the handler makes
            particles depend on one another, whose draws the gradient passes.
    """

    def acts(self) -> bool:
        """Whether it has something to do in this run."""
        return True

    def _pyro_sample(self, msg: Message) -> None:
        super()._pyro_sample(msg)
        if is_drawn(msg) and self.selects(msg) and self.acts():
            self.ask(msg)


def is_drawn(msg: Message) -> bool:
    """Whether a message is that of a site that has no value yet."""
    fixed = msg["is_observed"] or msg["infer"].get("_deterministic") or msg["done"] or msg["value"] is not None
    return not fixed and not isinstance(msg["fn"], _Subsample)


def particle_axis(fn: Any, msg: Message) -> int | None:
    """The dim of a site's noise along which its particles lie, counted from the right; None without particles.

    Args:
        fn: The distribution of the noise.
        msg: The message of the site.
    """
    frames = (f for f in msg["cond_indep_stack"] if f.name == PARTICLES and f.vectorized)
    return next((frame.dim - len(fn.event_shape) for frame in frames), None)


class _Bottom(Messenger):
    """Draws the sites that noise was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def put(self) -> None:
        """Puts it at the bottom of the stack, where it stays until it was removed as often."""
        self._depth += 1
        if self not in _PYRO_STACK:
            _PYRO_STACK.insert(0, self)

    def remove(self) -> None:
        """Takes it off the stack when none is left that needs it."""
        self._depth -= 1
        if self._depth == 0 and self in _PYRO_STACK:
            _PYRO_STACK.remove(self)

    def _pyro_sample(self, msg: Message) -> None:
        asking = msg["infer"].get("noise", ())
        if not asking or not is_drawn(msg):
            return
        drawn = msg["fn"].fn if isinstance(msg["fn"], Landing) else msg["fn"]
        fn, passes = noise_of(drawn), gradient_passes(msg)
        able = [one for one in asking if fn is not None and (passes or not one.pathwise)]
        for one in asking:
            if one not in able and one.names(msg):
                raise _cannot_serve(one, msg, fn is not None)
        if fn is not None and able:
            draw: Callable[[], Tensor] = fn.sample
            for one in sorted(able, key=lambda each: each.stage):
                draw = partial(one.noise, fn, msg, draw)
            value = from_noise(drawn, draw())
            if drawn is not msg["fn"]:
                value.drawn_from = msg["fn"]  # type: ignore[attr-defined]
            msg["value"], msg["done"] = value if passes else value.detach(), True


_BOTTOM = _Bottom()


@contextmanager
def drawn_from_noise() -> Iterator[None]:
    """While open, sites are drawn from noise where that is asked for."""
    _BOTTOM.put()
    try:
        yield
    finally:
        _BOTTOM.remove()


def gradient_passes(msg: Message) -> bool:
    """Whether the gradient passes the draw of a site."""
    if msg["infer"].get("pathwise"):
        return True
    return bool(msg["fn"].has_rsample) and not isinstance(msg["infer"].get("gradient"), ScoreFunction)


def _cannot_serve(handler: AsksForNoise, msg: Message, has_noise: bool) -> ProgramError:
    kind, name = type(base_of(msg["fn"])).__name__, type(handler).__name__
    if not has_noise:
        return ProgramError(
            f"site '{msg['name']}': {name} serves distributions whose draws are made from parameter-free noise (see "
            f"distributions.noise), got {kind}. Remedy: leave this site out of sites=..."
        )
    return ProgramError(
        f"site '{msg['name']}': {name} makes particles depend on one another, which the gradient estimator of this "
        f"site, {kind}, may take for independent. Remedy: leave this site out of sites=..., or let the gradient pass "
        f"its draws (handlers.reparameterize for a continuous site, handlers.gumbel_softmax for a discrete one)."
    )
