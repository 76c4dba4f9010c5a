r"""Labels as vectors, left out now and then in training, so that one network learns with and without them.

Convention of this module: labels are whole numbers from 0; an embedding has one vector more, for no label.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["LabelEmbedding"]


class LabelEmbedding(nn.Module):
    r"""A learned vector for each label, and one for none.

    Args:
        labels: How many there are.
        features: Length of the vectors.
        dropped: The probability with which a label is left out in training mode.

    Raises:
        OptionError: When a size is no positive integer, or ``dropped`` no probability.

    References:
        Ho and Salimans (2022), Classifier-Free Diffusion Guidance, algorithm 1.

    Example:
        >>> embedding = LabelEmbedding(10, 16).eval()
        >>> embedding(torch.tensor([3, 7])).shape, embedding.none().shape
        (torch.Size([2, 16]), torch.Size([16]))
    """

    def __init__(self, labels: int, features: int, dropped: float = 0.1) -> None:
        super().__init__()
        if not 0 <= dropped < 1:
            raise OptionError(f"LabelEmbedding: dropped is a probability below 1, got {dropped}. Remedy: 0.1.")
        self.labels, self.dropped = check_size("LabelEmbedding", "labels", labels), dropped
        self.table = nn.Embedding(self.labels + 1, check_size("LabelEmbedding", "features", features))

    def forward(self, label: Tensor) -> Tensor:
        r"""Vectors of shape (\*batch, features) for labels of shape (\*batch)."""
        if self.training and self.dropped:
            left_out = torch.rand(label.shape, device=label.device) < self.dropped
            label = torch.where(left_out, self.labels, label)
        vectors: Tensor = self.table(label)
        return vectors

    def none(self) -> Tensor:
        """The vector of no label, shape (features,)."""
        return self.table.weight[self.labels]
