"""What a variational family is: reals in, a distribution out, its draws made reals again.

Convention of this module: ``batch`` stands for the dims of plates. Parameters have the shape
(*batch, parameters), values (*batch, *event), and embedded values (*batch, width).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

__all__ = ["Distribution", "Family"]

Distribution = Any
"""A Pyro distribution."""


class Family(ABC):
    """The distributions that a guide may give to one site.

    Attributes:
        parameters: How many unconstrained reals make one member.
        width: How many reals one embedded value has.
    """

    parameters: int
    width: int

    @abstractmethod
    def distribution(self, parameters: Tensor) -> Distribution:
        """The member with these parameters.

        Args:
            parameters: Unconstrained reals, shape (*batch, parameters).

        Returns:
            A distribution with that batch shape and the site's event shape.
        """

    @abstractmethod
    def embed(self, value: Tensor) -> Tensor:
        """A draw as unconstrained reals, for the networks of the sites that depend on it.

        Args:
            value: Draws, shape (*batch, *event).

        Returns:
            Reals of the order of one, shape (*batch, width).
        """

    def initial(self) -> Tensor:
        """The parameters before any training, shape (parameters,)."""
        return torch.zeros(self.parameters)

    def initial_from(self, draws: Tensor) -> Tensor:
        """The parameters before any training of a site without features, from draws of its prior.

        Args:
            draws: Shape (draws, *batch, *event).

        Returns:
            Unconstrained reals, shape (*batch, parameters) or (parameters,).
        """
        return self.initial()

    @property
    def fixed_at_start(self) -> slice:
        """The parameters that start equal for every datum, whatever its features."""
        return slice(0, 0)
