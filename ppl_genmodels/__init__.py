"""A probabilistic programming layer on Pyro for deep generative models."""

from importlib.metadata import version

from ppl_genmodels import (
    data,
    diagnostics,
    distributions,
    errors,
    guides,
    handlers,
    inference,
    models,
    networks,
    objectives,
)
from ppl_genmodels.program import Program, as_program
from ppl_genmodels.workflow import Fitted, fit, load, nuts

__version__ = version("ppl-genmodels")

__all__ = [
    "Fitted",
    "Program",
    "as_program",
    "data",
    "diagnostics",
    "distributions",
    "errors",
    "fit",
    "guides",
    "handlers",
    "inference",
    "load",
    "models",
    "networks",
    "nuts",
    "objectives",
]
