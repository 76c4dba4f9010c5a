"""From MODEL and --set to a program: a name in the catalogue, or a class in a file of one's own.

Convention of this module: a file is run only when the user names it on the command line; nothing that is read from a
run's folder ever names code to run.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError

__all__ = ["AUTOGUIDES", "build_program", "is_file", "options_for", "parse_options"]

AUTOGUIDES = (
    "AutoNormal",
    "AutoDiagonalNormal",
    "AutoMultivariateNormal",
    "AutoLowRankMultivariateNormal",
    "AutoDelta",
)


def parse_options(settings: Sequence[str]) -> dict[str, Any]:
    """The options that ``--set name=value`` gives: JSON or Python literals, otherwise text.

    Args:
        settings: Each ``name=value``.

    Raises:
        OptionError: When one is not.

    Example:
        >>> parse_options(["latent_dim=8", "hidden=[500, 300]", "likelihood=gaussian"])
        {'latent_dim': 8, 'hidden': (500, 300), 'likelihood': 'gaussian'}
    """
    options = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not name or not equals:
            raise OptionError(f"--set {setting} is not name=value. Remedy: write it as in --set latent_dim=16.")
        options[name] = _value(text)
    return options


def options_for(model: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the model's class reads off the data; none when it reads none.

    Args:
        model: As :func:`build_program` takes it.
        arrays: The data by name.

    Raises:
        UnknownNameError: When the model does not exist.
        DataError: When it cannot take these data.
    """
    read_off = getattr(_program_class(model), "options_for", None)
    return {} if read_off is None else read_off(arrays)


def build_program(model: str, options: Mapping[str, Any], guide: str | None = None) -> Any:
    """The program that MODEL names.

    Args:
        model: A name in the catalogue, or ``path/to/file.py:Class``.
        options: Of its constructor; lists become tuples.
        guide: One of :data:`AUTOGUIDES`, for a model without a guide of its own.

    Raises:
        UnknownNameError: When the model, the guide or an option does not exist.
        OptionError: When an option is missing.
        ProgramError: When the file does not run or does not define the class.

    Example:
        >>> build_program("vae", {"data_dim": 4, "latent_dim": 2, "hidden": [30]}).options["hidden"]
        (30,)
    """
    from ppl_genmodels import guides
    from ppl_genmodels.models import catalogue

    chosen = {name: _with_tuples(value) for name, value in options.items()}
    if is_file(model):
        _check_options(model, _program_class(model), chosen)
        program: Any = _program_class(model)(**chosen)
    else:
        program = catalogue.build(model, **chosen)
    if guide is None:
        return program
    if guide not in AUTOGUIDES:
        raise UnknownNameError("guide", guide, AUTOGUIDES)
    return program.model, getattr(guides, guide)(program.model)


def is_file(model: str) -> bool:
    """Whether MODEL names a file rather than a program of the catalogue.

    Example:
        >>> is_file("mine.py:Mixture"), is_file("vae")
        (True, False)
    """
    return ".py" in model


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return _with_tuples(read(text))
        except (ValueError, SyntaxError):
            continue
    return text


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _program_class(model: str) -> Any:
    from ppl_genmodels.models import catalogue

    return _class_in_file(model) if is_file(model) else catalogue.entry(model)


@functools.cache
def _class_in_file(model: str) -> type:
    path, _, name = model.rpartition(":")
    if not path.endswith(".py"):
        raise ProgramError(f"'{model}' names no class. Remedy: write {model.rstrip(':')}:Class.")
    module = _run_file(Path(path))
    classes = {key: value for key, value in vars(module).items() if isinstance(value, type)}
    if name not in classes:
        own = [key for key, value in classes.items() if value.__module__ == module.__name__]
        raise UnknownNameError("class", name, own, f"in '{path}'")
    return classes[name]


def _run_file(path: Path) -> ModuleType:
    """Runs the file as a module that finds its neighbours, as ``python file.py`` does."""
    spec = importlib.util.spec_from_file_location(f"program_file_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ProgramError(f"no file '{path}'. Remedy: check the path before the colon.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        message = f"'{path}' does not run: {_line(path, error)}{type(error).__name__}: {error}."
        raise ProgramError(f"{message} Remedy: mend that line; python {path} shows the whole traceback.") from error
    finally:
        sys.path.pop(0)
    return module


def _line(path: Path, error: Exception) -> str:
    """The last line of the file that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"line {lines[-1]}, " if lines else ""


def _check_options(model: str, make: type, options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(make).parameters
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters.values()):
        return
    for name in options:
        if name not in parameters:
            raise UnknownNameError("option", name, parameters, f"of '{model}'")
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in options]
    if missing:
        settings = " ".join(f"--set {name}=..." for name in missing)
        raise OptionError(f"'{model}' needs {', '.join(missing)}. Remedy: add {settings}.")
