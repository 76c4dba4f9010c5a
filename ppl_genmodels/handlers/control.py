"""What a control variate learns: its scale, its temperature, and a network of the relaxed draw.

Convention of this module: each site has a control of its own, made when the site is first seen, so that optimizers made
after the first look at a program have its parameters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.handlers.site_handler import module_key

__all__ = ["Control", "Controls"]


class Control(nn.Module):
    """The parameters of one site's control variate.

    Args:
        temperature: Where the temperature starts.
        like: A tensor of the dtype and on the device to make parameters of.
        network: Of the unbounded relaxed draw, shape (..., elements), to nats, shape (..., 1).

    Example:
        >>> Control(0.5, torch.zeros(())).temperature
        tensor(0.5000, grad_fn=<ExpBackward0>)
    """

    def __init__(self, temperature: float, like: Tensor, network: nn.Module | None = None) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.full((), math.log(temperature), dtype=like.dtype, device=like.device))
        self.weight = nn.Parameter(torch.ones((), dtype=like.dtype, device=like.device))
        self.network = network if network is None else network.to(like)

    @property
    def temperature(self) -> Tensor:
        """Positive, a scalar."""
        return self.log_temperature.exp()


class Controls(nn.Module):
    """The controls of all sites.

    Args:
        temperature: Where the temperatures start.

    Raises:
        OptionError: When it is not positive.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        if not (temperature > 0 and math.isfinite(temperature)):
            raise OptionError(f"temperature must be positive and finite, got {temperature}. Remedy: such as 0.5.")
        self.start, self.of_site = temperature, nn.ModuleDict()

    def add(self, name: str, control: Control) -> None:
        """Remembers the control of a site."""
        self.of_site[module_key(name)] = control

    def __contains__(self, name: str) -> bool:
        return module_key(name) in self.of_site

    def __getitem__(self, name: str) -> Control:
        control: Control = self.of_site[module_key(name)]  # type: ignore[assignment]
        return control
