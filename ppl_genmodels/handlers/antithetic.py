r"""Antithetic noise: each particle of the first half has its mirror image in the second.

Convention of this module: the mirror image of noise has the same law: :math:`-\epsilon` of a normal, :math:`1 - u` of a
uniform, and of a Gumbel the one whose uniform is mirrored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributions as torch_dist
from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.errors import OptionError
from ppl_genmodels.handlers.estimator import base_of
from ppl_genmodels.handlers.noise_handler import NoiseHandler, particle_axis
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["Antithetic", "antithetic", "mirrored"]


class Antithetic(NoiseHandler):
    r"""Draws particles in antithetic pairs, :math:`z_k = g(\epsilon_k)` and :math:`z_{k + K/2} = g(-\epsilon_k)`.

    Each particle has the law that it would have, so that the mean over particles stays unbiased, in value and gradient;
    what is odd in the noise cancels in each pair. A term that mixes the particles of a datum (``iwae``) is another
    bound, as its particles are not independent. Acts where a gradient is taken, on sites whose draws the gradient
    passes: a baseline made of other particles must be independent of the draw.

    Args:
        sites: Which sites; by default all such that have a map from parameter-free noise.

    Raises:
        OptionError: In a run whose number of particles is odd.
        ProgramError: When a named site cannot be served.

    References:
        Hammersley and Morton (1956), A New Monte Carlo Technique: Antithetic Variates; Wu, Goodman and Ermon (2019),
        Differentiable Antithetic Sampling for Variance Reduction in Stochastic Variational Inference, section 3.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> with antithetic(), pyro.plate("_particles", 4):
        ...     z = pyro.sample("z", dist.Normal(0.0, 2.0))
        >>> z[:2] + z[2:]
        tensor([0., 0.])
    """

    stage = 2
    pathwise = True

    def acts(self) -> bool:
        """Whether a gradient is taken."""
        return torch.is_grad_enabled()

    def noise(self, fn: Any, msg: Message, draw: Callable[[], Tensor]) -> Tensor:
        """Half of the noise that there would be, and its mirror image."""
        drawn, axis = draw(), particle_axis(fn, msg)
        particles = 1 if axis is None else drawn.shape[axis]
        if axis is None or particles % 2:
            raise OptionError(
                f"antithetic particles come in pairs, got num_particles={particles}. Remedy: an even number, such as "
                f"num_particles={particles + 1}."
            )
        half = drawn.narrow(axis, 0, particles // 2)
        return torch.cat([half, mirrored(fn, half)], axis)


def antithetic(target: Any = None, *, sites: Sites = None) -> Any:
    """:class:`Antithetic` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(antithetic(sites="z")).__name__
        'Antithetic'
    """
    return applied(Antithetic(sites), target)


def mirrored(fn: Any, noise: Tensor) -> Tensor:
    """The mirror image of noise.

    Args:
        fn: Its distribution: standard normal, uniform or standard Gumbel.
        noise: Any shape.

    Example:
        >>> mirrored(torch_dist.Uniform(0.0, 1.0), torch.tensor(0.25))
        tensor(0.7500)
    """
    base = base_of(fn)
    if isinstance(base, torch_dist.Uniform):
        return 1 - noise
    if isinstance(base, torch_dist.Gumbel):
        exponential = (-noise).exp()  # minus the log of the uniform
        rest = torch.where(noise > 0, (-(-exponential).expm1()).log(), (-(-exponential).exp()).log1p())
        return -(-rest).log()
    return -noise
