"""Bijections with a log-determinant, whose parameters are learned.

Convention of this package: forward leads from noise to data.
"""

from ppl_genmodels.transforms.actnorm import ActNorm
from ppl_genmodels.transforms.autoregressive import Autoregressive
from ppl_genmodels.transforms.bijection import Bijection, call_and_ladj, inverse_and_ladj
from ppl_genmodels.transforms.continuous import Continuous
from ppl_genmodels.transforms.coupling import Coupling
from ppl_genmodels.transforms.elementwise import Additive, Affine, ElementMap, Spline
from ppl_genmodels.transforms.image_coupling import ChannelCoupling, CheckerboardCoupling
from ppl_genmodels.transforms.images import OfChannels, Unsqueeze
from ppl_genmodels.transforms.linear import InvertibleLinear, Permute
from ppl_genmodels.transforms.normalization import BatchNorm, Whitening
from ppl_genmodels.transforms.pixels import PixelSigmoid
from ppl_genmodels.transforms.planar import Planar
from ppl_genmodels.transforms.probability_flow import ProbabilityFlow
from ppl_genmodels.transforms.residual import Residual
from ppl_genmodels.transforms.set_by_data import first_data, wait_for_data

__all__ = [
    "ActNorm",
    "Additive",
    "Affine",
    "Autoregressive",
    "BatchNorm",
    "Bijection",
    "ChannelCoupling",
    "CheckerboardCoupling",
    "Continuous",
    "Coupling",
    "ElementMap",
    "InvertibleLinear",
    "OfChannels",
    "Permute",
    "PixelSigmoid",
    "Planar",
    "ProbabilityFlow",
    "Residual",
    "Spline",
    "Unsqueeze",
    "Whitening",
    "call_and_ladj",
    "first_data",
    "inverse_and_ladj",
    "wait_for_data",
]
