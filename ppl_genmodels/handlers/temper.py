r"""Tempering: the densities of chosen sites raised to a power, or their draws made at a temperature.

Convention of this module: a power multiplies the log-density wherever the site is priced, as the scale of a subsampled
plate does, and leaves the draws alone; a temperature changes the draws, see
:mod:`~ppl_genmodels.handlers.temperature`.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.runtime import Message
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor

from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.handlers.estimator import _FOR_GRADIENT, current_step
from ppl_genmodels.handlers.known_sites import KnownSites
from ppl_genmodels.handlers.site_handler import Sites, applied
from ppl_genmodels.handlers.temperature import Temperature
from ppl_genmodels.schedules import Schedule, check_positive
from ppl_genmodels.structure import is_delta

__all__ = ["Power", "Temper", "temper"]

Power = float | Tensor | Schedule
"""A positive number, a scalar tensor, or a schedule of the training step."""


class Temper(KnownSites):
    r"""Raises the density of sites to a power, :math:`p(x \mid z)^\beta`, as annealed and tempered posteriors do.

    Applied to a program, an observed site's likelihood is tempered, and of a latent site prior and guide both, which
    weighs its divergence. Applied to the model alone, :math:`p(z)^\beta` is set against the guide as it is, and the
    divergence, which has no closed form then, is estimated from the draw. Tempering holds without gradients too; a
    schedule has its end value there, in ``infer`` and in evidence, unless a step is given.

    Args:
        power: :math:`\beta > 0`.
        sites: Which sites; by default all.

    Raises:
        OptionError: When the power is not positive and finite, or not a scalar.
        UnknownNameError: When a named site never appears.
        ProgramError: When a named site is one that an automatic guide computes from an auxiliary draw.

    References:
        Neal (2001), Annealed Importance Sampling, equation 3; Mandt, McInerney, Abrol, Ranganath and Blei (2016),
        Variational Tempering, section 3; :func:`pyro.poutine.scale` for the semantics.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> with pyro.poutine.trace() as traced, Temper(0.5, "x"):
        ...     _ = pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(2.0))
        >>> traced.trace.log_prob_sum() / dist.Normal(0.0, 1.0).log_prob(torch.tensor(2.0))
        tensor(0.5000)
    """

    def __init__(self, power: Power, sites: Sites = None) -> None:
        super().__init__(sites)
        check_positive("power", power, "such as 0.5, or objectives.Linear(0.01, 1.0, steps=5000)")
        self.power = power

    def _pyro_sample(self, msg: Message) -> None:
        super()._pyro_sample(msg)
        if isinstance(msg["fn"], _Subsample) or msg["infer"].get("_deterministic") or not self.selects(msg):
            return
        if self._names is not None and is_delta(msg) and not msg["is_observed"]:
            raise ProgramError(
                f"site '{msg['name']}': Temper raises a density to a power, and this point mass has none. Remedy: of a "
                f"program with an automatic guide, temper the model alone, (temper(model, ...), guide), or leave out "
                f"sites=... to temper all."
            )
        msg["scale"] = msg["scale"] * self._now()
        msg["tempered_by"] = (*msg.get("tempered_by", ()), self)

    def _now(self) -> float | Tensor:
        if isinstance(self.power, Schedule):
            step, used = current_step(), torch.is_grad_enabled() or _FOR_GRADIENT.get()
            is_given = used or not isinstance(step, int) or step > 0
            return self.power(step if is_given else self.power.steps)
        return self.power.reshape(()) if isinstance(self.power, Tensor) else float(self.power)


def temper(
    target: Any = None,
    *,
    power: Power | None = None,
    temperature: float | Tensor | None = None,
    sites: Sites = None,
) -> Any:
    """:class:`Temper`, or :class:`Temperature`, applied to a callable or a program; the handler itself without one.

    Args:
        target: A callable, or a program; by default none.
        power: Densities are raised to it, and draws left alone.
        temperature: Draws are made at it; densities of what is not drawn are left alone.
        sites: Which sites; by default all.

    Raises:
        OptionError: When not just one of power and temperature is given, or it is not positive and finite.

    Example:
        >>> from ppl_genmodels.objectives import Linear
        >>> temper(sites="x", power=Linear(0.1, 1.0, steps=1000)).power
        Linear(start=0.1, end=1.0, steps=1000)
        >>> temper(temperature=0.7).temperature
        0.7
    """
    if (power is None) == (temperature is None):
        raise OptionError(
            f"temper takes one of power and temperature, got power={power}, temperature={temperature}. Remedy: "
            f"power=0.5 for flatter densities, temperature=0.7 for samples that are more typical."
        )
    handler = Temper(power, sites) if power is not None else Temperature(temperature, sites)  # type: ignore[arg-type]
    return applied(handler, target)
