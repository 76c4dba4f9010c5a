"""Common noise: every run under one handler draws the same noise at the same site.

Convention of this module: noise depends on the seed, the name of the site, and the shape, dtype and device of the
noise; not on the random state, which it leaves alone, and not on parameters.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import torch
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from ppl_genmodels.handlers.noise_handler import NoiseHandler
from ppl_genmodels.handlers.site_handler import Sites, applied

__all__ = ["CommonNoise", "common_noise"]


class CommonNoise(NoiseHandler):
    r"""Common random numbers: runs with other parameters, or of another program, by the same noise.

    .. math:: \hat f(\theta + \delta) - \hat f(\theta), \quad \text{both at } z = g(\epsilon; \cdot)
        \text{ with one } \epsilon

    The variance of such a difference falls with :math:`\delta^2`, where that of independent runs stays as it is; finite
    differences of the objective are those of a smooth function where the maps are smooth. Particles and data have noise
    of their own, the same in each run of the same shape. One run by itself has the law that it would have, over seeds.
    A fit under it maximises the average over one set of draws for ever.

    Acts in all runs, also where no gradient is taken, and on discrete sites too.

    Args:
        sites: Which sites; by default all that have a map from parameter-free noise.
        seed: Of the noise.

    Raises:
        ProgramError: When a named site has no such map.

    References:
        Glasserman and Yao (1992), Some Guidelines and Guarantees for Common Random Numbers.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> with common_noise(seed=1):
        ...     first, second = (pyro.sample("z", dist.Normal(loc, 1.0)) for loc in (0.0, 3.0))
        >>> second - first
        tensor(3.)
    """

    stage = 3

    def __init__(self, sites: Sites = None, seed: int = 0) -> None:
        super().__init__(sites)
        self.seed = seed

    def noise(self, fn: Any, msg: Message, draw: Callable[[], Tensor]) -> Tensor:
        """The noise that there would be under a random state of the site's own; a constant in a traced run."""
        with _disable_current_modes(), torch.random.fork_rng():
            torch.manual_seed(zlib.crc32(f"{self.seed} {msg['name']}".encode()))
            return draw()


def common_noise(target: Any = None, *, sites: Sites = None, seed: int = 0) -> Any:
    """:class:`CommonNoise` applied to a callable or a program; the handler itself without one.

    Example:
        >>> common_noise(seed=3).seed
        3
    """
    return applied(CommonNoise(sites, seed), target)
