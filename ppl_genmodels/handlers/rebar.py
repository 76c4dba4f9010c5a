r"""REBAR and RELAX: the score function with the cost of a relaxed draw, given the discrete one, as a control variate.

Convention of this module: the relaxed draw and the relaxed draw given the discrete one share their noise, so that their
values are the same and their gradients are not; one evaluation of the program serves both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributions as torch_dist
from pyro.poutine.runtime import Message
from torch import Tensor, nn

from ppl_genmodels.handlers.conditional import conditional_draw, log_mass, unconditional
from ppl_genmodels.handlers.control import Control, Controls
from ppl_genmodels.handlers.estimator import Estimator, Site, base_of
from ppl_genmodels.handlers.later import Smooth, soften
from ppl_genmodels.handlers.site_handler import Sites, applied
from ppl_genmodels.networks import MLP

__all__ = ["Rebar", "Relax", "rebar", "relax"]

_VERTICES = (torch_dist.Bernoulli, torch_dist.OneHotCategorical)


class Rebar(Estimator):
    r"""REBAR: unbiased, of low variance, with a temperature that is learned.

    .. math:: \big(f(b) - \eta f(\sigma_\lambda(\tilde z))\big) \nabla \log q(b)
        + \eta \nabla f(\sigma_\lambda(z)) - \eta \nabla f(\sigma_\lambda(\tilde z)),
        \quad b = H(z), \; \tilde z \sim p(z \mid b)

    :math:`\eta` and :math:`\lambda` of each site are parameters of the program that this is applied to, trained by the
    same optimizer to lower the variance. Draws after the site follow the relaxed one as relaxed draws. Costs one
    evaluation of the program more, with two derivatives. The model sees values between vertices, and prices one-hot and
    binary sites linearly there.

    Args:
        sites: Which sites; by default all Bernoulli and OneHotCategorical ones. Sites after them are of these, or
            reparameterized.
        temperature: Where :math:`\lambda` starts, positive.

    Raises:
        OptionError: When the temperature is not positive.
        ProgramError: When a named site has another distribution, or one after it cannot be relaxed.

    References:
        Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein (2017), REBAR: Low-variance, Unbiased Gradient Estimates for
        Discrete Latent Variable Models, section 3.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> handler = Rebar("b")
        >>> with handler:
        ...     _ = pyro.sample("b", dist.Bernoulli(0.3))
        >>> [name for name, _ in handler.state.named_parameters()]
        ['of_site.b.log_temperature', 'of_site.b.weight']
    """

    serves_what = "Bernoulli and OneHotCategorical sites"

    def __init__(self, sites: Sites = None, temperature: float = 0.5) -> None:
        super().__init__(sites)
        self.state = Controls(temperature)
        """What is learned for each site; a part of the program that it is applied to."""

    def serves(self, fn: Any) -> bool:
        """Whether draws are vertices of a cube or of a simplex, given without ``Independent`` around it."""
        return isinstance(fn, _VERTICES)

    def take(self, msg: Message) -> None:
        """Takes a site, and makes its parameters."""
        super().take(msg)
        if msg["name"] not in self.state:
            self.state.add(msg["name"], self._control_of(msg["fn"]))

    def _control_of(self, fn: Any) -> Control:
        return Control(self.state.start, base_of(fn).logits)

    def surrogate(self, site: Site) -> Tensor | float:
        """A zero whose gradient in the logits is the estimate, and in what is learned that of its variance."""
        fn, event = base_of(site.fn), len(site.fn.event_shape)
        classes = fn.logits.dim() - len(fn.batch_shape)
        value = site.in_layout(site.value, event)
        logits = site.in_layout(fn.logits, event - len(fn.event_shape) + classes)
        with torch.enable_grad():
            shape = torch.broadcast_shapes(
                logits.shape, value.shape[: value.dim() - len(fn.event_shape)] + (1,) * classes
            )
            held = logits.detach().expand(shape).requires_grad_()
            draw = conditional_draw(fn, held, value)
            control, slope = self._control(site, draw.detach().requires_grad_())
            log_q = log_mass(fn, held, value)
            (score,) = torch.autograd.grad(log_q.sum(), held)
            rest = site.objective.detach() - control
            rest = rest.reshape(*rest.shape, *(1,) * (held.dim() - rest.dim()))
            change = unconditional(held, draw) - draw
            (moved,) = torch.autograd.grad(change, held, slope, create_graph=True)
            estimate = rest * score + moved
        zero = (estimate.detach() * logits).sum() / len(site.log_prob) + self._lower(site.name, estimate, control)
        return zero - zero.detach()

    def _control(self, site: Site, z: Tensor) -> tuple[Tensor, Tensor]:
        """The control variate of each datum, and its slope in the unbounded draw."""
        control = self._of(site, z)
        (slope,) = torch.autograd.grad(control.sum(), z, create_graph=True)
        return control, slope

    def _of(self, site: Site, z: Tensor) -> Tensor:
        learned = self.state[site.name]
        soft = soften(base_of(site.fn), z, learned.temperature)
        cost, _ = site.alternatives(soft.unsqueeze(0), Smooth(learned.temperature), gradient=True)
        return learned.weight * cost[0]

    def _lower(self, name: str, estimate: Tensor, control: Tensor) -> Tensor:
        """A value whose gradient in what is learned is minus that of the estimate's mean square, in nats of a datum."""
        learned = [parameter for parameter in self.state[name].parameters() if parameter.requires_grad]
        data = control[0].numel()
        square = (data * estimate).square().sum() / control.numel()
        slopes = torch.autograd.grad(square, learned, materialize_grads=True)
        return -torch.stack([(slope * each).sum() for slope, each in zip(slopes, learned, strict=True)]).sum()


