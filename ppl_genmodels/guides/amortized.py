"""The amortized guide: an inference program written from the model, one encoder for all data.

Convention of this module: features are what the encoder makes of the data, shape (rows, features).
A head turns the features, and the values of the sites that a site depends on, into the parameters
of its distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.guides.carried import Carried
from ppl_genmodels.guides.families.normal import TransformedNormal
from ppl_genmodels.guides.layers import Layers
from ppl_genmodels.guides.layout import joined
from ppl_genmodels.guides.plan import LatentPlan, Plan, plan_of
from ppl_genmodels.probe import describe_data

__all__ = ["Amortized"]


class Amortized(nn.Module):
    r"""The guide of a model, amortized by an encoder.

    .. math:: q(z \mid x) = \prod_k q(z_k \mid z_{pa(k)}, e(x))

    Reads the latent sites off the model at the first call, and makes one head for each:

    - a site inside the data plate gets a linear layer on the features and on its parents' values,
      so that the guide serves any number of rows;
    - a site outside the data plate gets free parameters of its own, independent of every other site
      (mean field).

    Parents are the sites that the exact posterior couples it with, given the data, among those
    sampled before it: global sites come first, and each kind keeps the model's order. Their values
    enter as unconstrained reals: classes one-hot, bounded and positive values through the inverse
    of their bijection, counts scaled down. As a head is linear, parents and features act
    additively. Families follow the support of the prior: a Normal carried onto it by
    ``torch.distributions.biject_to`` when it is continuous, the distribution of its kind when it is
    discrete. Locations start near 0 in unconstrained space (near the median of the prior for global
    sites) and scales at 0.5, the same for every datum.

    The heads exist after the first call: call the guide once with data before handing its
    parameters to an optimizer or loading a state into it.

    Args:
        model: A Pyro model, often a method bound to a module. Its parameters are not the guide's.
        encoder: A module that is called with the same data as the model, ``encoder(*args,
            **kwargs)``, rows first, and returns features of shape (rows, features). It is not
            called when every latent site is global.
        flow: Makes the layers of a flow for each continuous site, such as
            ``guides.layers.inverse_autoregressive()``: they carry the noise before it is moved to
            the head's location and scale and onto the support, given what the head reads. Sites
            within inner plates share layers. By default there are none.

    Raises:
        ProgramError: At the first call, when the model has no latent sites, when a site's
            distribution has no family, or when the features do not have one row per datum.

    References:
        Kingma and Welling (2014), Auto-Encoding Variational Bayes, section 2.2. Webb et al. (2018),
        Faithful Inversion of Generative Models for Effective Amortized Inference, for the parents.
        Kingma and others (2016), Improved Variational Inference with Inverse Autoregressive Flow,
        algorithm 1, for the layers.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(x=None):
        ...     with pyro.plate("data", 1 if x is None else len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         mean = z.unsqueeze(-1).expand(*z.shape, 3)
        ...         pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)
        >>> guide = Amortized(model, encoder=nn.Linear(3, 8))
        >>> guide(torch.zeros(5, 3))["z"].shape, guide(torch.zeros(2, 3))["z"].shape
        (torch.Size([5]), torch.Size([2]))
        >>> [name for name, _ in guide.heads.named_parameters()]
        ['z.weight', 'z.bias']
    """

    model: Callable[..., Any]

    def __init__(self, model: Callable[..., Any], encoder: nn.Module, flow: Layers | None = None) -> None:
        super().__init__()
        # Past nn.Module's bookkeeping: the model's parameters belong to the model.
        self.__dict__["model"] = model
        self.encoder = encoder
        self.heads = nn.ModuleDict()
        self.flows = nn.ModuleDict()
        self._layers = flow
        self._plan: Plan | None = None

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Samples every latent site given the data.

        Returns:
            The value of each site by name, shape (*plates, *event).
        """
        plan = self._plan or self._build(args, kwargs)
        features = self._features(plan, args, kwargs)
        plates = _Plates(plan, len(features))
        values: dict[str, Tensor] = {}
        inputs: dict[str, Tensor] = {}
        for site, key in zip(plan.sites, self.heads, strict=True):
            read = [features, *(inputs[name] for name in site.parents)]
            with plates.around(site):
                values[site.name] = pyro.sample(site.name, self._distribution(site, key, read))
            inputs[site.name] = site.layout.per_datum(site.family.embed(values[site.name]))
        return values

    def _distribution(self, site: LatentPlan, key: str, read: list[Tensor]) -> Any:
        parameters = self.heads[key](read)
        if key in self.flows:
            return self.flows[key](parameters, read)
        return site.family.distribution(parameters)

    def _build(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        """Makes the heads; neither the random state nor the handlers around the guide notice."""
        with torch.random.fork_rng(), poutine.block(hide_types=["sample", "observe"]):
            with torch.no_grad():
                plan = plan_of(self.model, args, kwargs)
                features = self._features(plan, args, kwargs)
            _check_rows(plan, features)
            widths = {site.name: site.width for site in plan.sites}
            like = next(self.encoder.parameters(), features)
            inputs = {s.name: features.shape[1] + sum(widths[name] for name in s.parents) for s in plan.sites}
            for site in plan.sites:
                head = _Head(site, inputs[site.name]).to(like) if site.initial is None else _Free(site.initial)
                self.heads[self._key(site.name)] = head
            for site, key in zip(plan.sites, list(self.heads), strict=True):  # After all heads, which draw as without.
                if self._layers is not None and isinstance(site.family, TransformedNormal):
                    count = inputs[site.name] if site.local else 0
                    carried = Carried(site.family, site.layout, count, self._layers)
                    self.flows[key] = carried.to(like if site.initial is None else site.initial)
        self._plan = plan
        return plan

    def _key(self, name: str) -> str:
        """The site's name as the name of a submodule: without dots, and no attribute of a module."""
        key = name.replace(".", "/")
        while hasattr(self.heads, key):
            key += "_"
        return key

    def _features(self, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        if plan.data_plate is None:
            return torch.empty(0, 0)
        data = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if not data:
            raise ProgramError(
                f"Amortized: the guide was called with {describe_data(args, kwargs)} and needs a "
                f"tensor of data to encode. Remedy: call it with the data; to sample from the "
                f"prior, call the model."
            )
        features = self.encoder(*args, **kwargs)
        rows = data[0].shape[0] if data[0].dim() else "rows"
        is_tensor = isinstance(features, Tensor)
        if not is_tensor or features.dim() != 2 or rows not in ("rows", features.shape[0]):
            received = tuple(features.shape) if is_tensor else type(features).__name__
            raise ProgramError(
                f"Amortized: the encoder must return features of shape (rows, features) = "
                f"({rows}, ...), one row per datum; got {received} from "
                f"{describe_data(args, kwargs)}. Remedy: flatten each datum's features, such as "
                f"with nn.Flatten()."
            )
        return features


def _check_rows(plan: Plan, features: Tensor) -> None:
    plate = plan.data_plate
    if plate is not None and len(features) != plate.size:
        raise ProgramError(
            f"Amortized: the encoder gave {len(features)} rows of features and the data plate "
            f"'{plate.name}' has {plate.size} elements. Remedy: let the plate have the length of "
            f"the data, pyro.plate('{plate.name}', len(x)), and pass a batch to subsample."
        )


class _Head(nn.Module):
    """A linear layer from features and parents to the parameters of a local site."""

    def __init__(self, site: LatentPlan, inputs: int) -> None:
        super().__init__()
        family, elements = site.family, site.layout.elements
        self.layout = site.layout
        linear = nn.Linear(inputs, elements * family.parameters)
        self.weight, self.bias = linear.weight, linear.bias
        with torch.no_grad():
            self.bias.copy_(family.initial().repeat(elements))
            by_element = self.weight.view(elements, family.parameters, inputs)
            by_element[:, family.fixed_at_start] = 0.0

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Parameters, shape (*extra, *plates, parameters), from (*extra, rows or 1, width)."""
        outputs = nn.functional.linear(joined(inputs, self.weight.dtype), self.weight, self.bias)
        # Back from the lower precision of an autocast, which is too coarse for log-densities.
        return self.layout.per_element(outputs.to(self.weight.dtype))


class _Free(nn.Module):
    """The parameters of a global site."""

    def __init__(self, initial: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(initial)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Parameters of shape (*plates, parameters), whatever the inputs."""
        return self.value


class _Plates:
    """The plates of one call: the data plate with its rows, the others as the model had them."""

    def __init__(self, plan: Plan, rows: int) -> None:
        self._made: dict[str, Any] = {}
        for plate in dict.fromkeys(plate for site in plan.sites for plate in site.plates):
            size, part = plate.full_size, plate.size
            if plate == plan.data_plate:
                size, part = rows if size == part else max(size, rows), rows
            self._made[plate.name] = pyro.plate(plate.name, size, subsample_size=part, dim=plate.dim)

    def around(self, site: LatentPlan) -> ExitStack:
        """A context inside all the plates of a site."""
        stack = ExitStack()
        for plate in site.plates:
            stack.enter_context(self._made[plate.name])
        return stack
