"""The three things a user does: fit a program, infer on new data, look."""

from ppl_genmodels.workflow.fitted import Fitted
from ppl_genmodels.workflow.fitting import fit
from ppl_genmodels.workflow.sampling import nuts
from ppl_genmodels.workflow.saved import load

__all__ = ["Fitted", "fit", "load", "nuts"]
