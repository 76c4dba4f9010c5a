r"""Diffusion of bits, as a chain of latent sites.

Convention of this module: site ``z_i`` has the noisy bits at time :math:`i / T`, from ``z_T``, noise, to ``z_1``, whose
noise is the least; ``x`` has the data, zeros and ones in the program's floating dtype. All are in the plate ``data``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_rows, data_array, missing_data
from ppl_genmodels.networks import BitDenoiser, TimeMLP, UNet
from ppl_genmodels.networks.sizes import check_size, check_sizes

__all__ = ["BinomialChain", "BinomialDiffusion"]


class BinomialChain(nn.Module):
    r"""The reverse chain of a denoiser of bits as a model, and the forward chain as its guide.

    .. math:: p(x, z) = p(x \mid z_1) \, p(z_T) \prod_{i=2}^T p(z_{i-1} \mid z_i), \quad
        q(z \mid x) = q(z_T \mid x) \prod_{i=2}^T q(z_{i-1} \mid z_i, x)

    The guide draws from noise to data as the model does, so that every divergence is in closed form; it has no
    parameters, so that its draws need no gradient. The evidence bound is

    .. math:: K = - \sum_{i=2}^T E_q D[q(z_{i-1} \mid z_i, x) \| p(z_{i-1} \mid z_i)] + E_q \log p(x \mid z_1)
        + H_q(Z_T \mid X) - H_p(Z_T)

    whose last two terms cancel, as nothing is left of the data at time 1. With the first forward step taken backwards
    as the last step of the model, which is where an untrained denoiser starts, the second term is
    :math:`-H_q(Z_1 \mid X)` on data with as many ones as noise has, and K is equation 14 of the paper; here that step
    is learned as the others are. ``binomial_denoising(steps=T)`` estimates K at one step.

    Args:
        denoiser: Gives the probabilities of the bits.
        event_shape: Shape of a datum.
        steps: :math:`T`.

    Raises:
        OptionError: When ``steps`` is no positive integer.

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), Deep Unsupervised Learning using Nonequilibrium
        Thermodynamics, section 2 and appendix B.

    Example:
        >>> from ppl_genmodels.objectives import iwae
        >>> untrained = BinomialChain(BitDenoiser(TimeMLP(3, width=16)), (3,), steps=5)
        >>> iwae().evaluate(untrained, torch.ones(2, 3))["iwae"] / torch.tensor(2.0).log()
        tensor([-3.0000, -3.0000])
    """

    def __init__(self, denoiser: BitDenoiser, event_shape: Sequence[int], steps: int) -> None:
        super().__init__()
        self.denoiser, self.event_shape = denoiser, tuple(event_shape)
        self.steps = check_size(type(self).__name__, "steps", steps)

    def chain(self, steps: int) -> BinomialChain:
        """The chain of so many steps, with this network."""
        return BinomialChain(self.denoiser, self.event_shape, steps)

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws data by the reverse chain, or conditions on them.

        Args:
            x: Data to condition on, ``(rows, *event_shape)``; one row is drawn by default.

        Returns:
            The data, observed or drawn.

        Raises:
            DataError: When the data have another shape or dtype.
        """
        rows = 1 if x is None else self._checked_rows(x)
        with pyro.plate("data", rows):
            value = pyro.sample(f"z_{self.steps}", self._bits(self._noise_log_odds()))
            for number in range(self.steps, 1, -1):
                value = pyro.sample(f"z_{number - 1}", self._bits(self._step(value, number)))
            return pyro.sample("x", self._bits(self.denoiser(value, self._time(1))), obs=x)

    def guide(self, x: Tensor | None = None) -> None:
        """Draws the noisy bits of data, the noisiest first.

        Args:
            x: The data, ``(rows, *event_shape)``.

        Raises:
            ProgramError: When there are no data.
            DataError: As :meth:`model`.
        """
        if x is None:
            raise missing_data(self, "x")
        with pyro.plate("data", self._checked_rows(x)):
            value = self._draw(self.steps, self.denoiser.noisy(x, self._time(self.steps)))
            for number in range(self.steps, 1, -1):
                log_odds = self.denoiser.posterior(value, x, self._time(number), self._time(number - 1))
                value = self._draw(number - 1, log_odds)

    @torch.no_grad()
    def generate(self, rows: int) -> Tensor:
        """Draws data.

        Args:
            rows: How many.

        Returns:
            Data, ``(rows, *event_shape)``.
        """
        value = self._bits(self._noise_log_odds()).sample((rows,))
        for number in range(self.steps, 1, -1):
            value = self._step(value, number).sigmoid().bernoulli()
        return self.denoiser(value, self._time(1)).sigmoid().bernoulli()

    def _step(self, value: Tensor, number: int) -> Tensor:
        time = self._time(number)
        return self.denoiser.step(value, self.denoiser(value, time), time, self._time(number - 1))

    def _draw(self, number: int, log_odds: Tensor) -> Tensor:
        return pyro.sample(f"z_{number}", self._bits(log_odds), infer={"parameter_free": True})

    def _bits(self, log_odds: Tensor) -> dist.TorchDistribution:
        return dist.Bernoulli(logits=log_odds).to_event(len(self.event_shape))

    def _noise_log_odds(self) -> Tensor:
        return self.denoiser.noise_log_odds.expand(self.event_shape)

    def _time(self, number: int) -> Tensor:
        return self.denoiser.rate.new_full((), number / self.steps)

    def _checked_rows(self, x: Tensor) -> int:
        check_dtype(self, "x", x, like=self.denoiser.rate)
        return check_rows(self, "x", x, self.event_shape)


