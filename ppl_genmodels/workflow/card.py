"""The card of a run: which program, data, objective, settings and versions made it, and what came out.

Convention of this module: a card is plain JSON. It says how a catalogue program is built again; it never holds code.
"""

from __future__ import annotations

import importlib.metadata
import platform
import uuid
from typing import Any

import torch
from torch import Tensor

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.errors import DataError, UnknownNameError
from ppl_genmodels.program import Program

__all__ = [
    "check_inputs",
    "describe_inputs",
    "describe_program",
    "example_inputs",
    "fingerprint",
    "run_card",
    "versions",
]


def run_card(
    program: Program,
    rows: Rows,
    objective: Any,
    settings: dict[str, Any],
    divergences: dict[str, str],
    gradients: dict[str, str],
) -> dict[str, Any]:
    """The card of a run about to start.

    Args:
        program: The program, probed.
        rows: The data.
        objective: What is maximised.
        settings: The arguments of the fit that JSON can hold.
        divergences: How the divergence of each latent site is computed.
        gradients: The gradient estimator of each latent site that has one.
    """
    return {
        "format": 1,
        "id": uuid.uuid4().hex,
        "program": describe_program(program),
        "data": rows.summary(),
        "inputs": describe_inputs(*rows.take([0]), len(rows)),
        "objective": str(objective),
        "divergences": divergences,
        "gradients": gradients,
        "settings": settings,
        "versions": versions(),
        "metrics": {},
    }


def describe_program(program: Program) -> dict[str, Any]:
    """What a program is: its name, its options when it is from the catalogue, and its number of parameters."""
    source = program.source
    name = getattr(source, "catalogue_name", None)
    options = getattr(source, "options", None) if name else None
    return {
        "name": name or _name(source),
        "catalogue": name is not None,
        "options": options,
        "parameters": sum(parameter.numel() for parameter in program.own_parameters()),
    }


def versions() -> dict[str, str]:
    """The versions of what computes.

    Example:
        >>> sorted(versions())
        ['numpy', 'ppl_genmodels', 'pyro', 'python', 'torch']
    """
    return {
        "ppl_genmodels": importlib.metadata.version("ppl-genmodels"),
        "pyro": importlib.metadata.version("pyro-ppl"),
        "torch": torch.__version__,
        "numpy": importlib.metadata.version("numpy"),
        "python": platform.python_version(),
    }


def describe_inputs(args: tuple[Any, ...], kwargs: dict[str, Any], rows: int) -> dict[str, Any]:
    """The shape and dtype of one row of each argument of a program.

    Example:
        >>> describe_inputs((torch.zeros(1, 3),), {}, 7)["positional"]
        [{'shape': [3], 'dtype': 'float32'}]
    """

    def described(value: Tensor) -> dict[str, Any]:
        return {"shape": list(value.shape[1:]), "dtype": str(value.dtype).removeprefix("torch.")}

    named = {name: described(value) for name, value in kwargs.items()}
    return {"rows": rows, "positional": [described(value) for value in args], "named": named}


def example_inputs(
    inputs: dict[str, Any], whole: bool, device: torch.device
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Stand-ins with the shape and dtype of a run's data: ones, and zeros for integers.

    Args:
        inputs: As :func:`describe_inputs` gives them.
        whole: Whether to make as many rows as the run had, instead of two.
        device: Where to make them.
    """
    rows = inputs["rows"] if whole else min(2, inputs["rows"])

    def made(described: dict[str, Any]) -> Tensor:
        dtype = getattr(torch, described["dtype"])
        make = torch.ones if dtype.is_floating_point else torch.zeros
        return make(rows, *described["shape"], dtype=dtype, device=device)

    named = {name: made(described) for name, described in inputs["named"].items()}
    return tuple(made(described) for described in inputs["positional"]), named


def check_inputs(rows: Rows, inputs: dict[str, Any]) -> None:
    """Checks that each row has the shape and the kind of dtype of the rows that a run was fitted on.

    Raises:
        DataError: When it has not, or when there are other arrays than the run's.
        UnknownNameError: When an argument is not one of the run's.
    """
    given = describe_inputs(*rows.take([0]), len(rows))
    for name, mine, theirs in _pairs(given, inputs):
        if mine["shape"] != theirs["shape"]:
            raise DataError(
                f"each row of {name} has shape {tuple(mine['shape'])}, the program was fitted on rows of shape "
                f"{tuple(theirs['shape'])}. Remedy: give data with the same columns."
            )
        if _is_floating(mine) != _is_floating(theirs):
            raise DataError(
                f"{name} has dtype {mine['dtype']}, the program was fitted on {theirs['dtype']}. Remedy: convert it, "
                f"x.astype({theirs['dtype']!r})."
            )


def _pairs(given: dict[str, Any], inputs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The name of each argument, what is given and what the fit had: by name where both have names, else in order."""
    if given["named"] and inputs["named"]:
        for name in given["named"]:
            if name not in inputs["named"]:
                raise UnknownNameError("argument", name, inputs["named"], "in the data of the fit")
        return [(name, mine, inputs["named"][name]) for name, mine in given["named"].items()]
    mine, theirs = ([*side["positional"], *side["named"].values()] for side in (given, inputs))
    if len(mine) != len(theirs):
        raise DataError(f"the data are {len(mine)} arrays, the fit's were {len(theirs)}. Remedy: give the same.")
    names = [*("data" if i == 0 else f"data[{i}]" for i in range(len(given["positional"]))), *given["named"]]
    return list(zip(names, mine, theirs, strict=True))


def _is_floating(described: dict[str, Any]) -> bool:
    return bool(getattr(torch, described["dtype"]).is_floating_point)


def fingerprint(program: Program) -> dict[str, list[int]]:
    """The name and shape of every parameter and buffer, by which a checkpoint knows its program."""
    return {name: list(tensor.shape) for name, tensor in program.state_dict().items()}


def _name(source: Any) -> str:
    if isinstance(source, tuple):
        return " + ".join(_name(part) for part in source if part is not None)
    return getattr(source, "__name__", None) or type(source).__name__
