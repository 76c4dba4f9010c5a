"""A program: a model and a guide with one signature, the modules that hold their parameters, and their structure.

Convention of this module: parameters live in ``nn.Module``s. Pyro's global parameter store is never touched: a
``pyro.param`` statement of a plain function makes a parameter of its :class:`Program`.
"""

from __future__ import annotations

import functools
import html
import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from pyro.nn import PyroModule
from pyro.params.param_store import ParamStoreDict
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor, nn
from torch.distributions import transform_to

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.graph import program_graph
from ppl_genmodels.probe import check_guide, probe_guide, probe_model
from ppl_genmodels.provenance import parents_of
from ppl_genmodels.structure import Structure

__all__ = ["Program", "as_program"]

Transform = Callable[[Callable[..., Any]], Callable[..., Any]]


class Program(nn.Module):
    """A model and a guide, with every parameter that either of them uses.

    The modules are found where Python keeps them: the callable itself, the object a method is bound to, and the
    modules that a plain function refers to.

    Args:
        model: A Pyro program: called with data to condition on them, without data to sample from the prior.
        guide: A Pyro program with the same signature that samples the model's latent sites. A model without
            latent sites needs none.
        source: The object that the user gave, when it is not the pair itself.

    Raises:
        ProgramError: When the model or the guide cannot be called.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(x=None):
        ...     with pyro.plate("data", 1 if x is None else len(x)):
        ...         pyro.sample("x", dist.Normal(pyro.param("loc", torch.zeros(())), 1.0), obs=x)
        >>> program = Program(model)
        >>> program.structure(torch.ones(3)).data_plate
        'data'
        >>> [name for name, _ in program.named_parameters()]
        ['params.loc']
    """

    _model: Callable[..., Any]
    _guide: Callable[..., Any] | None
    source: Any

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any] | None = None,
        source: object = None,
    ) -> None:
        super().__init__()
        _check_callable("model", model)
        if guide is not None:
            _check_callable("guide", guide)
        vars(self).update(_model=model, _guide=guide, source=(model, guide) if source is None else source)
        self.parts = nn.ModuleList(_distinct(self.source, model, guide))
        for module in self.parts.modules():
            _hold_own_parameters(module)
        self.params = nn.ParameterDict()
        self.remembered = nn.ModuleList()
        """What handlers remember from step to step of training; checkpoints keep it, saved programs do not."""
        self.critics = nn.ModuleList()
        """The other players of games, and what they remember; checkpoints keep them, saved programs do not."""
        self._local = _LocalParams(self.params)
        self._structure: Structure | None = None

    @property
    def model(self) -> Callable[..., Any]:
        """The model, run with this program's own parameters."""
        return functools.partial(self._run, self._model)

    @property
    def guide(self) -> Callable[..., Any] | None:
        """The guide, run with this program's own parameters, or None."""
        return None if self._guide is None else functools.partial(self._run, self._guide)

    @property
    def has_autoguide(self) -> bool:
        """Whether the guide is one of Pyro's autoguides, whose local sites have one parameter for each row."""
        return any(isinstance(module, AutoGuide) for module in _modules_of(self._guide))

    def wrap(self, transform: Transform, transform_guide: Transform | None = None) -> Program:
        """This program with its model and its guide transformed, sharing every parameter.

        Args:
            transform: From a callable to a callable, such as a handler.
            transform_guide: The same for the guide, when it differs.
        """
        guide = None if self._guide is None else (transform_guide or transform)(self._guide)
        wrapped = Program(transform(self._model), guide, source=self.source)
        wrapped.parts, wrapped.params = self.parts, self.params
        wrapped.remembered = nn.ModuleList([*self.remembered, *_states_of(transform, transform_guide)])
        wrapped._local, wrapped.critics = self._local, self.critics
        return wrapped

    def with_critics(self, critics: Iterable[nn.Module]) -> Program:
        """This program with the other players of adversarial terms, sharing every parameter."""
        found = self.wrap(lambda fn: fn)
        found.critics = nn.ModuleList(dict.fromkeys(critics))
        return found

    def own_parameters(self) -> list[nn.Parameter]:
        """The parameters without those of critics."""
        others = {id(parameter) for parameter in self.critics.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in others]

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers, without what serves training alone: what handlers remember, and critics."""
        state = self.state_dict()
        return {name: value for name, value in state.items() if not name.startswith(("remembered.", "critics."))}

    def structure(self, *args: Any, **kwargs: Any) -> Structure:
        """The program's sites and plates, found by one run on the first call and remembered.

        Args:
            *args: Data, as the model takes them.
            **kwargs: Data, as the model takes them.

        Raises:
            ProgramError: As :meth:`probe`.
        """
        if self._structure is None:
            return self.probe(*args, **kwargs)
        return self._structure

    def probe(self, *args: Any, **kwargs: Any) -> Structure:
        """Runs model and guide once, validated, without gradients and leaving the random state as it was.

        Raises:
            ProgramError: When either fails on these data, or when the guide misses or adds a latent site.
        """
        with _quietly():
            if self.has_autoguide:
                probe_guide(self.guide, args, kwargs)
            structure = probe_model(self.model, args, kwargs)
            if self.guide is not None or structure.observed:
                guide_sites = probe_guide(self.guide, args, kwargs)
                check_guide(structure, guide_sites, self.guide is not None)
                structure = replace(structure, guide_parents=parents_of(self.guide, args, kwargs))
        self._structure = structure
        return structure

    def prior(self) -> Program:
        """The model alone, its structure read from a run without data.

        Raises:
            ProgramError: When the model cannot run without data.
        """
        prior = Program(self.model, source=self.source)
        with _quietly():
            prior._structure = probe_model(prior.model, (), {})
        return prior

    def _repr_html_(self) -> str:
        """The program's graph with its plates, as notebooks show it; of the prior, before it has seen data."""
        try:
            return program_graph(self._structure or self.prior().structure())
        except ProgramError as error:
            return f"<pre>{html.escape(type(self.source).__name__)}: {html.escape(str(error))}</pre>"

    @contextmanager
    def scope(self) -> Iterator[None]:
        """While open, parameters of Pyro modules and ``pyro.param`` statements are this program's own."""
        with pyro.settings.context(module_local_params=True), self._local:
            yield

    def _run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self.scope():
            return fn(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the model."""
        return self.model(*args, **kwargs)


@contextmanager
def _quietly() -> Iterator[None]:
    """Validated, without gradients, leaving the random state as it was."""
    with torch.no_grad(), torch.random.fork_rng(), pyro.validation_enabled(True):
        yield


def as_program(source: Any) -> Program:
    """The program of any object with ``.model`` and maybe ``.guide``, of a pair of callables, or of one callable.

    The same object gives the same program each time.

    Args:
        source: An object with ``.model``, a pair ``(model, guide)``, a callable model, or a :class:`Program`.

    Raises:
        ProgramError: When it is none of these.

    Example:
        >>> as_program((lambda: None, None)).guide is None
        True
    """
    if isinstance(source, Program):
        return source
    if isinstance(source, tuple) and len(source) == 2:
        return Program(*source)
    remembered = getattr(source, "__dict__", {}).get("_ppl_program")
    if remembered is not None:
        return remembered
    if hasattr(source, "model") and not isinstance(source, type):
        program = Program(source.model, getattr(source, "guide", None), source=source)
    elif callable(source) and not isinstance(source, type):
        program = Program(source, source=source)
    else:
        raise ProgramError(
            f"a program is an object with .model and .guide, a pair (model, guide) of callables, or a model; "
            f"got {source!r}. Remedy: pass an instance (not a class), or write (model, guide)."
        )
    if hasattr(source, "__dict__"):
        source.__dict__["_ppl_program"] = program
    return program


class _LocalParams(Messenger):
    """Answers ``pyro.param`` from its program instead of the global store."""

    def __init__(self, params: nn.ParameterDict) -> None:
        super().__init__()
        self.params = params
        self.depth = 0

    def __enter__(self) -> _LocalParams:
        self.depth += 1
        return self if self.depth > 1 else super().__enter__()

    def __exit__(self, *exc: Any) -> None:
        self.depth -= 1
        if self.depth == 0:
            super().__exit__(*exc)

    def _pyro_param(self, msg: Message) -> None:
        if msg["done"] or getattr(msg["fn"], "__func__", None) is not ParamStoreDict.get_param:
            return
        name, *init = msg["args"]
        constraint = msg["kwargs"]["constraint"]
        key = name.replace(".", "/")
        if key not in self.params:
            self._create(key, init, constraint)
        unconstrained = self.params[key]
        value = transform_to(constraint)(unconstrained)
        if value is not unconstrained:
            value.unconstrained = weakref.ref(unconstrained)
        msg["value"], msg["done"] = value, True

    def _create(self, key: str, init: list[Any], constraint: Any) -> None:
        if not init or init[0] is None:
            raise ProgramError(
                f"pyro.param('{key}') has no initial value at its first statement. "
                f"Remedy: pyro.param('{key}', initial_tensor)."
            )
        value = init[0]() if callable(init[0]) and not isinstance(init[0], Tensor) else init[0]
        if not isinstance(value, nn.Parameter):
            value = nn.Parameter(transform_to(constraint).inv(value.detach()).clone())
        self.params[key] = value


def _hold_own_parameters(module: nn.Module) -> None:
    """Lets a Pyro module that was made before its program run with parameters of its own."""
    if isinstance(module, PyroModule):
        vars(module._pyro_context).setdefault("param_state", {"params": {}, "constraints": {}})


def _states_of(*handlers: Any) -> list[nn.Module]:
    """What handlers remember from step to step."""
    found = (getattr(handler, "state", None) for handler in handlers)
    return list(dict.fromkeys(state for state in found if isinstance(state, nn.Module)))


def _check_callable(role: str, fn: object) -> None:
    if not callable(fn) or isinstance(fn, type):
        raise ProgramError(
            f"the {role} must be a callable Pyro program; got {fn!r}. "
            f"Remedy: pass a function, a bound method, or an instance of a module."
        )


def _distinct(*holders: Any) -> list[nn.Module]:
    """The modules behind the holders, each once, none inside another."""
    found: list[nn.Module] = []
    for holder in holders:
        for module in _modules_of(holder):
            if not any(module is inner for outer in found for inner in outer.modules()):
                found.append(module)
    return found


def _modules_of(holder: Any) -> list[nn.Module]:
    if isinstance(holder, nn.Module):
        return [holder]
    if isinstance(holder, functools.partial):
        parts = (holder.func, *holder.args, *holder.keywords.values())
        return [module for part in parts for module in _modules_of(part)]
    if inspect.ismethod(holder):
        return _modules_of(holder.__self__)
    if inspect.isfunction(holder):
        names = inspect.getclosurevars(holder)
        return [v for v in (*names.nonlocals.values(), *names.globals.values()) if isinstance(v, nn.Module)]
    return []
