"""Engines: the training loop, posteriors of new data, samplers, checkpoints."""

from ppl_genmodels.inference.callbacks import (
    EMA,
    Callback,
    EarlyStopping,
    GradientClipping,
    LearningRate,
)
from ppl_genmodels.inference.draws import Draws

__all__ = ["EMA", "Callback", "Draws", "EarlyStopping", "GradientClipping", "LearningRate"]
