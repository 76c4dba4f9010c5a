r"""CycleGAN: translations between two kinds of data, of which no pair is known.

Convention of this module: the arguments ``x`` and ``y`` are data of either kind, row by row unrelated; deterministic
sites ``y`` and ``x`` are their translations, and Laplace sites ``x_cycle`` and ``y_cycle`` what is met again on the way
back; all in the plate ``data``.
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
from ppl_genmodels.models.adversary import Adversary
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_rows, data_rows
from ppl_genmodels.networks import MLP, Critic
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives import Objective, cycle_consistency

__all__ = ["CycleGAN", "Translator"]


class Translator(Adversary):
    """A perceptron from one kind of vectors to another, with a critic of what it makes.

    Args:
        inputs: Length of the one kind.
        outputs: Length of the other.
        hidden: Widths of the hidden layers, also of the critic's.
        **played: How the critic plays, as :meth:`~ppl_genmodels.models.Adversary.keep_critic` has it.

    Example:
        >>> played = {"divergence": "hinge", "gradient_penalty": None, "critic_steps": None, "critic_rate": 1e-3}
        >>> Translator(2, 3, (8,), **played)(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(self, inputs: int, outputs: int, hidden: Sequence[int], **played: Any) -> None:
        super().__init__()
        self.network = MLP(inputs, outputs, hidden)
        self.keep_critic(Critic((outputs,), hidden), **played)

    def forward(self, value: Tensor) -> Tensor:
        """The translation of rows, ``(..., inputs)``."""
        made: Tensor = self.network(value)
        return made


@register("cycle_gan")
class CycleGAN(nn.Module):
    r"""Translations of two kinds of vectors into one another, fitted without pairs.

    .. math:: \min_{G, F} \; D[p_{\mathrm{data}}(y) \,\|\, G(x)] + D[p_{\mathrm{data}}(x) \,\|\, F(y)] +
        w \, E \, \{ \lVert F(G(x)) - x \rVert_1 + \lVert G(F(y)) - y \rVert_1 \}

    Each kind has a critic that tells its data from translations, and what was translated there and back is to be what
    it was. Beyond that nothing says which datum belongs to which: of data with symmetries, a translation that is right
    for the critics may be one turned around. The sums of absolute errors are log-densities of Laplace sites.

    There is no distribution of data to be translated, so that the program cannot run without both arguments.

    Args:
        x_dim: Length of the data of the first kind.
        y_dim: Of the second.
        hidden: Widths of the hidden layers of the translators and critics.
        weight: Of the way there and back, :math:`w`; the errors are summed over a row, not averaged.
        divergence: As :class:`~ppl_genmodels.models.GAN` has it, and so are the others; the paper's is least squares.
        gradient_penalty: As there.
        critic_steps: As there.
        critic_rate: As there.

    Raises:
        OptionError: When a size is no positive integer, or the weight negative.
        UnknownNameError: When there is no such divergence.

    References:
        Zhu, Park, Isola and Efros (2017), Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
        Networks, section 3.

    Example:
        >>> program = CycleGAN(x_dim=2, y_dim=3, weight=1.0)
        >>> print(program.default_objective())
        log p(x, y|there and back) - D[data(x) || model(x)] - D[data(y) || model(y)]
        >>> program.generate(x=torch.zeros(5, 2))["y"].shape
        torch.Size([5, 3])
    """

    unit: Tensor

    def __init__(
        self,
        x_dim: int,
        y_dim: int,
        hidden: Sequence[int] = (128, 128),
        weight: float = 1.0,
        divergence: str = "least_squares",
        gradient_penalty: float | None = None,
        critic_steps: int | None = None,
        critic_rate: float = 4e-4,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise OptionError(f"CycleGAN: weight={weight}, expected 0 or more. Remedy: weight=1.0.")
        played = {"gradient_penalty": gradient_penalty, "critic_steps": critic_steps, "critic_rate": critic_rate}
        self.weight = weight
        self.x_dim, self.y_dim = check_size("CycleGAN", "x_dim", x_dim), check_size("CycleGAN", "y_dim", y_dim)
        self.to_y = Translator(x_dim, y_dim, hidden, divergence=divergence, **played)
        self.to_x = Translator(y_dim, x_dim, hidden, divergence=divergence, **played)
        self.register_buffer("unit", torch.ones(()), persistent=False)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``x_dim`` and ``y_dim``, read off the arrays ``x`` and ``y``.

        Raises:
            UnknownNameError: When the data lack one of them.
            DataError: When one is not of shape ``(rows, features)``.
        """
        return {f"{name}_dim": data_rows(data, name, "CycleGAN").shape[1] for name in ("x", "y")}

    def default_objective(self) -> Objective:
        """The weighted consistency of both ways, less the divergences of translations from the data of their kind."""
        cycles = cycle_consistency(x="x_cycle", y="y_cycle")
        return self.weight * cycles - self.to_x.game("x") - self.to_y.game("y")

    def model(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Translates both kinds of data, and the translations back.

        Args:
            x: Data of the first kind, ``(rows, x_dim)``.
            y: Data of the second, ``(rows, y_dim)``; as many, and in no relation to the first.

        Returns:
            Translations into the first kind, and into the second.

        Raises:
            DataError: When the data have another shape or dtype.
        """
        with pyro.plate("data", self._checked_rows("y", y, self._checked_rows("x", x))):
            into_x = pyro.deterministic("x", self.to_x(y), event_dim=1)
            into_y = pyro.deterministic("y", self.to_y(x), event_dim=1)
            pyro.sample("x_cycle", dist.Laplace(self.to_x(into_y), self.unit).to_event(1))
            pyro.sample("y_cycle", dist.Laplace(self.to_y(into_x), self.unit).to_event(1))
            return into_x, into_y

    @torch.no_grad()
    def generate(self, **given: Tensor) -> dict[str, Tensor]:
        """Translates data.

        Args:
            **given: Data by name, ``x`` or ``y`` or both, ``(rows, features)``.

        Returns:
            What they are in the other kind, by its name.

        Raises:
            OptionError: When it is neither of them.
            DataError: When the data have another shape or dtype.
        """
        if not given or not given.keys() <= {"x", "y"}:
            raise OptionError(f"CycleGAN: generate was given {sorted(given)}. Remedy: generate(x=data), or y=data.")
        for name, value in given.items():
            self._checked_rows(name, value)
        return {"y" if name == "x" else "x": self._translator(name)(value) for name, value in given.items()}

    def _translator(self, name: str) -> Translator:
        return self.to_y if name == "x" else self.to_x

    def _checked_rows(self, name: str, value: Tensor, rows: int | None = None) -> int:
        check_dtype(self, name, value, like=self.unit)
        return check_rows(self, name, value, (self.x_dim if name == "x" else self.y_dim,), rows)
