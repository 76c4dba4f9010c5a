"""What is optimised: named terms over one shared run, and their weighted sums."""

from ppl_genmodels.objectives.adversarial import adversarial
from ppl_genmodels.objectives.binomial_denoising import binomial_denoising
from ppl_genmodels.objectives.contrastive_divergence import contrastive_divergence
from ppl_genmodels.objectives.cycle_consistency import cycle_consistency
from ppl_genmodels.objectives.default import default_objective
from ppl_genmodels.objectives.denoising import denoising
from ppl_genmodels.objectives.divergences import (
    ChiSquared,
    Divergence,
    Hinge,
    JensenShannon,
    KullbackLeibler,
    LeastSquares,
    Minimax,
    NonSaturating,
    ReverseKullbackLeibler,
    Wasserstein,
)
from ppl_genmodels.objectives.evidence import elbo, entropy, iwae, kl, log_lik, log_prob, log_weight
from ppl_genmodels.objectives.feature_likelihood import feature_log_lik
from ppl_genmodels.objectives.flow_matching import flow_matching
from ppl_genmodels.objectives.kernel_penalty import KernelPenalty
from ppl_genmodels.objectives.lipschitz_margin import lipschitz_margin
from ppl_genmodels.objectives.mutual_information import mutual_information
from ppl_genmodels.objectives.noise_contrastive import noise_contrastive
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.past_samples import PastSamples
from ppl_genmodels.objectives.path_costs import jacobian_norm, kinetic_energy
from ppl_genmodels.objectives.penalties import GradientPenalty
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.score_matching import score_matching
from ppl_genmodels.objectives.term import Term
from ppl_genmodels.schedules import Cosine, Cyclical, Exponential, Linear, Schedule

__all__ = [
    "ChiSquared",
    "Cosine",
    "Cyclical",
    "Divergence",
    "Exponential",
    "GradientPenalty",
    "Hinge",
    "JensenShannon",
    "KernelPenalty",
    "KullbackLeibler",
    "LeastSquares",
    "Linear",
    "Minimax",
    "NonSaturating",
    "Objective",
    "PastSamples",
    "ReverseKullbackLeibler",
    "Run",
    "Schedule",
    "Term",
    "Wasserstein",
    "adversarial",
    "binomial_denoising",
    "contrastive_divergence",
    "cycle_consistency",
    "default_objective",
    "denoising",
    "elbo",
    "entropy",
    "feature_log_lik",
    "flow_matching",
    "iwae",
    "jacobian_norm",
    "kinetic_energy",
    "kl",
    "lipschitz_margin",
    "log_lik",
    "log_prob",
    "log_weight",
    "mutual_information",
    "noise_contrastive",
    "score_matching",
]
