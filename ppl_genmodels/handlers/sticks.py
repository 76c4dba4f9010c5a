r"""Classes as bits: a stick is broken class by class, and the class drawn is the first that breaks it.

Convention of this module: the bit of class :math:`k` has the probability of :math:`k` given that no class before it was
drawn; the last class needs no bit. A Bernoulli is its own bit.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributions as torch_dist
from torch import Tensor

__all__ = ["Bits", "sticks_of"]


class Bits:
    """The bits of a Bernoulli draw.

    Attributes:
        bits: Zeros and ones.
        logits: Of their probabilities, with gradient, of a shape that broadcasts with them.
    """

    def __init__(self, bits: Tensor, logits: Tensor) -> None:
        self.bits, self.logits = bits, logits

    def value(self, bits: Tensor) -> Tensor:
        """The draw that bits make."""
        return bits

    def used(self, other: Tensor) -> Tensor | float:
        """One where a bit enters the draw of these or of other bits."""
        return 1.0


class Sticks(Bits):
    """The bits of a draw of classes, along the last dim; those that did not decide are drawn anew.

    Args:
        logits: Of the classes, shape (..., classes).
        value: The draw: one-hot vectors, or integers without that dim.
    """

    def __init__(self, logits: Tensor, value: Tensor, is_one_hot: bool) -> None:
        self.is_one_hot, self.dtype, self.classes = is_one_hot, value.dtype, logits.shape[-1]
        left = logits.flip(-1).logcumsumexp(-1).flip(-1)
        sticks = logits[..., :-1] - left[..., 1:]
        index = value.argmax(-1) if is_one_hot else value.long()
        decided = self._reached(index)
        drawn = torch.bernoulli(sticks.detach().sigmoid().expand(decided.shape))
        at_index = self._one_hot(index)[..., :-1].to(drawn)
        super().__init__(torch.where(decided, at_index, drawn), sticks)

    def _reached(self, index: Tensor) -> Tensor:
        """Whether the bits up to a class decided it."""
        return torch.arange(self.classes - 1, device=index.device) <= index.unsqueeze(-1)

    def _one_hot(self, index: Tensor) -> Tensor:
        return index.unsqueeze(-1) == torch.arange(self.classes, device=index.device)  # torch's own reads the values

    def _index(self, bits: Tensor) -> Tensor:
        first = torch.cat([bits, torch.ones_like(bits[..., :1])], -1)
        return first.argmax(-1)

    def value(self, bits: Tensor) -> Tensor:
        """The draw that bits make."""
        index = self._index(bits)
        return self._one_hot(index).to(self.dtype) if self.is_one_hot else index.to(self.dtype)

    def used(self, other: Tensor) -> Tensor:
        """One where a bit enters the draw of these or of other bits; given the others, the rest expect zero."""
        return (self._reached(self._index(self.bits)) | self._reached(self._index(other))).to(other)


def sticks_of(fn: Any, logits: Tensor, value: Tensor) -> Bits:
    """The bits behind a draw.

    Args:
        fn: A Bernoulli, Categorical or OneHotCategorical.
        logits: Its logits.
        value: The draw.

    Example:
        >>> fn = torch_dist.Categorical(torch.tensor([0.2, 0.3, 0.5]))
        >>> found = sticks_of(fn, fn.logits, torch.tensor(1))
        >>> found.bits, found.logits.sigmoid()
        (tensor([0., 1.]), tensor([0.2000, 0.3750]))
    """
    if isinstance(fn, torch_dist.Bernoulli):
        return Bits(value, logits)
    return Sticks(logits, value, isinstance(fn, torch_dist.OneHotCategorical))
