"""What a traced graph depends on: the shapes of the data, and everything that the program's modules hold.

Convention of this module: numbers and strings count by their value, tensors, modules and other objects by identity;
plates and handlers, which each run makes anew, do not count.
"""

from __future__ import annotations

from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ppl_genmodels.program import Program

__all__ = ["attributes", "changed", "contents", "key", "shapes"]

_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
_SMALL = 100


def shapes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    def described(value: Any) -> Any:
        return (value.shape, value.dtype, value.device) if isinstance(value, Tensor) else value

    return (*map(described, args), *((name, described(value)) for name, value in sorted(kwargs.items())))


def contents(program: Program) -> list[Any]:
    """Everything that the program's modules hold, whose change makes a graph stale."""
    found: list[Any] = []
    for module in program.modules():
        for name, value in vars(module).items():
            if name not in _OF_EVERY_MODULE:
                _collect(value, found)
        found += module._buffers.values()
        found += module._modules.values()
        for parameter in module._parameters.values():
            found += (parameter, None if parameter is None else parameter.requires_grad)
    return found


def _collect(value: Any, found: list[Any]) -> None:
    """Adds a value, or what a small container holds; plates and other handlers are made anew by each run."""
    if isinstance(value, list | tuple | dict) and len(value) <= _SMALL:
        for item in value.items() if isinstance(value, dict) else value:
            _collect(item, found)
    elif not isinstance(value, Messenger):
        found.append(value)


def attributes(program: Program) -> dict[str, list[Any]]:
    """What each module holds in each of its own attributes, for the message when a run has changed one."""
    found: dict[str, list[Any]] = {}
    for path, module in program.named_modules():
        for name, value in vars(module).items():
            if name not in _OF_EVERY_MODULE:
                _collect(value, found.setdefault(f"{path} {type(module).__name__}.{name}", []))
    return found


def changed(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> str:
    """What a run has changed in the program's modules beside the contents of buffers, in words; empty for nothing."""
    names = [name.split()[-1] for name in after if list(map(key, after[name])) != list(map(key, before.get(name, [])))]
    return f"each run of the program changes its own attributes ({', '.join(names)})" if names else ""


def key(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else id(value)
