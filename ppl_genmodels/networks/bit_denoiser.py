r"""A denoiser of bits: what a network says of the bits behind noisy ones.

Convention of this module: at time t from 0, data, to 1, noise, each bit is kept with probability :math:`1 - t`, and is
otherwise drawn anew, 1 with probability :math:`\pi`. In T equal steps that is the rate
:math:`\beta_i = 1 / (T - i + 1)`. Values have the shape (\*batch, \*event), times (\*batch) or any shape that
broadcasts to it. What is said of a bit are log-odds of 1 against 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ppl_genmodels.errors import OptionError

__all__ = ["BitDenoiser"]


class BitDenoiser(nn.Module):
    r"""A network with the noising of bits that it is made for.

    The log-odds of a bit given all noisy bits are those that its own noisy bit gives, which are known, and what the
    network adds, which is for it to find in the others:

    .. math:: \log \frac{p(x_i = 1 \mid z_t)}{p(x_i = 0 \mid z_t)} = \log \frac{\pi}{1 - \pi}
        + \log \frac{q(z_{t,i} \mid x_i = 1)}{q(z_{t,i} \mid x_i = 0)} + f_i(z_t, t)

    A network that adds nothing makes noise of noise: it walks the forward process backwards in equilibrium.

    Args:
        network: Called with noisy bits, shifted and scaled to mean 0 and variance 1 of noise, and times, shape
            (\*batch); any module that gives an output of the bits' shape.
        rate: :math:`\pi`, the probability of a 1 in noise.
        event_dim: How many dims one value has: 1 for vectors, 3 for images.

    Raises:
        OptionError: When the rate is not between 0 and 1.

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), Deep Unsupervised Learning using Nonequilibrium
        Thermodynamics, section 2.4.1 for the noising and table App.1 for its kernels. There the network gives the
        probabilities of the step's outcome; here it gives those of the data, and the step follows from Bayes' rule, as
        in Austin and others (2021), Structured Denoising Diffusion Models in Discrete State-Spaces, section 3.3.

    Example:
        >>> from ppl_genmodels.networks import TimeMLP
        >>> denoiser = BitDenoiser(TimeMLP(3, width=16))
        >>> denoiser(torch.ones(5, 3), torch.tensor(0.5)).sigmoid()[0]
        tensor([0.7500, 0.7500, 0.7500], grad_fn=<SelectBackward0>)
    """

    rate: Tensor

    def __init__(self, network: nn.Module, rate: float = 0.5, event_dim: int = 1) -> None:
        super().__init__()
        if not 0 < rate < 1:
            raise OptionError(f"BitDenoiser: rate={rate}, expected a probability between 0 and 1. Remedy: 0.5.")
        self.network, self.event_dim = network, event_dim
        self.register_buffer("rate", torch.tensor(rate), persistent=False)

    @property
    def noise_log_odds(self) -> Tensor:
        """The log-odds of a 1 in noise, a scalar."""
        return self.rate.logit()

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        r"""The log-odds of the data given noisy bits, of their shape.

        Args:
            noisy: Shape (\*batch, \*event).
            time: Shape (\*batch), or one that broadcasts to it.
        """
        scaled = (noisy - self.rate) / (self.rate * (1 - self.rate)).sqrt()
        found = self.network(scaled, time.expand(noisy.shape[: noisy.dim() - self.event_dim]))
        return self.noisy(noisy, time) + found

    def noisy(self, data: Tensor, time: Tensor) -> Tensor:
        r"""The log-odds of :math:`q(z_t \mid x)`; of :math:`q(x \mid z_t)` too, were the data noise.

        Args:
            data: :math:`x`, shape (\*batch, \*event).
            time: :math:`t`, above 0.
        """
        return self.noise_log_odds + self._evidence(data, (1 - time) / time)

    def posterior(self, noisy: Tensor, data: Tensor, time: Tensor, earlier: Tensor) -> Tensor:
        r"""The log-odds of :math:`q(z_s \mid z_t, x)` for :math:`s < t`.

        Args:
            noisy: :math:`z_t`, shape (\*batch, \*event).
            data: :math:`x`, of the same shape.
            time: :math:`t`, shape (\*batch) or one that broadcasts to it.
            earlier: :math:`s`, above 0.
        """
        return self.noisy(data, earlier) + self._evidence(noisy, (1 - time) / (time - earlier))

    def step(self, noisy: Tensor, found: Tensor, time: Tensor, earlier: Tensor) -> Tensor:
        r"""The log-odds of :math:`p(z_s \mid z_t) = \sum_x p(x \mid z_t) q(z_s \mid z_t, x)`, bit by bit.

        Args:
            noisy: :math:`z_t`, shape (\*batch, \*event).
            found: What :meth:`forward` says of it, of the same shape.
            time: :math:`t`, shape (\*batch) or one that broadcasts to it.
            earlier: :math:`s`, above 0.
        """
        one, zero = (self.posterior(noisy, data, time, earlier) for data in _both(noisy))
        sums = [
            torch.logaddexp(logsigmoid(found) + logsigmoid(way * one), logsigmoid(-found) + logsigmoid(way * zero))
            for way in (1, -1)
        ]
        return sums[0] - sums[1]

    def _evidence(self, bits: Tensor, odds: Tensor) -> Tensor:
        """How much more probable bits are when what they are noisy copies of is 1 than when it is 0, in nats.

        The odds are those of being kept. As the noising is in equilibrium with noise, this serves both ways of time.
        """
        odds = odds.reshape(*odds.shape, *(1,) * self.event_dim)
        return bits * (odds / self.rate).log1p() - (1 - bits) * (odds / (1 - self.rate)).log1p()


def _both(like: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(like), torch.zeros_like(like)
