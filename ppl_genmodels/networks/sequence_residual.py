r"""Residual convolutions along a sequence of symbols: from a vector to logits, and from symbols to a score.

Convention of this module: a sequence is (length, symbols), one number for each kind of symbol at each place; any number
of batch dims stands to the left, flattened for the convolutions and restored after them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["SequenceCritic", "SequenceDecoder"]

RESIDUAL = 0.3
"""What a block's output is multiplied by before it is added to its input."""


class SequenceDecoder(nn.Module):
    r"""A linear layer, residual convolutions and one more layer at each place: a vector to the logits of a sequence.

    Maps ``(..., in_features)`` to ``(..., length, symbols)``.

    Args:
        in_features: Number of inputs.
        length: Of the sequence.
        symbols: How many kinds of symbol there are.
        width: Channels of the convolutions.
        blocks: Residual blocks, of two convolutions each.
        kernel: Places that a convolution sees, an odd number.

    Raises:
        OptionError: When a size is no positive integer, or the kernel is even.

    References:
        Gulrajani and others (2017), Improved Training of Wasserstein GANs, section 5.4; the blocks are those of the
        code they have published.

    Example:
        >>> SequenceDecoder(16, length=12, symbols=5, width=8)(torch.zeros(7, 3, 16)).shape
        torch.Size([7, 3, 12, 5])
    """

    def __init__(
        self, in_features: int, length: int, symbols: int, width: int = 64, blocks: int = 3, kernel: int = 5
    ) -> None:
        super().__init__()
        owner = "SequenceDecoder"
        places, channels = check_size(owner, "length", length), check_size(owner, "width", width)
        self.start = nn.Linear(check_size(owner, "in_features", in_features), channels * places)
        self.shape = (channels, places)
        self.blocks = _blocks(owner, channels, blocks, kernel)
        self.logits = nn.Linear(channels, check_size(owner, "symbols", symbols))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of sequences from features ``(..., in_features)``: ``(..., length, symbols)``."""
        batch = features.shape[:-1]
        hidden = self.blocks(self.start(features).reshape(-1, *self.shape)).transpose(-1, -2)
        logits: Tensor = self.logits(hidden)
        return logits.reshape(*batch, *logits.shape[1:])


class SequenceCritic(nn.Module):
    r"""The mirror image of :class:`SequenceDecoder`: a sequence of one-hot vectors or probabilities to its score.

    Maps ``(..., length, symbols)`` to ``(...)``.

    Args:
        length: Of the sequence.
        symbols: How many kinds of symbol there are.
        width: Channels of the convolutions.
        blocks: Residual blocks, of two convolutions each.
        kernel: Places that a convolution sees, an odd number.

    Raises:
        OptionError: When a size is no positive integer, or the kernel is even.

    References:
        As :class:`SequenceDecoder`.

    Example:
        >>> SequenceCritic(length=12, symbols=5, width=8)(torch.zeros(7, 3, 12, 5)).shape
        torch.Size([7, 3])
    """

    def __init__(self, length: int, symbols: int, width: int = 64, blocks: int = 3, kernel: int = 5) -> None:
        super().__init__()
        owner = "SequenceCritic"
        places, channels = check_size(owner, "length", length), check_size(owner, "width", width)
        self.start = nn.Linear(check_size(owner, "symbols", symbols), channels)
        self.blocks = _blocks(owner, channels, blocks, kernel)
        self.score = nn.Linear(channels * places, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """The scores, high where a sequence is taken for data."""
        batch, event = sequence.shape[:-2], sequence.shape[-2:]
        hidden = self.blocks(self.start(sequence.reshape(-1, *event)).transpose(-1, -2))
        scores: Tensor = self.score(hidden.flatten(1))
        return scores.reshape(batch)


class _Block(nn.Module):
    """Its input, and a share of what two convolutions make of it, each after a rectifier."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(width, width, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv1d(width, width, kernel, padding=kernel // 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.add(x, self.layers(x), alpha=RESIDUAL)
        return found


def _blocks(owner: str, width: int, blocks: int, kernel: int) -> nn.Sequential:
    size, count = check_size(owner, "kernel", kernel), check_size(owner, "blocks", blocks)
    if size % 2 == 0:
        raise OptionError(f"{owner}: kernel={size}, expected an odd number. Remedy: kernel={size + 1}.")
    return nn.Sequential(*(_Block(width, size) for _ in range(count)))
