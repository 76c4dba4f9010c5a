r"""Networks whose weights are latent sites, so that a posterior over functions is one over sample sites.

Convention of this module: a weight has the shape (\*plates, outputs, inputs), where the plates are those around the
call and that of the particles; the input has the same plates, then its features. A network is called outside the plate
of the data, as all data share its weights.
"""

from __future__ import annotations

import copy
from functools import lru_cache, partial
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import deep_to
from pyro.nn import PyroModule, PyroSample
from pyro.nn.module import to_pyro_module_
from pyro.poutine.runtime import effectful
from torch import Tensor, nn
from torch.nn import functional

from ppl_genmodels.errors import OptionError, ProgramError

__all__ = ["linear", "weight_sites"]


def weight_sites(network: nn.Module, prior: Any = None, name: str = "network") -> nn.Module:
    r"""A copy of a network in which weights and biases of the linear layers are ``pyro.sample`` sites with a prior.

    Each call of the copy inside a model draws every weight once, independently from the prior. Sites are called as the
    parameters were, behind the name of the network: ``network.layers.0.weight``. Parameters of other layers stay
    parameters. With particles the products are batched over them; a layer's input then has no other dims than plates
    and features. The copy is a :class:`pyro.nn.PyroModule`, and as an attribute of another it takes that one's name.

    Args:
        network: A module that holds :class:`torch.nn.Linear` layers, such as :class:`MLP`.
        prior: A distribution of numbers, the same for all weights; the standard Normal by default.
        name: What the names of the sites begin with; each network of a program has its own.

    Raises:
        ProgramError: When the network has no linear layer.
        OptionError: When the prior is no distribution of numbers, or the name has a dot or is empty.

    References:
        Neal (1996), Bayesian Learning for Neural Networks, section 1.2; Blundell and others (2015), Weight Uncertainty
        in Neural Networks, section 3.

    Example:
        >>> import pyro
        >>> from ppl_genmodels.networks import MLP
        >>> network = weight_sites(MLP(3, 1, hidden=(8,)), prior=dist.Normal(0.0, 0.5))
        >>> with pyro.poutine.trace() as traced, pyro.plate("particles", 5, dim=-2):
        ...     y = network(torch.zeros(7, 3))
        >>> y.shape, list(traced.trace.nodes)[1:3]
        (torch.Size([5, 7, 1]), ['network.layers.0.weight', 'network.layers.0.bias'])
    """
    prior = dist.Normal(0.0, 1.0) if prior is None else prior
    if not isinstance(prior, TorchDistributionMixin) or prior.shape() != ():
        raise OptionError(
            f"weight_sites: prior={prior!r}, expected a distribution of numbers, which every weight gets by itself. "
            f"Remedy: such as pyro.distributions.Normal(0.0, 1.0)."
        )
    if not name or "." in name:
        raise OptionError(f"weight_sites: name={name!r}, expected a name without dots. Remedy: such as 'network'.")
    network = copy.deepcopy(network)
    to_pyro_module_(network)
    setattr(PyroModule(), name, network)  # which names the network and all modules inside it
    layers = [module for module in network.modules() if type(module) is PyroModule[nn.Linear]]
    if not layers:
        raise ProgramError(
            f"weight_sites: {type(network).__name__.removeprefix('Pyro')} has no torch.nn.Linear layer, whose weights "
            f"could be sites. Remedy: networks.MLP, or pyro.nn.PyroSample for the weights of other layers."
        )
    for layer in layers:
        _sample_weights(layer, prior)
    return network


@effectful(type="linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""The linear map of a layer, which handlers can intercept as a message of type ``"linear"``.

    Args:
        x: Inputs, shape (\*plates, inputs).
        weight: Shape (\*plates, outputs, inputs).
        bias: Shape (\*plates, outputs).

    Returns:
        Shape (\*plates, outputs), where plates broadcast.

    Example:
        >>> linear(torch.ones(7, 3), torch.ones(5, 1, 2, 3), torch.ones(2))[0, 0]
        tensor([4., 4.])
    """
    if weight.dim() == 2 and (bias is None or bias.dim() == 1):
        return functional.linear(x, weight, bias)
    product = torch.einsum("...i,...oi->...o", x, weight)
    return product if bias is None else product + bias


class _Linear(PyroModule[nn.Linear]):
    """A linear layer whose map is an effect."""

    def forward(self, x: Tensor) -> Tensor:
        """Outputs for inputs; both have the plates before the features."""
        result: Tensor = linear(x, self.weight, self.bias, name=self._pyro_get_fullname("linear"))
        return result


def _sample_weights(layer: nn.Module, prior: Any) -> None:
    like: Tensor = layer.weight.detach()  # type: ignore[operator]
    layer.register_buffer("like", torch.empty(0).to(like), persistent=False)
    layer.__class__ = _Linear
    for name, value in list(layer.named_parameters(recurse=False)):
        setattr(layer, name, PyroSample(partial(_prior_of_weight, prior, value.shape)))


def _prior_of_weight(prior: Any, shape: torch.Size, layer: Any) -> Any:
    """The prior of one weight, on the device and in the precision of its layer."""
    return _moved(prior, layer.like.device, layer.like.dtype).expand(shape).to_event(len(shape))


@lru_cache(maxsize=64)
def _moved(prior: Any, device: torch.device, dtype: torch.dtype) -> Any:
    return deep_to(prior, device, dtype)
