r"""Reparameterization: a site is a parameter-free noise and a map, :math:`z = g(\epsilon; \theta)`.

Convention of this module: in a program with a guide the sites stay what they are, and the guide draws them by the map.
A model alone is written anew in Pyro's sense: the noise is its latent site, and what was one is deterministic.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import pyro
import pyro.distributions as dist
from pyro.infer.reparam.reparam import Reparam
from pyro.poutine.reparam_messenger import ReparamMessenger
from pyro.poutine.runtime import Message

from ppl_genmodels.distributions.noise import from_noise, has_noise, noise_of
from ppl_genmodels.distributions.relaxed import Relaxed, RelaxedMass
from ppl_genmodels.errors import ProgramError, UnknownNameError
from ppl_genmodels.handlers.estimator import base_of
from ppl_genmodels.handlers.noise_handler import AsksForNoise, is_drawn
from ppl_genmodels.handlers.of_guide import OfGuide
from ppl_genmodels.handlers.site_handler import SiteHandler, Sites
from ppl_genmodels.program import Program, as_program

__all__ = ["NoiseReparam", "Reparameterize", "reparameterize"]

_SERVED = (
    "continuous sites whose draws are made from parameter-free noise: those by location and scale, by quantile, by a "
    "transform of such, Gamma, Beta, Dirichlet, StudentT, VonMises"
)


class Reparameterize(AsksForNoise, OfGuide):
    r"""Draws sites of the guide from parameter-free noise, so that the gradient passes them.

    .. math:: z = g(\epsilon; \theta), \quad \nabla_\theta E[f(z)] = E[\nabla_z f(z) \, \partial_\theta g]

    The site keeps its name, its distribution and its density. Unbiased. Where the distribution has a reparameterized
    draw of its own, as a Normal, this is another way to the same gradient; a VonMises has none elsewhere: without this
    it gets the score function. Quantiles are found by numbers and differentiated implicitly, which takes a hundred
    times as long as the draw that torch has of a Gamma, Beta, Dirichlet or StudentT: name the sites that need it. Where
    no gradient is taken the site is drawn as ever.

    Args:
        sites: Which sites; by default all that it can serve.

    Raises:
        ProgramError: When a named site has, in the guide, a distribution that it cannot serve.

    References:
        Kingma and Welling (2014), Auto-Encoding Variational Bayes, section 2.4; Figurnov, Mohamed and Mnih (2018),
        Implicit Reparameterization Gradients, equation 5.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> loc = torch.tensor(0.3, requires_grad=True)
        >>> with Reparameterize("angle"):
        ...     angle = pyro.sample("angle", dist.VonMises(loc, 4.0))
        >>> torch.autograd.grad(angle, loc)[0]
        tensor(1.)
    """

    serves_what = _SERVED

    def serves(self, fn: Any) -> bool:
        """Continuous with a map from noise, given without ``Independent`` around it."""
        return has_noise(fn) and not fn.support.is_discrete and not isinstance(fn, Relaxed | RelaxedMass)

    def transform(self, msg: Message) -> None:
        """Has the site drawn from noise, and its gradient pass."""
        if is_drawn(msg):
            msg["infer"] = {**msg["infer"], "pathwise": True}
            self.ask(msg)


class NoiseReparam(Reparam):
    r"""A strategy for :func:`pyro.poutine.reparam`: ``z ~ fn`` becomes ``z_noise`` and a deterministic ``z``.

    Serves latent sites that :class:`Reparameterize` serves; combines with Pyro's own strategies, of which it is the
    fully decentred one wherever those know the family.

    Raises:
        ProgramError: When a site is observed or cannot be served.

    References:
        Gorinova, Moore and Hoffman (2020), Automatic Reparameterisation of Probabilistic Programs, section 4.1.

    Example:
        >>> def model():
        ...     return pyro.sample("z", dist.Gamma(2.0, 1.0))
        >>> trace = pyro.poutine.trace(pyro.poutine.reparam(model, {"z": NoiseReparam()})).get_trace()
        >>> trace.nodes["z_noise"]["fn"], trace.nodes["z"]["is_observed"]
        (Uniform(low: 0.0, high: 1.0), True)
    """

    def apply(self, msg: Any) -> Any:
        """The site's deterministic part; draws its noise."""
        name, fn = msg["name"], msg["fn"]
        if msg["is_observed"] or not _can_serve(fn):
            got = "an observed site" if msg["is_observed"] else type(base_of(fn)).__name__
            raise ProgramError(
                f"site '{name}': NoiseReparam serves latent {_SERVED}; got {got}. Remedy: leave this site out."
            )
        noise = pyro.sample(f"{name}_noise", noise_of(fn), infer={"is_noise": True})
        value = from_noise(fn, noise)
        return {"fn": dist.Delta(value, event_dim=fn.event_dim).mask(False), "value": value, "is_observed": True}


class _WithNoiseSites(ReparamMessenger):
    """Writes sites of a model anew by :class:`NoiseReparam`."""

    def __init__(self, sites: Sites) -> None:
        super().__init__(self._strategy)
        self._sites, self._seen = SiteHandler(sites), set[str]()

    def _strategy(self, msg: Message) -> NoiseReparam | None:
        self._seen.add(msg["name"])
        fixed = msg["is_observed"] or msg["infer"].get("is_noise")
        if fixed or not self._sites.selects(msg):
            return None
        return NoiseReparam() if self._sites._names is not None or _can_serve(msg["fn"]) else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        absent = sorted((self._sites._names or frozenset()) - self._seen)
        if error is None and absent:
            raise UnknownNameError("site", absent[0], self._seen, "of reparameterize")


def reparameterize(target: Any = None, *, sites: Sites = None) -> Any:
    """Puts parameter-free noise and a map in the place of sites.

    Around a program with a guide it is :class:`Reparameterize`: the guide's sites are drawn by the map and keep their
    names and densities, so that every objective is as it was. Around a model alone, as for :func:`nuts` or to see the
    prior, it is :class:`NoiseReparam` at these sites: ``z_noise`` is latent in the place of ``z``, and ``z`` is a
    deterministic site. Without a target it is the handler :class:`Reparameterize`, for a guide alone.

    Args:
        target: A program, a model, or nothing.
        sites: Which sites; by default all latent sites that can be served.

    Example:
        >>> def model():
        ...     scale = pyro.sample("scale", dist.HalfCauchy(1.0))
        ...     return pyro.sample("effect", dist.Normal(0.0, scale))
        >>> centred = as_program(reparameterize(model, sites="effect"))
        >>> [(site.name, site.kind) for site in centred.structure().sites]
        [('scale', 'latent'), ('effect_noise', 'latent'), ('effect', 'deterministic')]
    """
    if target is None:
        return Reparameterize(sites)
    if isinstance(target, Program | tuple) or hasattr(target, "model"):
        program = as_program(target)
        return program.wrap(Reparameterize(sites) if program.guide is not None else _WithNoiseSites(sites))
    return _WithNoiseSites(sites)(target)


def _can_serve(fn: Any) -> bool:
    return Reparameterize.serves(Reparameterize.__new__(Reparameterize), base_of(fn))
