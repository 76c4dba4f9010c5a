"""The multilayer perceptron.

Convention of this module: features are the last dim; any number of batch dims stands to the left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from torch import Tensor, nn

from ppl_genmodels.networks.sizes import check_size, check_sizes

__all__ = ["MLP"]


class MLP(nn.Module):
    r"""Linear layers with an activation after each but the last.

    Maps ``(..., in_features)`` to ``(..., out_features)``.

    Args:
        in_features: Number of inputs.
        out_features: Number of outputs.
        hidden: Widths of the hidden layers, from input to output. Empty makes an affine map.
        activation: Makes the activation of one hidden layer.

    Raises:
        OptionError: When a size is no positive integer.

    Example:
        >>> import torch
        >>> network = MLP(64, 10, hidden=(32, 16))
        >>> network(torch.zeros(7, 5, 64)).shape
        torch.Size([7, 5, 10])
        >>> MLP(64, 10, hidden=()).layers
        Sequential(
          (0): Linear(in_features=64, out_features=10, bias=True)
        )
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Iterable[int] = (500,),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        inputs = check_size("MLP", "in_features", in_features)
        outputs = check_size("MLP", "out_features", out_features)
        *widths, last = (inputs, *check_sizes("MLP", "hidden", hidden))
        layers: list[nn.Module] = []
        for width, following in pairwise((*widths, last)):
            layers += [nn.Linear(width, following), activation()]
        self.layers = nn.Sequential(*layers, nn.Linear(last, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs for inputs ``(..., in_features)``: ``(..., out_features)``."""
        return self.layers(x)
