"""How a site is sampled or observed: one effect handler per file."""

from ppl_genmodels.handlers.estimator import Estimator
from ppl_genmodels.handlers.mask_missing import MaskMissing, mask_missing
from ppl_genmodels.handlers.score_function import ScoreFunction, score_function
from ppl_genmodels.handlers.site_handler import SiteHandler, Sites

__all__ = [
    "Estimator",
    "MaskMissing",
    "ScoreFunction",
    "SiteHandler",
    "Sites",
    "mask_missing",
    "score_function",
]
