"""The catalogue: programs by name, with their options.

Convention of this module: a program's options are its constructor's arguments. What an instance was
built with is recorded on it, as plain values that JSON can hold, so that it can be built again.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
from torch import nn

from ppl_genmodels.errors import OptionError, UnknownNameError

__all__ = ["REQUIRED", "build", "entry", "names", "options", "register", "summary"]


class _Required:
    """Stands for the default of an option that has none."""

    def __repr__(self) -> str:
        return "required"


REQUIRED: Final = _Required()
"""The default of an option that has none."""

_entries: dict[str, type[nn.Module]] = {}

ProgramClass = TypeVar("ProgramClass", bound=type[nn.Module])


def register(name: str) -> Callable[[ProgramClass], ProgramClass]:
    """Class decorator that adds a program to the catalogue.

    An instance carries ``options``, the bound arguments of its constructor with defaults filled in,
    and ``catalogue_name``. An instance of a subclass carries neither, since the catalogue could not
    build it. The class has a class method ``options_for(data)`` that gives the options which a data
    set, arrays by name, determines.

    Args:
        name: The name it is built by.

    Raises:
        OptionError: When another class has that name.

    Example:
        >>> from ppl_genmodels.models import EightSchools, LinearRegression
        >>> LinearRegression(3, noise_scale=0.5).options
        {'num_features': 3, 'prior_scale': 1.0, 'noise_scale': 0.5}
        >>> EightSchools().catalogue_name
        'eight_schools'
    """

    def decorate(cls: ProgramClass) -> ProgramClass:
        known = _entries.get(name, cls)
        if _path(known) != _path(cls):
            raise OptionError(
                f"the catalogue has '{name}' already: {_path(known)}. Remedy: register {_path(cls)} under another name."
            )
        _entries[name] = cls
        _record_options(cls, name)
        return cls

    return decorate


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _record_options(cls: type[nn.Module], name: str) -> None:
    construct = cls.__init__
    signature = inspect.signature(construct)

    @functools.wraps(construct)
    def construct_and_record(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        construct(self, *args, **kwargs)
        if type(self) is cls:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            _, *chosen = bound.arguments.items()
            options = {option: _plain(value) for option, value in chosen}
            vars(self).update(catalogue_name=name, options=options)

    cls.__init__ = construct_and_record  # type: ignore[method-assign]


def _plain(value: Any) -> Any:
    """Sequences as tuples and NumPy scalars as Python's."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def names() -> tuple[str, ...]:
    """The names in the catalogue, in alphabetical order.

    Example:
        >>> "vae" in names()
        True
    """
    return tuple(sorted(_entries))


def entry(name: str) -> Any:
    """The class registered under a name.

    Raises:
        UnknownNameError: When there is none.

    Example:
        >>> entry("vae").__name__
        'VAE'
    """
    if name not in _entries:
        raise UnknownNameError("program", name, _entries, "in the catalogue")
    return _entries[name]


def summary(name: str) -> str:
    """The first line of a program's docstring.

    Raises:
        UnknownNameError: When there is none of that name.

    Example:
        >>> summary("vae")
        'Variational autoencoder with multilayer perceptrons on flat rows.'
    """
    return (inspect.getdoc(entry(name)) or "").partition("\n")[0]


def options(name: str) -> dict[str, Any]:
    """The options of a program with their defaults; :data:`REQUIRED` for an option without.

    Raises:
        UnknownNameError: When there is none of that name.

    Example:
        >>> options("vae")["hidden"], options("vae")["data_dim"]
        ((500,), required)
    """
    parameters = inspect.signature(entry(name)).parameters.values()
    return {p.name: REQUIRED if p.default is p.empty else p.default for p in parameters}


def build(name: str, /, **chosen: Any) -> nn.Module:
    """Builds a program of the catalogue.

    Args:
        name: Its name.
        **chosen: Its options.

    Raises:
        UnknownNameError: When there is no such program, or no such option.
        OptionError: When a required option is missing or an option has a bad value.

    Example:
        >>> build("vae", data_dim=64, latent_dim=8).options["likelihood"]
        'bernoulli'
    """
    program, known = entry(name), options(name)
    for option in chosen:
        if option not in known:
            raise UnknownNameError("option", option, known, f"of program '{name}'")
    missing = [o for o, default in known.items() if default is REQUIRED and o not in chosen]
    if missing:
        listed = ", ".join(f"{option}=..." for option in missing)
        raise OptionError(f"program '{name}' needs {', '.join(missing)}. Remedy: set {listed}.")
    return program(**chosen)
