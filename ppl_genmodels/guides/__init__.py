"""Inference programs: the amortized guide written from a model, and automatic guides.

The names that start with ``Auto`` are Pyro's classes, unchanged, and :class:`AutoFlow`; any of them stands as the
guide in a pair ``(model, guide)``. Their parameters have the plate sizes of the data they first saw, so that
of the two kinds only :class:`Amortized` serves new data with other numbers of rows when there are
local latent sites.
"""

from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)

from ppl_genmodels.guides.amortized import Amortized
from ppl_genmodels.guides.auto_flow import AutoFlow
from ppl_genmodels.guides.layers import inverse_autoregressive, planar, spline

__all__ = [
    "Amortized",
    "AutoDelta",
    "AutoDiagonalNormal",
    "AutoFlow",
    "AutoGuideList",
    "AutoLowRankMultivariateNormal",
    "AutoMultivariateNormal",
    "AutoNormal",
    "inverse_autoregressive",
    "planar",
    "spline",
]
