r"""Flow regression: the whole distribution of responses given covariates, by a conditional spline flow.

Convention of this module: covariates ``x`` are always given, responses ``y`` are observed or, by default, drawn, both
in the plate ``data``; no latent sites, so that a guide is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions.transforms import ReshapeTransform

from ppl_genmodels.distributions import Flow
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_rows, data_array, data_rows
from ppl_genmodels.networks import MLP
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.transforms import ActNorm, Affine, Autoregressive, Permute, Spline

__all__ = ["FlowRegression"]


@register("flow_regression")
class FlowRegression(nn.Module):
    r"""Density of responses given covariates by a conditional spline flow.

    .. math:: y = f(\epsilon; h(x)), \quad \epsilon \sim \mathcal N(0, I)

    Spline layers give the distribution its form and an affine one its place and width, all by what a network :math:`h`
    says of the covariates. Covariates and responses are made standard by the first data.

    Args:
        num_features: Number of covariates.
        num_targets: Length of a response; None for one that is a plain number.
        layers: How many spline layers.
        hidden: Widths of the hidden layers of the network that reads the covariates.
        bins: Pieces of each spline.

    Raises:
        OptionError: When a size is no positive integer.

    References:
        Winkler, Worrall, Hoogeboom and Welling (2019), Learning Likelihoods with Conditional Normalizing Flows, section
        3; Durkan, Bekasov, Murray and Papamakarios (2019), Neural Spline Flows, section 3.

    Example:
        >>> program = FlowRegression(num_features=3)
        >>> program.model(torch.zeros(5, 3)).shape, program.density(torch.zeros(5, 3)).log_prob(torch.zeros(5)).shape
        (torch.Size([5]), torch.Size([5]))
    """

    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        num_features: int,
        num_targets: int | None = None,
        layers: int = 2,
        hidden: Sequence[int] = (64, 64),
        bins: int = 8,
    ) -> None:
        super().__init__()
        self.num_features = check_size("FlowRegression", "num_features", num_features)
        self.num_targets = None if num_targets is None else check_size("FlowRegression", "num_targets", num_targets)
        widths, size = check_sizes("FlowRegression", "hidden", hidden), self.num_targets or 1
        context = widths[-1] if widths else self.num_features
        self.standard = ActNorm(self.num_features)
        self.network = MLP(self.num_features, context, widths[:-1])
        parts: list[nn.Module] = []
        for _ in range(check_size("FlowRegression", "layers", layers)):
            parts.append(Autoregressive(size, (context,), Spline(bins), context_features=context))
            parts += [Permute(list(range(size))[::-1])] if size > 1 else []
        parts.append(Autoregressive(size, (context,), Affine(), context_features=context))
        self.transforms = nn.ModuleList([*parts, ActNorm(size)])
        self.register_buffer("loc", torch.zeros(size), persistent=False)
        self.register_buffer("scale", torch.ones(size), persistent=False)

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one response."""
        return torch.Size(() if self.num_targets is None else (self.num_targets,))

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``num_features`` and ``num_targets``, read off the arrays ``x`` and ``y``.

        Raises:
            UnknownNameError: When the data have no array ``x`` or ``y``.
            DataError: When ``x`` is not of shape ``(rows, num_features)``.
        """
        y = data_array(data, "y", "FlowRegression")
        found = {"num_features": data_rows(data, "x", "FlowRegression").shape[1]}
        return found if y.ndim == 1 else {**found, "num_targets": y.shape[1]}

    def density(self, x: Tensor) -> Flow:
        """The distribution of a response.

        Args:
            x: Covariates, ``(..., num_features)``.
        """
        noise = dist.Normal(self.loc, self.scale).to_event(1)
        shaped = [] if self.num_targets else [ReshapeTransform(torch.Size([1]), torch.Size())]
        return Flow(noise, [*self.transforms, *shaped]).condition(self.network(self.standard.inv(x)).relu())

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Draws the responses, or conditions on some.

        Args:
            x: Covariates, ``(rows, num_features)``.
            y: Responses to condition on, ``(rows,)`` or ``(rows, num_targets)``; drawn by default.

        Returns:
            The responses, observed or drawn.

        Raises:
            DataError: When an argument has another shape or dtype.
        """
        rows = check_rows(self, "x", x, (self.num_features,))
        check_dtype(self, "x", x, like=self.loc)
        if y is not None:
            check_rows(self, "y", y, self.event_shape, rows)
            check_dtype(self, "y", y, like=self.loc)
        with pyro.plate("data", rows):
            return pyro.sample("y", self.density(x), obs=y)
