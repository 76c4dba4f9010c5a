"""Engines: the training loop, posteriors of new data, samplers, checkpoints."""

from ppl_genmodels.inference.callbacks import (
    EMA,
    Callback,
    EarlyStopping,
    GradientClipping,
    LearningRate,
)
from ppl_genmodels.inference.compiled import CompileWarning, compile_step
from ppl_genmodels.inference.draws import Draws

__all__ = [
    "EMA",
    "Callback",
    "CompileWarning",
    "Draws",
    "EarlyStopping",
    "GradientClipping",
    "LearningRate",
    "compile_step",
]
