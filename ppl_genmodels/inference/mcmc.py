"""Hamiltonian Monte Carlo on a program's model: Pyro's no-U-turn sampler, with results as draws.

Convention of this module: a chain is run in this process under a random state of its own, derived
from the seed; the caller's random state stays as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import MCMC, NUTS
from rich.progress import Progress
from torch import Tensor, nn
from torch.distributions import biject_to
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.inference.draws import Draws
from ppl_genmodels.inference.posterior import compact, variable_dims
from ppl_genmodels.probe import describe_data, probe_model
from ppl_genmodels.program import Program, as_program
from ppl_genmodels.structure import PARTICLES, Node, Structure, sample_sites

__all__ = ["nuts"]

_DRAWS_AT_ONCE = 500

Values = dict[str, Tensor]
Potential = Callable[[Values], Tensor]


def nuts(
    program: Any,
    *args: Any,
    num_samples: int = 1000,
    warmup: int = 500,
    chains: int = 4,
    seed: int = 0,
    progress: bool = False,
    **kwargs: Any,
) -> Draws:
    """Draws from the posterior of a program's model by the no-U-turn sampler.

    The guide is not used. Parameters of the program are held fixed at their values. The density is
    compiled where the compiled one agrees with the model's own, which halves the time on eight
    schools.

    Args:
        program: A program, or anything that :func:`ppl_genmodels.as_program` takes; its latent
            sites must be continuous and its plates not subsampled.
        *args: Data, as the model takes them.
        num_samples: Draws kept of each chain.
        warmup: Draws before those, which adapt the step size and the mass matrix.
        chains: How many chains, run one after another.
        seed: Of all randomness.
        progress: Whether to show a progress bar.
        **kwargs: Data, as the model takes them.

    Returns:
        Latent and deterministic sites, the log-likelihood of each observed site, and of each draw
        ``diverging``, ``lp`` (log-density in unconstrained space up to a constant, in nats),
        ``acceptance_rate`` and ``step_size``.

    Raises:
        OptionError: When a number of draws or chains is out of range.
        ProgramError: When the model fails on the data, has no latent sites, a discrete one, one
            without a bijection onto its support, a subsampled plate, or no point of finite density.

    References:
        Hoffman and Gelman (2014), The No-U-Turn Sampler; Betancourt (2017), A Conceptual
        Introduction to Hamiltonian Monte Carlo, appendix A, for multinomial sampling.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(x):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", dist.Normal(mu, 1.0), obs=x)
        >>> draws = nuts(model, torch.ones(3), num_samples=20, warmup=20, chains=2)
        >>> draws.posterior["mu"].shape, draws.log_likelihood["x"].shape
        ((2, 20), (2, 20, 3))
    """
    if num_samples < 1 or chains < 1 or warmup < 0:
        raise OptionError(
            f"num_samples and chains must be at least 1 and warmup at least 0, got {num_samples}, "
            f"{chains} and {warmup}."
        )
    fixed = as_program(program)
    seeds = np.random.SeedSequence(seed).generate_state(chains)
    with torch.random.fork_rng(), Progress(disable=not progress) as bar:
        target = _Target.of(fixed, args, kwargs)
        runs = []
        for number, chain_seed in enumerate(seeds):
            task = bar.add_task(f"chain {number + 1} of {chains}", total=warmup + num_samples)
            torch.manual_seed(int(chain_seed))
            with _held_fixed(fixed):
                advance = partial(bar.advance, task)
                runs.append(_chain(target, num_samples, warmup, advance))
        return _assemble(target, runs)


@dataclass(frozen=True)
class _Target:
    """The model with its data: what is sampled, and what is computed at the draws."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    structure: Structure
    nodes: dict[str, Node]

    @staticmethod
    def of(program: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Target:
        """Runs the model once, validated, and checks that the sampler can serve it."""
        with torch.no_grad(), pyro.validation_enabled(True):
            structure = probe_model(program.model, args, kwargs)
            nodes = sample_sites(poutine.trace(program.model).get_trace(*args, **kwargs))
        _check(structure, nodes)
        return _Target(program.model, args, kwargs, structure, nodes)

    def at(self, draws: Values) -> Values:
        """Deterministic sites and log-likelihoods at every draw, each (draws, *plates, *event).

        The draws are taken together in a plate to the left of the model's own. A model that does
        not broadcast shows by failing, or by disagreeing with single draws; it is run draw by draw.
        """
        count = len(next(iter(draws.values())))
        with torch.no_grad(), pyro.validation_enabled(False):
            try:
                together = [
                    self._together({name: v[i : i + _DRAWS_AT_ONCE] for name, v in draws.items()})
                    for i in range(0, count, _DRAWS_AT_ONCE)
                ]
                found = _joined(together)
                ends = (0, count - 1)
                if all(_agree(self._single(draws, i), found, i) for i in ends):
                    return found
            except (RuntimeError, ValueError, IndexError):
                pass
            return _joined([self._single(draws, i) for i in range(count)])

    def _together(self, draws: Values) -> Values:
        nesting, count = self.structure.max_plate_nesting, len(next(iter(draws.values())))
        placed = {}
        for name, value in draws.items():
            shape = self.structure.site(name).batch_shape
            placed[name] = value.reshape(count, *(1,) * (nesting - len(shape)), *value.shape[1:])
        with pyro.plate(PARTICLES, count, dim=-1 - nesting):
            return self._computed(placed, count)

    def _single(self, draws: Values, index: int) -> Values:
        return self._computed({name: value[index] for name, value in draws.items()}, 1)

    def _computed(self, values: Values, count: int) -> Values:
        conditioned = poutine.trace(poutine.condition(self.model, data=values))
        nodes = sample_sites(conditioned.get_trace(*self.args, **self.kwargs))
        computed = {}
        for site in self.structure.sites:
            node = nodes[site.name]
            if site.kind == "deterministic":
                computed[site.name] = compact(node["value"], site, self.structure, count)
            elif site.kind == "observed":
                raw = node["fn"].log_prob(node["value"])
                density = scale_and_mask(raw, node["scale"], node["mask"])
                computed[site.name] = compact(density, site, self.structure, count, event=False)
        return computed


class _Recorder(NUTS):
    """Pyro's sampler, noting what it knows of each draw and compiling only what agrees."""

    potential_fn: Potential

    def __init__(self, model: Callable[..., Any]) -> None:
        super().__init__(model)
        self.notes: list[dict[str, Any]] = []

    def sample(self, params: Values) -> Values:
        """One transition in unconstrained space."""
        before, mean = len(self._divergences), self._mean_accept_prob
        drawn: Values = super().sample(params)
        number = self._t - self._warmup_steps
        if number > 0:
            # Pyro keeps the mean acceptance of the draws so far, which starts anew after warmup.
            mean = mean if number > 1 else 0.0
            rate = number * self._mean_accept_prob - (number - 1) * mean
            self.notes.append(
                {
                    "diverging": len(self._divergences) > before,
                    "lp": -float(self._potential_energy_last),
                    "acceptance_rate": min(max(rate, 0.0), 1.0),
                    "step_size": float(self.step_size),
                }
            )
        return drawn

    def _initialize_model_properties(self, args: Any, kwargs: Any) -> None:
        super()._initialize_model_properties(args, kwargs)
        self.potential_fn = _compiled(self.potential_fn, self.initial_params)


def _chain(
    target: _Target, num_samples: int, warmup: int, advance: Callable[[], None]
) -> tuple[Values, list[dict[str, Any]]]:
    kernel = _Recorder(target.model)
    sampler = MCMC(
        kernel,
        num_samples,
        warmup_steps=warmup,
        disable_progbar=True,
        hook_fn=lambda *_: advance(),
    )
    try:
        sampler.run(*target.args, **target.kwargs)
    except ValueError as error:
        if "cannot find valid initial params" not in str(error):
            raise
        raise ProgramError(
            f"nuts: no point of finite density found in 100 tries, with "
            f"{describe_data(target.args, target.kwargs)}. Remedy: check that the observed values "
            f"lie in the support of their distributions, and that no density is zero or NaN."
        ) from error
    return sampler.get_samples(), kernel.notes


def _assemble(target: _Target, runs: list[tuple[Values, list[dict[str, Any]]]]) -> Draws:
    structure = target.structure
    computed = [target.at(values) for values, _ in runs]
    chains = [values | found for (values, _), found in zip(runs, computed, strict=True)]
    arrays = {name: torch.stack([c[name] for c in chains]).cpu().numpy() for name in chains[0]}
    observed = [site.name for site in structure.observed]
    stats = {key: np.array([[n[key] for n in notes] for _, notes in runs]) for key in runs[0][1][0]}
    return Draws(
        posterior={site.name: arrays[site.name] for site in structure.sites if site.name not in observed},
        dims=variable_dims(structure),
        log_likelihood={name: arrays[name] for name in observed},
        sample_stats=stats,
        observed_data={name: _observation(target, name) for name in observed},
        attrs={"method": "NUTS", "data_plate": structure.data_plate or ""},
    )


def _observation(target: _Target, name: str) -> NDArray[Any]:
    value, structure = target.nodes[name]["value"], target.structure
    return compact(value, structure.site(name), structure, draws=1)[0].cpu().numpy()


def _check(structure: Structure, nodes: dict[str, Node]) -> None:
    if not structure.latent:
        raise ProgramError("nuts: the model has no latent sites. Remedy: leave unobserved what is to be inferred.")
    for plate in structure.plates:
        if plate.size != plate.full_size:
            raise ProgramError(
                f"nuts: plate '{plate.name}' holds {plate.size} of {plate.full_size} elements, and "
                f"a chain needs the density of all. Remedy: give the model the whole data set."
            )
    for site in structure.latent:
        if site.discrete:
            raise ProgramError(
                f"nuts: site '{site.name}' is discrete ({site.distribution}), and the sampler "
                f"follows gradients. Remedy: sum it out in the model (MixtureSameFamily), or fit "
                f"the program by variational inference."
            )
        try:
            biject_to(nodes[site.name]["fn"].support)
        except NotImplementedError as error:
            raise ProgramError(
                f"nuts: site '{site.name}' ({site.distribution}) has a support without a bijection "
                f"from unconstrained space. Remedy: sample a site on another support and "
                f"transform it with pyro.deterministic."
            ) from error


@contextmanager
def _held_fixed(module: nn.Module) -> Iterator[None]:
    trained = [p for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _compiled(potential: Potential, start: Values) -> Potential:
    """The potential as one graph, or itself where no graph computes the same.

    The graph is taken by ``make_fx``, which refuses control flow that depends on values, and then
    run by ``torch.jit``, which takes a third of the time that the handlers take.
    """
    names = sorted(start)

    def compiled(params: Values) -> Tensor:
        return run(*(params[name] for name in names))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = tuple(start[name].detach().clone() for name in names)
            graph = make_fx(lambda *z: potential(dict(zip(names, z, strict=True))))(*values)
            run = torch.jit.trace(graph, values, check_trace=False)
        points = [{name: v + torch.randn_like(v) for name, v in start.items()} for _ in range(3)]
        pairs = [(compiled(point), potential(point)) for point in points]
    except (RuntimeError, ValueError, TypeError, NotImplementedError):
        return potential
    same = all(torch.allclose(a, b, 1e-4, 1e-3, equal_nan=True) for a, b in pairs)
    return compiled if same else potential


def _agree(single: Values, many: Values, index: int) -> bool:
    return all(
        torch.allclose(one[0].double(), many[name][index].double(), 1e-3, 1e-4, equal_nan=True)
        for name, one in single.items()
    )


def _joined(parts: list[Values]) -> Values:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
