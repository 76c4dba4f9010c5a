"""How a site is sampled or observed: one effect handler per file."""

from ppl_genmodels.handlers.antithetic import Antithetic, antithetic
from ppl_genmodels.handlers.common_noise import CommonNoise, common_noise
from ppl_genmodels.handlers.detach_score import DetachScore, detach_score
from ppl_genmodels.handlers.disarm import DisARM, disarm
from ppl_genmodels.handlers.estimator import Estimator
from ppl_genmodels.handlers.evolution import Evolution, evolution
from ppl_genmodels.handlers.flipout import Flipout, flipout
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
from ppl_genmodels.handlers.noise_handler import NoiseHandler
from ppl_genmodels.handlers.quasi_random import QuasiRandom, quasi_random
from ppl_genmodels.handlers.rebar import Rebar, Relax, rebar, relax
from ppl_genmodels.handlers.reparameterize import NoiseReparam, Reparameterize, reparameterize
from ppl_genmodels.handlers.score_function import ScoreFunction, score_function
from ppl_genmodels.handlers.site_handler import SiteHandler, Sites
from ppl_genmodels.handlers.straight_through import StraightThrough, straight_through
from ppl_genmodels.handlers.temper import Temper, temper
from ppl_genmodels.handlers.temperature import Temperature

__all__ = [
    "Antithetic",
    "CommonNoise",
    "DetachScore",
    "DisARM",
    "Estimator",
    "Evolution",
    "Flipout",
    "GumbelSoftmax",
    "LocalExpectation",
    "Marginalize",
    "MaskMissing",
    "MuProp",
    "NoiseHandler",
    "NoiseReparam",
    "QuasiRandom",
    "Rebar",
    "Relax",
    "Reparameterize",
    "ReparameterizeAndMarginalize",
    "ScoreFunction",
    "SiteHandler",
    "Sites",
    "StraightThrough",
    "Temper",
    "Temperature",
    "antithetic",
    "common_noise",
    "detach_score",
    "disarm",
    "evolution",
    "flipout",
    "gumbel_softmax",
    "local_expectation",
    "marginalize",
    "mask_missing",
    "muprop",
    "quasi_random",
    "rebar",
    "relax",
    "reparameterize",
    "reparameterize_and_marginalize",
    "score_function",
    "straight_through",
    "temper",
]
