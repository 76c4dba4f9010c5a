r"""The automatic guide by a flow: one joint posterior of all continuous latent sites.

Convention of this module: the sites' values in unconstrained space lie packed in one vector, in the model's order, as
in Pyro's own automatic guides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoContinuous, init_to_median
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_genmodels.distributions import Flow
from ppl_genmodels.guides.families import INITIAL_SCALE
from ppl_genmodels.guides.layers import Layers, spline

__all__ = ["AutoFlow"]


class AutoFlow(AutoContinuous):
    r"""The joint posterior of all latent sites, which must be continuous, as a flow.

    .. math:: q(z) : \quad z = \mu + \sigma \, f(\epsilon), \quad \epsilon \sim \mathcal N(0, I)

    As in Pyro's automatic guides, the guide is for the data it first saw; sites inside the data plate are part of the
    vector.

    Args:
        model: A Pyro model.
        layers: Makes :math:`f`; by default three pairs of spline couplings.
        init_loc_fn: Where the guide starts, as in Pyro's.
        init_scale: Standard deviation at the start, in unconstrained space. A flow learns sooner to leave what it
            covers than to reach what it does not: wide where there may be several modes.

    References:
        Rezende and Mohamed (2015), Variational Inference with Normalizing Flows, section 3; Kucukelbir, Tran,
        Ranganath, Gelman and Blei (2017), Automatic Differentiation Variational Inference, section 2.3.

    Example:
        >>> import pyro
        >>> def model():
        ...     a = pyro.sample("a", dist.Normal(0.0, 1.0))
        ...     pyro.sample("b", dist.LogNormal(a, 1.0))
        >>> values = AutoFlow(model)()
        >>> sorted(values), bool(values["b"] > 0)
        (['a', 'b'], True)
    """

    def __init__(
        self,
        model: Callable[..., Any],
        layers: Layers | None = None,
        init_loc_fn: Callable[..., Any] = init_to_median,
        init_scale: float = INITIAL_SCALE,
    ) -> None:
        super().__init__(model, init_loc_fn)
        self._make_layers, self._init_scale = layers or spline(), init_scale

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        loc: Tensor = self._init_loc()
        self.loc = nn.Parameter(loc)
        self.raw_scale = nn.Parameter(torch.full_like(loc, math.log(math.expm1(self._init_scale))))
        self.layers = nn.ModuleList(self._make_layers(self.latent_dim, 0)).to(loc)

    def get_posterior(self, *args: Any, **kwargs: Any) -> Flow:
        """The distribution of the packed vector, shape (latent_dim,)."""
        noise = dist.Normal(torch.zeros_like(self.loc), torch.ones_like(self.loc)).to_event(1)
        placed = dist.transforms.AffineTransform(self.loc, softplus(self.raw_scale), event_dim=1)
        return Flow(noise, [*self.layers, placed])
