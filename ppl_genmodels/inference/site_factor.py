r"""What a program says of one latent site beside its prior, as a function of the site's value.

Convention of this module: the factor of a site is the product of the densities of all other sites, in nats
:math:`\log r(x) = \log p(y, x) - \log p(x)`, one for each place in the plates around the site. Values have the shape
(particles, \*batch, \*event) with all batch dims that plates of the program take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import ProgramError, UnknownNameError
from ppl_genmodels.objectives.continuous_sites import continuous_layers, flow_of
from ppl_genmodels.structure import PARTICLES, Node, is_deterministic, plates_of, sample_sites
from ppl_genmodels.transforms import ProbabilityFlow

__all__ = ["SiteFactor"]


@dataclass(frozen=True)
class SiteFactor:
    r"""The factor of a site whose prior is a diffusion.

    Attributes:
        model: The model.
        args: Its data.
        kwargs: Its data by name.
        node: The site in one run.
        nesting: How many batch dims the plates of the program take.

    Example:
        >>> import pyro.distributions as dist
        >>> from ppl_genmodels.distributions import Diffusion
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> flow = ProbabilityFlow(Denoiser(TimeMLP(2), CosineNoising()), (2,))
        >>> def model(y):
        ...     with pyro.plate("data", len(y)):
        ...         x = pyro.sample("x", Diffusion(flow))
        ...         pyro.sample("y", dist.Normal(x.sum(-1), 0.1), obs=y)
        >>> factor = SiteFactor.of(model, (torch.zeros(3),), {}, None)
        >>> factor.name, factor.batch, factor(torch.zeros(7, 3, 2)).shape
        ('x', torch.Size([3]), torch.Size([7, 3]))
    """

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    node: Node
    nesting: int

    @staticmethod
    def of(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], site: str | None) -> SiteFactor:
        """Reads the program by one run, in which nothing is integrated.

        Raises:
            UnknownNameError: When there is no site of that name.
            ProgramError: When the site is no latent diffusion, when it is not the only latent site, or when another
                site is shared by the places of a plate around it.
        """
        with torch.no_grad(), _Undrawn():
            nodes = sample_sites(poutine.trace(model).get_trace(*args, **kwargs))
        latent = {name: node for name, node in nodes.items() if not node["is_observed"] and not is_deterministic(node)}
        node = _chosen(latent, site)
        plates = [plate for each in nodes.values() for plate in plates_of(each)]
        factor = SiteFactor(model, args, kwargs, node, max((-plate.dim for plate in plates), default=0))
        _check_plates(node, [each for name, each in nodes.items() if _counts(each) and name != node["name"]])
        return factor

    @property
    def name(self) -> str:
        """The site."""
        return str(self.node["name"])

    @property
    def flow(self) -> Flow:
        """The site's distribution."""
        return self.node["fn"]

    @property
    def layer(self) -> ProbabilityFlow:
        """The probability flow of the site."""
        return continuous_layers(self.flow)[0][1]

    @property
    def denoiser(self) -> Any:
        """Its denoiser."""
        return self.layer.denoiser

    @property
    def context(self) -> Tensor | None:
        """What its denoiser is given."""
        return continuous_layers(self.flow)[0][2]

    @property
    def batch(self) -> torch.Size:
        """The batch dims of a value, less the particles."""
        batch = self.flow.batch_shape
        return torch.Size((1,) * (self.nesting - len(batch)) + tuple(batch))

    def at_site(self, data: Tensor) -> Tensor:
        """What the diffusion has made, as the site has it.

        Args:
            data: Shape (particles, \\*batch, \\*event of the denoiser).
        """
        value = data.flatten(data.dim() - len(self.layer.event_shape))
        for transform in self.flow.transforms[1:]:
            value = transform(value)
        return value

    def __call__(self, data: Tensor) -> Tensor:
        r"""The log of the factor, shape (particles, \*batch).

        Args:
            data: Shape (particles, \*batch, \*event of the denoiser).
        """
        count = len(data)
        given = poutine.condition(self.model, data={self.name: self.at_site(data)})
        with pyro.validation_enabled(False), pyro.plate(PARTICLES, count, dim=-1 - self.nesting):
            nodes = sample_sites(poutine.trace(given).get_trace(*self.args, **self.kwargs))
        others = (node for name, node in nodes.items() if _counts(node) and name != self.name)
        total = sum((self._for_places(node) for node in others), torch.zeros_like(data[(...,) + (0,) * self._events]))
        return total.expand(count, *self.batch)

    def check(self, data: Tensor) -> None:
        """Checks that the model broadcasts: a particle's factor is that of a run alone.

        Args:
            data: Two or more values.

        Raises:
            ProgramError: When it is not, or when the model fails.
        """
        try:
            together, alone = self(data), torch.cat([self(data[:1]), self(data[-1:])])
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
        else:
            ends = torch.stack([together[0], together[-1]])
            if torch.allclose(ends, alone, 1e-3, 1e-3 * float(alone.abs().nan_to_num(posinf=0).max()), equal_nan=True):
                return
            reason = "several particles have not the densities that each has alone"
        raise ProgramError(
            f"the model does not broadcast over particles, which are a batch dim to the left of its plates: {reason}. "
            f"Remedy: count the dims of '{self.name}' from the right, as in x[..., 0], x.flatten(-3) and x @ A.T."
        )

    @property
    def _events(self) -> int:
        return len(self.layer.event_shape)

    def _for_places(self, node: Node) -> Tensor:
        """A site's log-density, summed over the plates that are not around the diffusion."""
        value = scale_and_mask(node["fn"].log_prob(node["value"]), node["scale"], node["mask"])
        value = value.reshape((1,) * (self.nesting + 1 - value.dim()) + tuple(value.shape))
        kept = {plate.dim for plate in plates_of(self.node)}
        summed = [dim for dim in range(-self.nesting, 0) if dim not in kept]
        return value.sum(summed, keepdim=True) if summed else value


