"""Quasi-random noise: the particles of a datum fill the unit cube evenly, by a randomised Sobol sequence.

Convention of this module: each scalar of noise of a datum is one dim of the sequence, over all of its sites; a dim that
a site was given stays with it. Each datum has a randomisation of its own, anew in each run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.quasirandom import SobolEngine
from torch.utils._python_dispatch import _disable_current_modes

from ppl_genmodels.distributions.noise_maps import opened
from ppl_genmodels.errors import OptionError
from ppl_genmodels.handlers.estimator import base_of
from ppl_genmodels.handlers.noise_handler import NoiseHandler, particle_axis
from ppl_genmodels.handlers.site_handler import Sites, applied
from ppl_genmodels.structure import PARTICLES

__all__ = ["QuasiRandom", "quasi_random"]

_BITS = 30


class QuasiRandom(NoiseHandler):
    r"""Randomised quasi-Monte Carlo: the noise of particle :math:`k` is :math:`F_\epsilon^{-1}(x_k \oplus s)`.

    :math:`x_k` is the k-th point of a Sobol sequence and :math:`s` a uniform digital shift, added bit by bit without
    carry, which leaves the points as even as they were and makes each uniform: the mean over particles is unbiased, in
    value and gradient. The error of a smooth integrand falls almost as 1/K, its variance as :math:`1/K^2`; numbers of
    particles that are powers of two do best. The data are the entries of the outermost plate around a site; entries of
    plates inside it have dims of their own. A term that mixes the particles of a datum (``iwae``) is another bound, as
    its particles are not independent. Acts where a gradient is taken, on sites whose draws the gradient passes: a
    baseline made of other particles must be independent of the draw.

    Args:
        sites: Which sites; by default all such that have a map from parameter-free noise.

    Raises:
        OptionError: When a datum has more scalars of noise than the sequence has dims.
        ProgramError: When a named site cannot be served.

    References:
        Buchholz, Wenzel and Mandt (2018), Quasi-Monte Carlo Variational Inference, section 3; Joe and Kuo (2008),
        Constructing Sobol Sequences with Better Two-Dimensional Projections, for the sequence; Owen (2003),
        Quasi-Monte Carlo Sampling, section 5, for the shift.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> with quasi_random(), pyro.plate("_particles", 8):
        ...     u = pyro.sample("u", dist.Uniform(0.0, 1.0))
        >>> (8 * u).floor().sort().values  # one in each eighth
        tensor([0., 1., 2., 3., 4., 5., 6., 7.])
    """

    stage = 1
    pathwise = True

    def __init__(self, sites: Sites = None) -> None:
        super().__init__(sites)
        self._dims: dict[str, tuple[int, int]] = {}
        self._used = 0

    def acts(self) -> bool:
        """Whether a gradient is taken."""
        return torch.is_grad_enabled()

    def noise(self, fn: Any, msg: Message, draw: Callable[[], Tensor]) -> Tensor:
        """The sequence's points in the place of independent noise."""
        axis, shape = particle_axis(fn, msg), fn.batch_shape + fn.event_shape
        if axis is None:
            return draw()
        data = _data_axis(fn, msg)
        kept = [len(shape) + dim for dim in (axis, data) if dim is not None]
        rest = [size for dim, size in enumerate(shape) if dim not in kept]
        particles, rows = shape[axis], 1 if data is None else shape[data]
        points = self._points(msg["name"], particles, torch.Size(rest).numel(), base_of(fn).mean.device)
        shift = torch.randint(2**_BITS, (1, rows, points.shape[-1]), device=points.device)
        uniform = ((points.unsqueeze(1) ^ shift).double() + 0.5) / 2**_BITS
        laid_out = uniform.reshape([particles, *([] if data is None else [rows]), *rest])
        laid_out = laid_out.movedim(list(range(len(kept))), kept)
        return base_of(fn).icdf(opened(laid_out.to(base_of(fn).mean.dtype)))

    def _points(self, name: str, particles: int, size: int, device: torch.device) -> Tensor:
        """The site's dims of the sequence, shape (particles, size)."""
        if self._dims.get(name, (0, -1))[1] != size:
            self._dims[name], self._used = (self._used, size), self._used + size
        start, _ = self._dims[name]
        if start + size > SobolEngine.MAXDIM:
            raise OptionError(
                f"quasi_random: with site '{name}' a datum has {start + size} scalars of noise, where a Sobol "
                f"sequence has {SobolEngine.MAXDIM} dims. Remedy: name the sites that matter most with sites=..."
            )
        with _disable_current_modes():
            return _sobol(particles, start + size)[:, start:].to(device)


def quasi_random(target: Any = None, *, sites: Sites = None) -> Any:
    """:class:`QuasiRandom` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(quasi_random(sites="z")).__name__
        'QuasiRandom'
    """
    return applied(QuasiRandom(sites), target)


def _data_axis(fn: Any, msg: Message) -> int | None:
    """The dim of the outermost plate around a site, counted from the right."""
    frames = (f for f in msg["cond_indep_stack"] if f.vectorized and f.name != PARTICLES)
    return next((frame.dim - len(fn.event_shape) for frame in frames), None)


@lru_cache(maxsize=16)
def _sobol(count: int, dims: int) -> Tensor:
    """Points of the sequence as whole numbers of 30 bits, shape (count, dims)."""
    return (SobolEngine(dims).draw(count, dtype=torch.float64) * 2**_BITS).long()
