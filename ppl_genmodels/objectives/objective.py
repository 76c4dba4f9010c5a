"""An objective: a weighted sum of terms over one shared run, to be maximised.

Convention of this module: the value is the mean over the data of the per-datum values, in nats; losses are minus it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ppl_genmodels.errors import OptionError
from ppl_genmodels.objectives.game import Game
from ppl_genmodels.objectives.parts import LinearPart, MixedPart
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.surrogate import surrogate
from ppl_genmodels.objectives.term import Term
from ppl_genmodels.program import as_program
from ppl_genmodels.schedules import Schedule

__all__ = ["Objective", "Weight", "Weighted"]

Weight = float | Tensor | Schedule


@dataclass(frozen=True)
class Weighted:
    """A term with its weight: a number, times a schedule where there is one.

    Attributes:
        term: The term.
        factor: A number or a scalar tensor.
        schedule: What multiplies the factor at each training step.
    """

    term: Term
    factor: float | Tensor = 1.0
    schedule: Schedule | None = None

    def at(self, step: int | Tensor) -> float | Tensor:
        """The weight at a training step."""
        return self.factor if self.schedule is None else self.factor * self.schedule(step)

    def times(self, weight: Weight) -> Weighted:
        """The same term with its weight multiplied.

        Raises:
            OptionError: When both have a schedule, or the weight is not a scalar.
        """
        if isinstance(weight, Schedule):
            if self.schedule is not None:
                raise OptionError(
                    f"term {self.term.name} has the schedule {self.schedule} as its weight already, got {weight} too. "
                    f"Remedy: give each term one schedule."
                )
            return Weighted(self.term, self.factor, weight)
        if isinstance(weight, Tensor) and weight.numel() != 1:
            raise OptionError(
                f"a weight is a scalar, got a tensor of shape {tuple(weight.shape)}. Remedy: weigh the data inside "
                f"a term, or reduce the tensor first."
            )
        return Weighted(self.term, self.factor * weight, self.schedule)

    def sign_and_size(self, times: str, latex: bool) -> tuple[str, str]:
        """The weight as a sign and what stands before the term's formula."""
        number = float(self.factor)
        parts = [] if abs(number) == 1 else [f"{abs(number):g}"]
        if self.schedule is not None:
            parts.append(self.schedule._repr_latex_().strip("$") if latex else str(self.schedule))
        return ("-" if number < 0 else "+"), "".join(part + times for part in parts)


