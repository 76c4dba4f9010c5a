"""How a site is sampled or observed: one effect handler per file."""

from ppl_genmodels.handlers.estimator import Estimator
from ppl_genmodels.handlers.local_expectation import (
    LocalExpectation,
    ReparameterizeAndMarginalize,
    local_expectation,
    reparameterize_and_marginalize,
)
from ppl_genmodels.handlers.mask_missing import MaskMissing, mask_missing
from ppl_genmodels.handlers.score_function import ScoreFunction, score_function
from ppl_genmodels.handlers.site_handler import SiteHandler, Sites

__all__ = [
    "Estimator",
    "LocalExpectation",
    "MaskMissing",
    "ReparameterizeAndMarginalize",
    "ScoreFunction",
    "SiteHandler",
    "Sites",
    "local_expectation",
    "mask_missing",
    "reparameterize_and_marginalize",
    "score_function",
]
