"""What a site may be: distributions and modules whose call yields one.

Convention of this package: shapes follow torch; event dims are always declared.
"""

from ppl_genmodels.distributions.flow import Flow
from ppl_genmodels.distributions.level_categorical import LevelCategorical
from ppl_genmodels.distributions.likelihood import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    Likelihood,
    build_likelihood,
)
from ppl_genmodels.distributions.truncated_poisson import TruncatedPoisson

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "Flow",
    "GaussianLikelihood",
    "LevelCategorical",
    "Likelihood",
    "TruncatedPoisson",
    "build_likelihood",
]
