"""What a site may be: distributions and modules whose call yields one.

Convention of this package: shapes follow torch; event dims are always declared.
"""

from ppl_genmodels.distributions.at_temperature import at_temperature
from ppl_genmodels.distributions.augmented import Augmented
from ppl_genmodels.distributions.diffusion import Diffusion
from ppl_genmodels.distributions.energy import Energy
from ppl_genmodels.distributions.energy_sum import EnergySum
from ppl_genmodels.distributions.flow import Flow
from ppl_genmodels.distributions.langevin import annealed_langevin, langevin
from ppl_genmodels.distributions.level_categorical import LevelCategorical
from ppl_genmodels.distributions.likelihood import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    Likelihood,
    build_likelihood,
)
from ppl_genmodels.distributions.mixture import Mixture
from ppl_genmodels.distributions.noisy_energy import NoisyEnergy
from ppl_genmodels.distributions.quantized import CellUniform, Quantized
from ppl_genmodels.distributions.refine import refine
from ppl_genmodels.distributions.replay_buffer import ReplayBuffer
from ppl_genmodels.distributions.samplers import generate
from ppl_genmodels.distributions.truncated_poisson import TruncatedPoisson

__all__ = [
    "Augmented",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "CellUniform",
    "Diffusion",
    "Energy",
    "EnergySum",
    "Flow",
    "GaussianLikelihood",
    "LevelCategorical",
    "Likelihood",
    "Mixture",
    "NoisyEnergy",
    "Quantized",
    "ReplayBuffer",
    "TruncatedPoisson",
    "annealed_langevin",
    "at_temperature",
    "build_likelihood",
    "generate",
    "langevin",
    "refine",
]
