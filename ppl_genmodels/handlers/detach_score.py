r"""Sticking the landing: the guide's density is priced with its parameters held constant, not so its draw.

Convention of this module: a distribution knows the draws that it has made itself, so that a prior in the model, and a
value from elsewhere, are priced as ever.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions import Delta, TorchDistribution
from pyro.distributions.util import detach
from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.handlers.estimator import Site
from ppl_genmodels.handlers.of_guide import OfGuide
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["DetachScore", "Landing", "detach_score"]


class DetachScore(OfGuide):
    r"""Leaves the score of the guide out of the pathwise gradient, where its expectation is zero.

    .. math:: \nabla_\phi \left[\log p(x, z_\phi) - \log q_{[\phi]}(z_\phi \mid x)\right]

    with :math:`[\phi]` held constant. Unbiased for objectives that are sums over sites, and without variance where the
    guide is the exact posterior. The site's divergence and entropy are estimated from its draw, as closed forms do not
    cancel against the likelihood's noise. What is held constant are the parameters of the site's distribution: where
    these were computed from an earlier draw of the guide, that path of the density is left out as well, which keeps the
    gradient unbiased, and some of its variance at the exact posterior.

    Args:
        sites: Which sites; by default all with ``rsample``. Of an automatic guide these are its auxiliary sites, and
            no names are given.

    Raises:
        ProgramError: When the guide's distribution of a named site has no ``rsample``, and for objectives that mix
            particles, as ``iwae()`` does: there it would be biased.

    References:
        Roeder, Wu and Duvenaud (2017), Sticking the Landing, equation 8 and section 3; Tucker, Lawson, Gu and Maddison
        (2019), Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives, section 3.2, on the bias with
        importance weights.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from ppl_genmodels.objectives import elbo
        >>> loc = torch.tensor(0.5, requires_grad=True)
        >>> def model(x):
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x):
        ...     pyro.sample("z", dist.Normal(loc, 0.5**0.5))
        >>> elbo().loss(detach_score((model, guide)), torch.tensor(1.0)).backward()  # at the exact posterior
        >>> bool(loc.grad.abs() < 1e-6)
        True
    """

    serves_what = "sites with rsample"

    def serves(self, fn: Any) -> bool:
        """Reparameterized, given without ``Independent`` around it; a point mass has nothing to leave out."""
        return bool(fn.has_rsample) and not isinstance(fn, Delta)

    def transform(self, msg: Message) -> None:
        """Prices the site's own draw with the parameters held constant."""
        msg["fn"] = Landing(msg["fn"])

    def surrogate(self, site: Site) -> Tensor | float:
        """Zero: the draw lets its gradient through.

        Raises:
            ProgramError: When the guide's distribution cannot be served, or the objective mixes the particles.
        """
        if site.mixed_cost is not None:
            raise ProgramError(
                f"site '{site.name}': DetachScore serves terms that are sums over sites, such as log_lik and kl; this "
                f"objective mixes the particles, where leaving the score out is biased. Remedy: elbo(), or no handler "
                f"for this site."
            )
        return super().surrogate(site)


def detach_score(target: Any = None, *, sites: Sites = None) -> Any:
    """:class:`DetachScore` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(detach_score(sites="z")).__name__
        'DetachScore'
    """
    return applied(DetachScore(sites), target)


class Landing(TorchDistribution):
    """A distribution whose own draws are priced with its parameters held constant.

    It has no registered divergence and no entropy, so that both come from the draw.

    Args:
        fn: The distribution, which has ``rsample``.

    Example:
        >>> import pyro.distributions as dist
        >>> scale = torch.tensor(2.0, requires_grad=True)
        >>> fn = Landing(dist.Normal(torch.zeros(3), scale))
        >>> fn.log_prob(torch.zeros(3)).requires_grad, fn.log_prob(fn.sample()).requires_grad
        (True, True)
        >>> torch.autograd.grad(fn.log_prob(fn.rsample()).sum(), scale)[0] < 0  # through the draw, away from the mode
        tensor(True)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, fn: Any) -> None:
        self.fn = fn
        super().__init__(fn.batch_shape, fn.event_shape, validate_args=False)

    def __repr__(self) -> str:
        return f"{self.fn} under DetachScore"

    @property
    def has_rsample(self) -> bool:
        """The distribution's own."""
        return bool(self.fn.has_rsample)

    @property
    def support(self) -> Any:
        """The distribution's own."""
        return self.fn.support

    @property
    def mean(self) -> Tensor:
        """The distribution's own."""
        mean: Tensor = self.fn.mean
        return mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same with another batch shape."""
        return Landing(self.fn.expand(torch.Size(batch_shape)))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """A draw without gradient."""
        value: Tensor = self.fn.sample(torch.Size(sample_shape))
        return value

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """A draw that is remembered as this distribution's."""
        value: Tensor = self.fn.rsample(torch.Size(sample_shape))
        value.drawn_from = self  # type: ignore[attr-defined]
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        r"""The log-density, shape (\*batch)."""
        own = getattr(value, "drawn_from", None) is self
        log_prob: Tensor = (detach(self.fn) if own else self.fn).log_prob(value)
        return log_prob
