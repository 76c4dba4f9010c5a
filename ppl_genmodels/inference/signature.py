"""What a traced graph depends on: the shapes of the data, and everything that the program's modules hold.

Convention of this module: numbers and strings count by their value, tensors, modules and other objects by identity;
plates and handlers, which each run makes anew, do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import call, is_, itemgetter
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ppl_genmodels.program import Program

__all__ = ["Contents", "attributes", "changed", "shapes", "tensors", "with_tensors"]

_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
_SMALL = 100


def shapes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """What a graph depends on of the data: of tensors their layout, of anything else the value."""
    described = [_layout(value) if isinstance(value, Tensor) else value for value in args]
    return (*described, *((n, _layout(v) if isinstance(v, Tensor) else v) for n, v in kwargs.items()))


def tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors among the data, by position, then by name."""
    return [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]


def with_tensors(
    args: tuple[Any, ...], kwargs: dict[str, Any], values: Sequence[Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The data with other tensors in the place of theirs."""
    others = iter(values)
    replaced = tuple(next(others) if isinstance(value, Tensor) else value for value in args)
    return replaced, {name: next(others) if isinstance(value, Tensor) else value for name, value in kwargs.items()}


def _layout(value: Tensor) -> tuple[Any, ...]:
    return (value.shape, value.stride(), value.dtype, value.device)


class Contents:
    """Everything that a program's modules hold, whose change makes a graph stale.

    Args:
        program: The program.

    Attributes:
        signature: What graphs are looked up by. It names objects by their ids: keep the contents as long as it.

    Example:
        >>> linear = nn.Linear(2, 2)
        >>> contents = Contents(Program(linear))
        >>> contents.unchanged()
        True
        >>> _ = linear.requires_grad_(False)
        >>> contents.unchanged()
        False
    """

    def __init__(self, program: Program) -> None:
        self._attributes: list[dict[str, Any]] = []
        self._getters: list[Callable[[dict[str, Any]], tuple[Any, ...]]] = []
        self._dicts: list[dict[Any, Any]] = []
        self._sequences: list[Sequence[Any]] = []
        self._parameters = list(program.parameters())
        found: list[Any] = []
        for module in program.modules():
            own = [name for name in vars(module) if name not in _OF_EVERY_MODULE]
            self._attributes.append(vars(module))
            self._getters.append(itemgetter("training", "_modules", *own))
            self._dicts += (module._parameters, module._buffers, module._modules)
            for name in own:
                self._find_containers(vars(module)[name])
                _collect(vars(module)[name], found)
            found += (*module._buffers.values(), *module._modules.values())
        self._held, self._laid_out = self._now(), self._layouts()
        parameters = ((id(p), p.requires_grad, *_layout(p)) for p in self._parameters)
        self.signature = (*map(_key, found), *parameters)

    def _find_containers(self, value: Any) -> None:
        if not isinstance(value, list | tuple | dict) or len(value) > _SMALL:
            return
        if isinstance(value, dict):
            self._dicts.append(value)
        else:
            self._sequences.append(value)
        for item in value.values() if isinstance(value, dict) else value:
            self._find_containers(item)

    def unchanged(self) -> bool:
        """Whether the program holds the very same objects; one replaced by an equal one counts as changed."""
        try:
            now = self._now()
        except KeyError:  # an attribute went
            return False
        same = len(now) == len(self._held) and all(map(is_, now, self._held))
        return same and self._layouts() == self._laid_out

    def _now(self) -> list[Any]:
        """All objects held, in order; read at every step, so it is left to the interpreter's own loops."""
        return [
            *chain.from_iterable(map(call, self._getters, self._attributes)),
            *chain.from_iterable(map(dict.values, self._dicts)),
            *chain.from_iterable(self._sequences),
        ]

    def _layouts(self) -> tuple[list[int], list[Any]]:
        """How many attributes each module has, and where each parameter lies and whether it is trained."""
        return list(map(len, self._attributes)), [(p.data_ptr(), p.requires_grad) for p in self._parameters]


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
    names = [n.split()[-1] for n in after if list(map(_key, after[n])) != list(map(_key, before.get(n, [])))]
    return f"each run of the program changes its own attributes ({', '.join(names)})" if names else ""


def _key(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else id(value)
