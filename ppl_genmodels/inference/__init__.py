"""Engines: the training loop, posteriors of new data, samplers, checkpoints."""

from ppl_genmodels.inference.annealed_importance import LogNormalizer, annealed_importance
from ppl_genmodels.inference.binomial_posterior import BinomialPosterior, binomial_posterior
from ppl_genmodels.inference.callbacks import (
    EMA,
    Callback,
    EarlyStopping,
    GradientClipping,
    LearningRate,
)
from ppl_genmodels.inference.diffusion_posterior import DiffusionPosterior, diffusion_posterior
from ppl_genmodels.inference.draws import Draws
from ppl_genmodels.inference.evaluations import Evaluations
from ppl_genmodels.inference.game_health import GameHealth, GameWarning
from ppl_genmodels.inference.graph_trace import CompileWarning
from ppl_genmodels.inference.stepping import compile_step

__all__ = [
    "EMA",
    "BinomialPosterior",
    "Callback",
    "CompileWarning",
    "DiffusionPosterior",
    "Draws",
    "EarlyStopping",
    "Evaluations",
    "GameHealth",
    "GameWarning",
    "GradientClipping",
    "LearningRate",
    "LogNormalizer",
    "annealed_importance",
    "binomial_posterior",
    "compile_step",
    "diffusion_posterior",
]
