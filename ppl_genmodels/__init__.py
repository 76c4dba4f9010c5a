"""A probabilistic programming layer on Pyro for deep generative models.

Names are imported when they are first used, so that the command line's help does not wait for torch.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {"Fitted": "workflow", "fit": "workflow", "load": "workflow", "nuts": "workflow"}
_HOMES |= {"Program": "program", "as_program": "program"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ppl_genmodels' has no attribute '{name}'")
    home = importlib.import_module(f"ppl_genmodels.{_HOMES.get(name, name)}")
    return getattr(home, name) if name in _HOMES else home


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
