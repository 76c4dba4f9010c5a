"""A probabilistic programming layer on Pyro for deep generative models."""

from ppl_genmodels import objectives
from ppl_genmodels.program import Program, as_program

__all__ = ["Program", "as_program", "objectives"]
