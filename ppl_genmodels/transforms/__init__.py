"""Bijections with a log-determinant, whose parameters are learned.

Convention of this package: forward leads from noise to data.
"""

from ppl_genmodels.transforms.actnorm import ActNorm, first_data, wait_for_data
from ppl_genmodels.transforms.autoregressive import Autoregressive
from ppl_genmodels.transforms.bijection import Bijection, call_and_ladj, inverse_and_ladj
from ppl_genmodels.transforms.coupling import Coupling
from ppl_genmodels.transforms.elementwise import Additive, Affine, ElementMap, Spline
from ppl_genmodels.transforms.images import OfChannels, Unsqueeze
from ppl_genmodels.transforms.linear import InvertibleLinear, Permute

__all__ = [
    "ActNorm",
    "Additive",
    "Affine",
    "Autoregressive",
    "Bijection",
    "Coupling",
    "ElementMap",
    "InvertibleLinear",
    "OfChannels",
    "Permute",
    "Spline",
    "Unsqueeze",
    "call_and_ladj",
    "first_data",
    "inverse_and_ladj",
    "wait_for_data",
]