class _Undrawn(Messenger):
    """Leaves every latent diffusion at zero, whose draw would cost a solve."""

    def _pyro_sample(self, msg: Message) -> None:
        if msg["value"] is None and _is_diffusion(msg["fn"]):
            fn: Any = msg["fn"]
            msg["value"] = continuous_layers(fn)[0][1].base_loc.new_zeros(fn.batch_shape + fn.event_shape)


def _counts(node: Node) -> bool:
    return node["is_observed"] and not is_deterministic(node)


def _is_diffusion(fn: Any) -> bool:
    layers = continuous_layers(fn) if isinstance(fn, Flow) else []
    return [number for number, layer, _ in layers if isinstance(layer, ProbabilityFlow)] == [0]


def _chosen(latent: dict[str, Node], site: str | None) -> Node:
    """The site that was named, or the only diffusion."""
    if site is not None and site not in latent:
        raise UnknownNameError("latent site", site, latent, "of the model")
    found = [name for name, node in latent.items() if _is_diffusion(node["fn"]) and site in (None, name)]
    if not found:
        which = "no latent site has" if site is None else f"site '{site}' has not"
        inside = " for itself" if any(flow_of(node["fn"]) for node in latent.values()) else ""
        raise ProgramError(
            f"{which} a diffusion as its distribution{inside}. Remedy: pyro.sample('x', Diffusion(flow)), inside "
            f"plates for independent values."
        )
    others = [name for name in latent if name != found[0]]
    if others:
        raise ProgramError(
            f"beside '{found[0]}' the model has latent sites {', '.join(map(repr, others))}; the posterior of one "
            f"diffusion is drawn, given all else. Remedy: observe them, by obs= or poutine.condition, or sum them out."
        )
    return latent[found[0]]


def _check_plates(node: Node, others: list[Node]) -> None:
    """Checks that every place of the plates around the site has sites of its own."""
    around = {plate.dim: plate for plate in plates_of(node)}
    batch = node["fn"].batch_shape
    undeclared = [size for dim, size in enumerate(batch, -len(batch)) if size > 1 and dim not in around]
    if undeclared:
        raise ProgramError(
            f"site '{node['name']}' has the batch shape {tuple(batch)}, not all of it in plates. Remedy: with "
            f"pyro.plate('data', {undeclared[0]}) around it."
        )
    for other in others:
        missed = [p.name for p in around.values() if p.size > 1 and p.name not in {q.name for q in plates_of(other)}]
        if missed:
            raise ProgramError(
                f"site '{other['name']}' is outside plate '{missed[0]}', whose places would then share it and have no "
                f"posteriors of their own. Remedy: put it into the plate, or make the plate of '{node['name']}' a part "
                f"of its event."
            )
