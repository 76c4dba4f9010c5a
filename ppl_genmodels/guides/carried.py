r"""One site's distribution in an amortized guide, its noise carried by layers before it is moved onto its place.

Convention of this module: :math:`z = T(\mu + \sigma \, f(\epsilon; c))`, where :math:`\mu` and :math:`\sigma` are the
head's, :math:`f` the layers, :math:`c` their context, and :math:`T` the bijection onto the support.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_genmodels.distributions import Flow
from ppl_genmodels.guides.families.normal import TransformedNormal
from ppl_genmodels.guides.layers import Layers
from ppl_genmodels.guides.layout import Layout, joined

__all__ = ["Carried"]


class Carried(nn.Module):
    """The layers of one continuous site.

    The context of a local site is what its head reads, features and parents. Where inner plates hold several elements
    of a site the context names the element, one-hot. A single global element has no context.

    Args:
        family: The site's family.
        layout: Where its plates lie.
        inputs: How many numbers its head reads; 0 for a global site.
        layers: Makes the layers.
    """

    one_hot: Tensor

    def __init__(self, family: TransformedNormal, layout: Layout, inputs: int, layers: Layers) -> None:
        super().__init__()
        self.family, self.layout = family, layout
        elements = layout.elements
        self.register_buffer("one_hot", torch.eye(elements) if elements > 1 else torch.empty(1, 0), persistent=False)
        self.layers = nn.ModuleList(layers(family.width, inputs + self.one_hot.shape[1]))

    def forward(self, parameters: Tensor, inputs: list[Tensor]) -> Flow:
        r"""The distribution of the site.

        Args:
            parameters: The head's, shape (\*batch, parameters).
            inputs: What the head read, each (\*extra, rows or 1, width); not used for a global site.
        """
        flow = self.family.flow(parameters, self.layers)
        context = (
            self._of_elements() if self.layout.rows_dim is None else self._of_rows(joined(inputs, parameters.dtype))
        )
        return flow.condition(context) if context.shape[-1] else flow

    def _of_elements(self) -> Tensor:
        return self.one_hot.reshape(*self.layout.sizes, self.one_hot.shape[-1])

    def _of_rows(self, read: Tensor) -> Tensor:
        """What was read beside the name of each element, with the batch dims of the site."""
        shape = (*read.shape[:-1], len(self.one_hot), -1)
        context = torch.cat([read.unsqueeze(-2).expand(shape), self.one_hot.expand(shape)], -1)
        return self.layout.per_element(context.flatten(-2))
