r"""Sampling at a temperature: chosen sites are drawn from sharper or broader distributions.

Convention of this module: a site that is drawn has the distribution at the temperature, for its draw and for the
density of that draw; a site that is observed, or whose value comes from elsewhere, is priced as it was. The draw is
left to one messenger near the bottom of Pyro's stack, which sees what was replayed and what was not.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK, Message
from torch import Tensor

from ppl_genmodels.distributions.at_temperature import at_temperature
from ppl_genmodels.errors import OptionError
from ppl_genmodels.handlers.known_sites import KnownSites
from ppl_genmodels.handlers.noise_handler import _BOTTOM, is_drawn
from ppl_genmodels.handlers.site_handler import Sites
from ppl_genmodels.schedules import check_positive

__all__ = ["Temperature"]


class Temperature(KnownSites):
    r"""Draws sites at a temperature, :math:`T < 1` for fewer and more typical samples.

    What it does to a distribution is told by :func:`~ppl_genmodels.distributions.at_temperature`: of a flow, the base's
    standard deviation is multiplied by :math:`T`. Densities of observed sites stay as they are, and so do those of
    latent sites at the guide's draws: around a whole program, or around ``fitted.infer``, a guide at a temperature is
    another proposal, whose weights are right. Inside another temperature the two are multiplied.

    Args:
        temperature: :math:`T > 0`, a number or a scalar tensor.
        sites: Which sites; by default all that are drawn.

    Raises:
        OptionError: When the temperature is not positive and finite; when a site is drawn, of whose distribution it is
            not known what a temperature does to it.
        UnknownNameError: When a named site never appears in a run with observed sites.

    References:
        Kingma and Dhariwal (2018), Glow, sections 5.2 and 6.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> with Temperature(0.5), pyro.plate("data", 10000):
        ...     z = pyro.sample("z", dist.Normal(3.0, 1.0))
        >>> bool(z.std() < 0.52)
        True
    """

    def __init__(self, temperature: float | Tensor, sites: Sites = None) -> None:
        super().__init__(sites)
        check_positive("temperature", temperature, "such as 0.7")
        self.temperature = temperature

    def __enter__(self) -> Any:
        entered = super().__enter__()
        _DRAWS.put()
        return entered

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _DRAWS.remove()
        super().__exit__(kind, error, trace)

    def _pyro_sample(self, msg: Message) -> None:
        super()._pyro_sample(msg)
        if is_drawn(msg) and self.selects(msg):
            msg["infer"] = {**msg["infer"], "temperature": self.temperature * msg["infer"].get("temperature", 1.0)}


class _Draws(Messenger):
    """Puts drawn sites at the temperature that was asked for, just before they are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def put(self) -> None:
        """Puts it at the bottom of the stack, above what draws from noise, until it was removed as often."""
        self._depth += 1
        if self not in _PYRO_STACK:
            _PYRO_STACK.insert(1 if _BOTTOM in _PYRO_STACK[:1] else 0, self)

    def remove(self) -> None:
        """Takes it off the stack when none is left that needs it."""
        self._depth -= 1
        if self._depth == 0 and self in _PYRO_STACK:
            _PYRO_STACK.remove(self)

    def _pyro_sample(self, msg: Message) -> None:
        temperature = msg["infer"].get("temperature")
        if temperature is None or not is_drawn(msg):
            return
        try:
            msg["fn"] = at_temperature(msg["fn"], temperature)
        except OptionError as error:
            raise OptionError(f"site '{msg['name']}' at a temperature: {error}") from error


_DRAWS = _Draws()
