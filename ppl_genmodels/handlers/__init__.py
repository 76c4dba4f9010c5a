"""How a site is sampled or observed: one effect handler per file."""

from ppl_genmodels.handlers.disarm import DisARM, disarm
from ppl_genmodels.handlers.estimator import Estimator
from ppl_genmodels.handlers.gumbel_softmax import GumbelSoftmax, gumbel_softmax
from ppl_genmodels.handlers.local_expectation import (
    LocalExpectation,
    ReparameterizeAndMarginalize,
    local_expectation,
    reparameterize_and_marginalize,
)
from ppl_genmodels.handlers.marginalize import Marginalize, marginalize
from ppl_genmodels.handlers.mask_missing import MaskMissing, mask_missing
from ppl_genmodels.handlers.muprop import MuProp, muprop
from ppl_genmodels.handlers.rebar import Rebar, Relax, rebar, relax
from ppl_genmodels.handlers.score_function import ScoreFunction, score_function
from ppl_genmodels.handlers.site_handler import SiteHandler, Sites
from ppl_genmodels.handlers.straight_through import StraightThrough, straight_through

__all__ = [
    "DisARM",
    "Estimator",
    "GumbelSoftmax",
    "LocalExpectation",
    "Marginalize",
    "MaskMissing",
    "MuProp",
    "Rebar",
    "Relax",
    "ReparameterizeAndMarginalize",
    "ScoreFunction",
    "SiteHandler",
    "Sites",
    "StraightThrough",
    "disarm",
    "gumbel_softmax",
    "local_expectation",
    "marginalize",
    "mask_missing",
    "muprop",
    "rebar",
    "relax",
    "reparameterize_and_marginalize",
    "score_function",
    "straight_through",
]
