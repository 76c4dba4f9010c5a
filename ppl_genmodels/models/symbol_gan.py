r"""A generative adversarial network of rows of symbols, such as text: discrete data from a continuous generator.

Convention of this module: a latent site ``z``, standard normal, a site ``v``, a vector over the kinds of symbol at each
place, shape (length, symbols), and a deterministic site ``x``, the symbol of its largest entry, numbers from 0, shape
(length,), all in the plate ``data``. Data enter by the critic alone, which has them as one-hot vectors beside ``v``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.handlers import GumbelSoftmax
from ppl_genmodels.models.adversary import Adversary
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_index, check_rows, data_array
from ppl_genmodels.models.symbol_game import VECTORS, between_symbols
from ppl_genmodels.networks import SequenceCritic, SequenceDecoder
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives import Exponential, Objective

__all__ = ["SymbolGAN"]

Output = Literal["softmax", "gumbel"]


@register("symbol_gan")
class SymbolGAN(Adversary):
    r"""Generative adversarial network of rows of symbols, by softmax or Gumbel-Softmax output.

    .. math:: z \sim \mathcal N(0, I), \quad v = \mathrm{softmax}(G(z)) \quad \text{or} \quad
        v_t \sim \mathrm{Categorical}(\mathrm{softmax}(G(z)_t)), \quad x_t = \arg\max_k v_{tk}

    With ``"softmax"`` the critic scores probabilities beside one-hot data. With ``"gumbel"`` ``v`` is a site of one-hot
    draws, relaxed by :class:`~ppl_genmodels.handlers.GumbelSoftmax` where the program is fitted.

    Args:
        length: Symbols in a row.
        symbols: How many kinds there are.
        latent_dim: Length of ``z``.
        width: Channels of both networks' convolutions.
        blocks: Residual blocks of both, of two convolutions each.
        kernel: Places that a convolution sees, an odd number.
        output: ``"softmax"`` or ``"gumbel"``.
        temperature: Of the relaxation.
        last_temperature: What the temperature falls to, by a constant ratio; None when it stays.
        annealing_steps: The training steps in which it does.
        divergence: ``"wasserstein"``, ``"nonsaturating"``, ``"minimax"``, ``"least_squares"`` or ``"hinge"``.
        gradient_penalty: As :meth:`~ppl_genmodels.models.Adversary.keep_critic` has it, and so are the next two.
        critic_steps: As there.
        critic_rate: As there.

    Raises:
        OptionError: When a size is no positive integer, the kernel is even, a temperature is not positive, or there is
            no such output.
        UnknownNameError: When there is no such divergence.

    References:
        Gulrajani and others (2017), Improved Training of Wasserstein GANs, section 5.4; Kusner and Hernández-Lobato
        (2016), GANs for Sequences of Discrete Elements with the Gumbel-softmax Distribution.

    Example:
        >>> program = SymbolGAN(length=12, symbols=5, width=8)
        >>> print(program.default_objective())
        - D[data(x) || model(x)]
        >>> program.generate(3).shape
        torch.Size([3, 12])
    """

    prior_loc: Tensor
    prior_scale: Tensor

    def __init__(
        self,
        length: int,
        symbols: int,
        latent_dim: int = 128,
        width: int = 64,
        blocks: int = 3,
        kernel: int = 5,
        output: Output = "softmax",
        temperature: float = 1.0,
        last_temperature: float | None = None,
        annealing_steps: int = 1000,
        divergence: str = "wasserstein",
        gradient_penalty: float | None = None,
        critic_steps: int | None = None,
        critic_rate: float = 4e-4,
    ) -> None:
        super().__init__()
        size = check_size("SymbolGAN", "latent_dim", latent_dim)
        self.length = check_size("SymbolGAN", "length", length)
        self.symbols = check_size("SymbolGAN", "symbols", symbols)
        if output not in get_args(Output):
            raise OptionError(
                f"SymbolGAN: output={output!r}, expected one of {', '.join(map(repr, get_args(Output)))}."
            )
        self.relaxed = _relaxation(temperature, last_temperature, annealing_steps) if output == "gumbel" else None
        self.generator = SequenceDecoder(size, self.length, self.symbols, width, blocks, kernel)
        critic = SequenceCritic(self.length, self.symbols, width, blocks, kernel)
        self.keep_critic(critic, divergence, gradient_penalty, critic_steps, critic_rate)
        self.register_buffer("prior_loc", torch.zeros(size), persistent=False)
        self.register_buffer("prior_scale", torch.ones(size), persistent=False)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``length`` and ``symbols``, read off the array ``x``.

        Raises:
            UnknownNameError: When the data have no array ``x``.
            DataError: When it is empty, or holds no rows of whole numbers.
        """
        x = data_array(data, "x", "SymbolGAN")
        if x.ndim != 2 or not np.issubdtype(x.dtype, np.integer):
            raise DataError(
                f"SymbolGAN: array 'x' has shape {x.shape} and dtype {x.dtype}, expected (rows, length) of whole "
                f"numbers. Remedy: number the symbols from 0."
            )
        return {"length": x.shape[1], "symbols": int(x.max()) + 1}

    def default_objective(self) -> Objective:
        """Minus the divergence of what is drawn from the data."""
        return -between_symbols(self.game("x"))

    def model(self, x: Tensor | None = None) -> Tensor:
        """Draws a row of symbols for each row; the data tell only how many.

        Args:
            x: Symbols, ``(rows, length)``; one row is drawn by default.

        Returns:
            What was drawn, ``(rows, length)``.

        Raises:
            DataError: When the data have another shape or dtype, or there is no such symbol.
        """
        with pyro.plate("data", self._rows(x)):
            z = pyro.sample("z", dist.Normal(self.prior_loc, self.prior_scale).to_event(1))
            return pyro.deterministic("x", self._vectors(self.generator(z)).argmax(-1), event_dim=1)

    def _vectors(self, logits: Tensor) -> Tensor:
        if self.relaxed is None:
            return pyro.deterministic(VECTORS, logits.softmax(-1), event_dim=2)
        with self.relaxed:
            drawn: Tensor = pyro.sample(VECTORS, dist.OneHotCategorical(logits=logits).to_event(1))
        return drawn

    @torch.no_grad()
    def generate(self, rows: int) -> Tensor:
        """Draws rows of symbols: by softmax the likeliest at each place, by Gumbel-Softmax one drawn at each.

        Args:
            rows: How many.

        Returns:
            Symbols, ``(rows, length)``.

        Raises:
            OptionError: When it is no positive integer.
        """
        count = check_size("SymbolGAN", "rows", rows)
        logits = self.generator(torch.randn_like(self.prior_loc.expand(count, -1)))
        drawn: Tensor = logits.argmax(-1) if self.relaxed is None else dist.Categorical(logits=logits).sample()
        return drawn

    def _rows(self, x: Tensor | None) -> int:
        if x is None:
            return 1
        rows = check_rows(self, "x", x, (self.length,))
        check_index(self, "x", x, self.symbols, "symbols")
        return rows


def _relaxation(temperature: float, last: float | None, steps: int) -> GumbelSoftmax:
    """A handler of the site, whose price is that of the discrete one."""
    falling = temperature if last is None else Exponential(temperature, last, steps)
    return GumbelSoftmax(VECTORS, falling, density="categorical")
