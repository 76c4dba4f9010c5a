"""Plain networks: modules that know nothing of probability, but for :func:`weight_sites`, which gives them some.

Convention of this package: every network accepts any number of batch dims on the left of its input,
because rows and particles stand there.
"""

from ppl_genmodels.networks.bit_denoiser import BitDenoiser
from ppl_genmodels.networks.certified_radius import certified_radius
from ppl_genmodels.networks.classifier_free import ClassifierFree
from ppl_genmodels.networks.conv import ConvDecoder, ConvEncoder
from ppl_genmodels.networks.critic import Critic
from ppl_genmodels.networks.denoiser import Denoised, Denoiser
from ppl_genmodels.networks.energy_gradient import EnergyGradient
from ppl_genmodels.networks.guided import Guided
from ppl_genmodels.networks.label_embedding import LabelEmbedding
from ppl_genmodels.networks.mlp import MLP
from ppl_genmodels.networks.noising import (
    CosineNoising,
    EDMNoising,
    LearnedNoising,
    LinearNoising,
    Noising,
    VarianceExploding,
    VariancePreserving,
)
from ppl_genmodels.networks.operator_norms import exact_norm, lipschitz_bound, operator_norm
from ppl_genmodels.networks.sequence_residual import SequenceCritic, SequenceDecoder
from ppl_genmodels.networks.smooth_critic import SmoothCritic
from ppl_genmodels.networks.time_mlp import TimeFeatures, TimeMLP
from ppl_genmodels.networks.unet import UNet
from ppl_genmodels.networks.weight_sites import weight_sites

__all__ = [
    "MLP",
    "BitDenoiser",
    "ClassifierFree",
    "ConvDecoder",
    "ConvEncoder",
    "CosineNoising",
    "Critic",
    "Denoised",
    "Denoiser",
    "EDMNoising",
    "EnergyGradient",
    "Guided",
    "LabelEmbedding",
    "LearnedNoising",
    "LinearNoising",
    "Noising",
    "SequenceCritic",
    "SequenceDecoder",
    "SmoothCritic",
    "TimeFeatures",
    "TimeMLP",
    "UNet",
    "VarianceExploding",
    "VariancePreserving",
    "certified_radius",
    "exact_norm",
    "lipschitz_bound",
    "operator_norm",
    "weight_sites",
]
