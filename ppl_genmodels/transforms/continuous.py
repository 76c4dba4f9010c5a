r"""Continuous flows: values that move along a learned velocity field from noise to data.

Convention of this module: noise is at time 0 and data at time 1; :math:`\dot x = f(x, t)`, and the log-density along a
path changes by :math:`-\operatorname{tr} \partial f / \partial x`, so that the log-determinant is the integral of that
trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.transforms.bijection import Bijection
from ppl_genmodels.transforms.coupling import check_context
from ppl_genmodels.transforms.ode import ADAPTIVE, FIXED, Gradient, Slope, solve
from ppl_genmodels.transforms.path_costs import PathCosts, note_costs
from ppl_genmodels.transforms.velocity import VelocityNetwork, spread

__all__ = ["Continuous"]

TraceOf = Literal["exact", "hutchinson"]
Noise = Literal["rademacher", "gaussian"]
_TOLERANCES = {torch.float64: 1e-8}
"""What the tolerances are when none are given; 1e-5 for shorter numbers."""


class Continuous(Bijection):
    r"""Carries vectors along a velocity field: :math:`y = x + \int_0^1 f(x_t, t) \, dt`.

    Any smooth network makes a bijection. Hutchinson's estimate of the trace draws its noise once for each solve, from
    torch's global generator, and makes log-densities that are right on average. The two costs of the paths are
    integrated along, for :func:`~ppl_genmodels.objectives.kinetic_energy` and
    :func:`~ppl_genmodels.objectives.jacobian_norm`, and have no say in the length of the steps.

    An adaptive solver keeps its tolerances, and a step of training with it runs eagerly; a fixed one makes the same
    steps whatever the values, and can be traced. The inverse is the same equation solved backwards, an inverse up to
    the error of the solver.

    Args:
        features: Length of the vectors.
        hidden: Widths of the hidden layers of a perceptron, which is smooth and starts at zero.
        network: A velocity field of one's own in its place: a module called with values (\*batch, features), with their
            times (\*batch), and with the context where there is one, such as
            :class:`~ppl_genmodels.networks.TimeMLP`, which learns sharper fields.
        trace: ``"exact"``, which costs as many products as there are features, or ``"hutchinson"``, which costs one.
        noise: Of Hutchinson's estimate: ``"rademacher"``, which has the least variance, or ``"gaussian"``.
        gradient: ``"direct"`` through the steps of the solver, or ``"adjoint"`` by an equation solved backwards, whose
            memory does not grow with the steps.
        solver: ``"dopri5"``, ``"dopri8"`` (for tight tolerances), ``"bosh3"`` (for loose ones), which are adaptive; or
            ``"rk4"``, ``"midpoint"`` or ``"euler"``, which are not.
        steps: Of a solver that is not adaptive.
        rtol: Relative tolerance of an adaptive solver; by default 1e-5 in single precision and 1e-8 in double.
        atol: Absolute tolerance, the same.
        context_features: Length of the context; 0 for none.

    Raises:
        OptionError: When an option is none of those named, or no positive number.
        NonFiniteError: In a solve, when an adaptive solver cannot keep its tolerances.

    References:
        Chen, Rubanova, Bettencourt and Duvenaud (2018), Neural Ordinary Differential Equations, theorem 1; Grathwohl
        and others (2019), FFJORD, section 3.

    Example:
        >>> layer = Continuous(3, hidden=(16,), solver="rk4", steps=8)
        >>> y = layer(torch.ones(5, 3))
        >>> torch.allclose(layer.inv(y), torch.ones(5, 3)), layer.evaluations
        (True, 32)
    """

    def __init__(
        self,
        features: int,
        hidden: Iterable[int] = (64, 64),
        network: nn.Module | None = None,
        trace: TraceOf = "exact",
        noise: Noise = "rademacher",
        gradient: Gradient = "direct",
        solver: str = "dopri5",
        steps: int = 20,
        rtol: float | None = None,
        atol: float | None = None,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        self.features = check_size("Continuous", "features", features)
        self.trace = _one_of("trace", trace, get_args(TraceOf))
        self.noise = _one_of("noise", noise, get_args(Noise))
        self.gradient = _one_of("gradient", gradient, get_args(Gradient))
        self.solver = _one_of("solver", solver, (*ADAPTIVE, *FIXED))
        self.steps = check_size("Continuous", "steps", steps)
        self.rtol, self.atol = _positive("rtol", rtol), _positive("atol", atol)
        self.context_features = context_features
        widths = check_sizes("Continuous", "hidden", tuple(hidden))
        self.network = network or VelocityNetwork(features, widths, context_features)
        self._counter = _Counter()

    @property
    def evaluations(self) -> int:
        """How often the last solve evaluated the velocity; 0 before the first. A replayed graph counts nothing."""
        return self._counter.last

    def velocity(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""The velocity of values at a time.

        Args:
            t: The time, between 0 and 1; it broadcasts with (\*batch, 1).
            x: Values, shape (\*batch, features).
            context: Shape (\*batch, context features), where the layer takes one.

        Returns:
            Shape (\*batch, features).
        """
        x, context = self._with_context(x, context)
        time = t.expand(*x.shape[:-1], 1).squeeze(-1)
        return self.network(x, time) if context is None else self.network(x, time, context)

    def forward_pass(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant."""
        y, ladj = self._carried(x, context, (0.0, 1.0))
        return y, ladj

    def forward_value(self, x: Tensor, context: Tensor | None) -> Tensor:
        """The image alone, without the trace."""
        x, context = self._with_context(x, context)
        course = _Course(self, context, None)
        y = self._solved(course.of_values, x, context, (0.0, 1.0), self.features)
        self._counter.last = course.evaluations
        return y

    def inverse_pass(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value and the log-determinant of the forward direction."""
        x, ladj = self._carried(y, context, (1.0, 0.0))
        return x, -ladj

    def _carried(self, x: Tensor, context: Tensor | None, times: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """The value at the second time, the integral of the trace, and the costs noted."""
        x, context = self._with_context(x, context)
        course = _Course(self, context, self._drawn_noise(x))
        start = torch.cat([x, x.new_zeros(*x.shape[:-1], 3)], -1)
        state = self._solved(course, start, context, times, self.features + 1)
        self._counter.last = course.evaluations
        ladj, kinetic_energy, jacobian_norm = state[..., self.features :].unbind(-1)
        direction = times[1] - times[0]
        note_costs(PathCosts(direction * kinetic_energy, direction * jacobian_norm))
        return state[..., : self.features], ladj

    def _solved(
        self, slope: Slope, state: Tensor, context: Tensor | None, times: tuple[float, float], controlled: int
    ) -> Tensor:
        default = _TOLERANCES.get(state.dtype, 1e-5)
        return solve(
            slope,
            state,
            times,
            self.solver,
            steps=self.steps,
            tolerances=(self.rtol or default, self.atol or default),
            controlled=controlled,
            gradient=self.gradient,
            parameters=(*self.network.parameters(), *(() if context is None else (context,))),
        )

    def _drawn_noise(self, x: Tensor) -> Tensor | None:
        if self.trace == "exact":
            return None
        return torch.randn_like(x) if self.noise == "gaussian" else 2 * torch.randint_like(x, 2) - 1

    def _with_context(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Values and context with one batch shape."""
        check_context(context, self.context_features, "Continuous")
        if x.shape[-1:] != (self.features,):
            raise OptionError(
                f"Continuous: expected vectors of {self.features} features, got shape {tuple(x.shape)}. Remedy: "
                f"features={x.shape[-1] if x.dim() else 1}."
            )
        if context is None:
            return x, None
        batch = torch.broadcast_shapes(x.shape[:-1], context.shape[:-1])
        return x.expand(*batch, -1), context.expand(*batch, -1)


class _Counter:
    """How many evaluations the last solve took, beside what the layer is: it changes and the layer does not."""

    last = 0


class _Course:
    """The derivative of a value with its log-determinant and its two costs, for one solve."""

    def __init__(self, layer: Continuous, context: Tensor | None, noise: Tensor | None) -> None:
        self.layer, self.context, self.noise = layer, context, noise
        self.evaluations = 0

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        self.evaluations += 1
        features = self.layer.features
        field = partial(self._velocity, t)
        velocity, divergence, squared_norm = spread(field, state[..., :features], self.noise)
        rest = [divergence, velocity.square().mean(-1), squared_norm / features]
        return torch.cat([velocity, torch.stack(rest, -1)], -1)

    def of_values(self, t: Tensor, x: Tensor) -> Tensor:
        """The derivative of a value alone."""
        self.evaluations += 1
        return self._velocity(t, x)

    def _velocity(self, t: Tensor, x: Tensor) -> Tensor:
        return self.layer.velocity(t, x, self.context)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise OptionError(f"Continuous: {name} is {', '.join(map(repr, known[:-1]))} or {known[-1]!r}, got {value!r}.")
    return value


def _positive(name: str, value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise OptionError(f"Continuous: {name}={value!r}, expected a positive number. Remedy: such as {name}=1e-5.")
    return value