@register("binomial_diffusion")
class BinomialDiffusion(BinomialChain):
    r"""Diffusion of vectors or images of bits: a denoiser and its chain.

    The network gives the probabilities of the data's bits, and each step follows from Bayes' rule: it is then asked for
    the same thing at every time and is right bit by bit as soon as those probabilities are, whatever the number of
    steps. Fit it by ``binomial_denoising(steps=1000)``, which takes one step for each datum, or by ``elbo()``.

    Args:
        event_shape: Shape of a datum: (features,), or (channels, height, width) of images.
        width: Of the network's blocks: hidden units for vectors, channels of the finest scale for images.
        blocks: How many residual blocks, for images on each scale.
        scales: Of images: how often, less one, they are halved; each has twice the channels of the one before.
        rate: The probability of a 1 in noise.
        steps: Of the chain that is the program; :meth:`chain` gives longer ones.

    Raises:
        OptionError: When a size is no positive integer, the shape is neither of vectors nor of images, or the rate is
            no probability.

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), Deep Unsupervised Learning using Nonequilibrium
        Thermodynamics.

    Example:
        >>> from ppl_genmodels.objectives import binomial_denoising
        >>> program = BinomialDiffusion(event_shape=(4,), width=16)
        >>> binomial_denoising(steps=1000).loss(program, torch.ones(5, 4)).shape
        torch.Size([])
        >>> program.chain(100).generate(3).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        width: int = 128,
        blocks: int = 3,
        scales: int = 2,
        rate: float = 0.5,
        steps: int = 20,
    ) -> None:
        shape = check_sizes("BinomialDiffusion", "event_shape", event_shape)
        super().__init__(BitDenoiser(_network(shape, width, blocks, scales), rate, len(shape)), shape, steps)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``event_shape``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is empty.
        """
        return {"event_shape": data_array(data, "x", "BinomialDiffusion").shape[1:]}


def _network(shape: tuple[int, ...], width: int, blocks: int, scales: int) -> nn.Module:
    if len(shape) == 1:
        return TimeMLP(shape[0], width, blocks)
    if len(shape) == 3:
        widths = [width * 2**scale for scale in range(check_size("BinomialDiffusion", "scales", scales))]
        return UNet(shape[0], widths, blocks)
    raise OptionError(
        f"BinomialDiffusion: event_shape={shape}, expected (features,) or (channels, height, width). Remedy: reshape "
        f"the data."
    )