class Relax(Rebar):
    r"""RELAX: REBAR with a learned network of the unbounded relaxed draw added to the control variate.

    .. math:: c(z) = \eta f(\sigma_\lambda(z)) + r_\rho(z)

    For a Categorical site, whose integers cannot be relaxed, :math:`c(z) = r_\rho(z)`, so that the program's cost may
    be a black box. At first the network is zero.

    Args:
        sites: Which sites; by default all Bernoulli, OneHotCategorical and Categorical ones.
        temperature: Where :math:`\lambda` starts, positive.
        hidden: Widths of the network's hidden layers.

    Raises:
        OptionError: When the temperature is not positive, or a width no positive integer.
        ProgramError: As :class:`Rebar`.

    References:
        Grathwohl, Choi, Wu, Roeder and Duvenaud (2018), Backpropagation through the Void, section 3.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> handler = Relax("k", hidden=(8,))
        >>> with handler:
        ...     _ = pyro.sample("k", dist.Categorical(torch.ones(3) / 3))
        >>> handler.state["k"].network.layers[0]
        Linear(in_features=3, out_features=8, bias=True)
    """

    serves_what = "Bernoulli, OneHotCategorical and Categorical sites"

    def __init__(self, sites: Sites = None, temperature: float = 0.5, hidden: Iterable[int] = (10,)) -> None:
        super().__init__(sites, temperature)
        self.hidden = tuple(hidden)

    def serves(self, fn: Any) -> bool:
        """Whether a relaxed draw is known, given without ``Independent`` around it."""
        return isinstance(fn, (*_VERTICES, torch_dist.Categorical))

    def _control_of(self, fn: Any) -> Control:
        logits = base_of(fn).logits
        features = logits.shape[len(fn.batch_shape) :].numel()
        network = MLP(features, 1, self.hidden, nn.Tanh)
        nn.init.zeros_(network.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(network.layers[-1].bias)  # type: ignore[arg-type]
        return Control(self.state.start, logits, network)

    def _of(self, site: Site, z: Tensor) -> Tensor:
        learned, objective = self.state[site.name], site.objective.detach()
        batch = site.log_prob.dim()
        nats = learned.network(z.reshape(*z.shape[:batch], -1)).squeeze(-1)  # type: ignore[misc]
        summed = [dim for dim in range(1, batch) if objective.shape[dim] != nats.shape[dim]]
        nats = (nats.sum(summed, keepdim=True) if summed else nats) / objective[0].numel()
        return nats if isinstance(base_of(site.fn), torch_dist.Categorical) else nats + super()._of(site, z)


def rebar(target: Any = None, *, sites: Sites = None, temperature: float = 0.5) -> Any:
    """:class:`Rebar` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(rebar(sites="b")).__name__
        'Rebar'
    """
    return applied(Rebar(sites, temperature), target)


def relax(target: Any = None, *, sites: Sites = None, temperature: float = 0.5, hidden: Iterable[int] = (10,)) -> Any:
    """:class:`Relax` applied to a callable or a program; the handler itself without one.

    Example:
        >>> type(relax(sites="b")).__name__
        'Relax'
    """
    return applied(Relax(sites, temperature, hidden), target)
