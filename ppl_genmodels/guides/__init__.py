"""Inference programs: the amortized guide written from a model, and Pyro's own autoguides.

The names that start with ``Auto`` are Pyro's classes, unchanged; any of them stands as the guide in
a pair ``(model, guide)``. Their parameters have the plate sizes of the data they first saw, so that
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

__all__ = [
    "Amortized",
    "AutoDelta",
    "AutoDiagonalNormal",
    "AutoGuideList",
    "AutoLowRankMultivariateNormal",
    "AutoMultivariateNormal",
    "AutoNormal",
]