@dataclass(frozen=True, repr=False)
class Objective:
    """A weighted sum of named terms. Combine with ``+``, ``-`` and multiplication by a number or a schedule.

    Every term reads the same run, so the guide and the model are evaluated once whatever the number of terms.

    Attributes:
        weighted: The terms with their weights.

    Example:
        >>> from ppl_genmodels.objectives import kl, log_lik
        >>> print(log_lik() - 0.5 * kl())
        E_q[log p(x|z)] - 0.5 * KL[q(z|x) || p(z)]
    """

    weighted: tuple[Weighted, ...]

    @classmethod
    def of(cls, term: Term) -> Objective:
        """One term with weight one."""
        return cls((Weighted(term),))

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return Objective(self.weighted + other.weighted)

    def __radd__(self, other: int) -> Objective:
        """So that ``sum`` of a list of objectives is their sum."""
        return self if other == 0 else NotImplemented

    def __sub__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return self + -other

    def __neg__(self) -> Objective:
        return self * -1.0

    def __mul__(self, weight: Weight) -> Objective:
        if not isinstance(weight, int | float | Tensor | Schedule):
            return NotImplemented
        return Objective(tuple(weighted.times(weight) for weighted in self.weighted))

    __rmul__ = __mul__

    @property
    def names(self) -> tuple[str, ...]:
        """The terms' names, numbered where one name occurs more than once."""
        seen: dict[str, int] = {}
        names = []
        for name in (weighted.term.name for weighted in self.weighted):
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
        return tuple(names)

    @property
    def games(self) -> tuple[Game, ...]:
        """The other players of its adversarial terms."""
        return tuple(weighted.term.game for weighted in self.weighted if weighted.term.game is not None)

    @property
    def game_names(self) -> tuple[str, ...]:
        """What tells its games apart: ``[x]`` for that of the term ``adversarial[x]``."""
        pairs = zip(self.names, self.weighted, strict=True)
        return tuple(name.removeprefix("adversarial") for name, weighted in pairs if weighted.term.game is not None)

    def values(self, run: Run) -> dict[str, Tensor]:
        """Each term's values on a run, unweighted, shape (particles, data) or (1, data)."""
        return {name: weighted.term.values(run) for name, weighted in zip(self.names, self.weighted, strict=True)}

    def assess(self, run: Run) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a run with its gradient, and each term's mean without.

        The gradient is unbiased: guide sites without a reparameterization get the score-function surrogate.
        """
        values = self.values(run)
        sums = [self._sum(run, values, mixes) for mixes in (False, True)]
        objective = torch.stack([each.mean() for each in sums if each is not None]).sum()
        objective = objective + surrogate(run, partial(self._parts, run, values), self._parts_of)
        return -objective, {name: value.detach().mean() for name, value in values.items()}

    def _sum(self, run: Run, values: dict[str, Tensor], mixes: bool) -> Tensor | None:
        """The weighted sum of the terms that mix particles, or of those that do not; None when there are none."""
        parts = [
            _times(weighted.at(run.step), value)
            for value, weighted in zip(values.values(), self.weighted, strict=True)
            if weighted.term.mixes_particles == mixes
        ]
        return sum(parts[1:], start=parts[0]) if parts else None

    def _parts_of(self, run: Run) -> list[LinearPart | MixedPart]:
        return self._parts(run, self.values(run))

    def _parts(self, run: Run, values: dict[str, Tensor]) -> list[LinearPart | MixedPart]:
        """What the objective is made of, site by site where that is known."""
        found: list[LinearPart | MixedPart] = []
        for value, weighted in zip(values.values(), self.weighted, strict=True):
            weight, known = weighted.at(run.step), run.parts_of(value)
            if known is None or weighted.term.mixes_particles:
                without = weighted.term.without_particle
                baseline = None if without is None else partial(without, run)
                found.append(MixedPart(value, weight, weighted.term.mixes_particles, baseline))
            else:
                found += [LinearPart(part, weight) for part in known]
        return found

    def loss(
        self,
        program: Any,
        *args: Any,
        num_particles: int = 1,
        step: int | Tensor = 0,
        **kwargs: Any,
    ) -> Tensor:
        """Minus the objective, a scalar in nats per datum whose ``backward()`` gives an unbiased gradient.

        Args:
            program: Any object with ``.model`` and ``.guide``, or a pair of them. Hold on to a
                :class:`~ppl_genmodels.Program` when the pair makes its parameters by ``pyro.param``.
            *args: Data, as the model takes them.
            num_particles: Draws from the guide.
            step: The training step, for schedules.
            **kwargs: Data, as the model takes them by name.

        Example:
            >>> import pyro, pyro.distributions as dist
            >>> from ppl_genmodels.objectives import elbo
            >>> def model(x):
            ...     with pyro.plate("data", len(x)):
            ...         pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
            >>> elbo().loss((model, None), torch.zeros(3))
            tensor(0.9189)
        """
        run = Run(as_program(program), args, kwargs, _positive(num_particles), step)
        return self.assess(run)[0]

    def evaluate(
        self,
        program: Any,
        *args: Any,
        num_particles: int = 1,
        step: int | Tensor = 0,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Each term's value per datum, unweighted, averaged over particles, without gradient.

        Args:
            program: As in :meth:`loss`.
            *args: As in :meth:`loss`.
            num_particles: As in :meth:`loss`.
            step: As in :meth:`loss`.
            **kwargs: As in :meth:`loss`.

        Returns:
            For each name of :attr:`names` a tensor of shape (data,), in nats.
        """
        with torch.no_grad():
            run = Run(as_program(program), args, kwargs, _positive(num_particles), step)
            return {name: value.mean(0) for name, value in self.values(run).items()}

    def __str__(self) -> str:
        return self._formula(latex=False)

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        return f"${self._formula(latex=True)}$"

    def _formula(self, latex: bool) -> str:
        text = ""
        for weighted in self.weighted:
            sign, size = weighted.sign_and_size(r" \, " if latex else " * ", latex)
            formula = weighted.term.latex if latex else weighted.term.formula
            text += f" {sign} {size}{formula}"
        return text.strip().removeprefix("+ ")


def _times(weight: float | Tensor, value: Tensor) -> Tensor:
    return value if isinstance(weight, float) and weight == 1.0 else weight * value


def _positive(num_particles: int) -> int:
    if num_particles < 1:
        raise OptionError(f"num_particles must be at least 1, got {num_particles}.")
    return num_particles
