"""The programs of the benchmark in NumPyro, with the weights of the torch ones.

Convention of this module: a network is a pytree of weights ``(inputs, outputs)`` and biases, registered with
``numpyro.param``; float32 throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.initialization import init_to_value
from torch import nn

from benchmarks.programs import SMALLEST_SCALE
from benchmarks.tasks import Kind

__all__ = ["translated"]

Layers = list[tuple[jax.Array, jax.Array]]
Translation = tuple[Callable[..., Any], Callable[..., Any], Any]


def translated(kind: Kind, program: Any, particles: int) -> Translation:
    """The model, the guide and the bound in NumPyro."""
    return WRITTEN[kind](program, particles)


def layers(network: nn.Module) -> Layers:
    """The linear layers of a network, in order."""
    found = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return [(_array(linear.weight.T), _array(linear.bias)) for linear in found]


def mlp(weights: Layers, h: jax.Array) -> jax.Array:
    """Rectified units between the layers."""
    for weight, bias in weights[:-1]:
        h = jax.nn.relu(h @ weight + bias)
    weight, bias = weights[-1]
    return h @ weight + bias


def _normal(output: jax.Array) -> Any:
    loc, raw_scale = jnp.split(output, 2, -1)
    return dist.Normal(loc, jax.nn.softplus(raw_scale) + SMALLEST_SCALE).to_event(1)


def _array(tensor: Any) -> jax.Array:
    return jnp.asarray(np.array(tensor.detach().cpu()))


def _vae(program: Any, particles: int) -> Translation:
    encoder, decoder, prior = layers(program.encoder), layers(program.decoder), _array(program.prior_loc)

    def model(x: jax.Array) -> None:
        weights = numpyro.param("decoder", decoder)
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(prior, 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=mlp(weights, z)).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        weights = numpyro.param("encoder", encoder)
        with numpyro.plate("data", len(x)):
            numpyro.sample("z", _normal(mlp(weights, x)))

    return model, guide, TraceMeanField_ELBO(num_particles=particles)


def _iwae(program: Any, particles: int) -> Translation:
    model, guide, _ = _vae(program, particles)
    return model, guide, RenyiELBO(alpha=0, num_particles=particles)


def _chain(program: Any, particles: int) -> Translation:
    features, heads = layers(program.features), [layers(head) for head in program.heads]
    transitions, decoder = [layers(net) for net in program.transitions], layers(program.decoder)
    prior = _array(program.prior_loc)

    def model(x: jax.Array) -> None:
        weights = numpyro.param("model", {"transitions": transitions, "decoder": decoder})
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z1", dist.Normal(prior, 1.0).to_event(1))
            for number, transition in enumerate(weights["transitions"], 2):
                z = numpyro.sample(f"z{number}", _normal(mlp(transition, z)))
            numpyro.sample("x", dist.Bernoulli(logits=mlp(weights["decoder"], z)).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        weights = numpyro.param("guide", {"features": features, "heads": heads})
        read = jax.nn.relu(mlp(weights["features"], x))
        with numpyro.plate("data", len(x)):
            for number, head in enumerate(weights["heads"], 1):
                numpyro.sample(f"z{number}", _normal(mlp(head, read)))

    return model, guide, TraceMeanField_ELBO(num_particles=particles)


def _regression(program: Any, particles: int) -> Translation:
    features, groups = program.regression.num_features, program.regression.num_groups

    def model(x: jax.Array, group: jax.Array, y: jax.Array) -> None:
        mean = numpyro.sample("intercept_mean", dist.Normal(0.0, 1.0))
        tau = numpyro.sample("intercept_scale", dist.HalfNormal(1.0))
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([features]).to_event(1))
        sigma = numpyro.sample("noise_scale", dist.HalfNormal(1.0))
        with numpyro.plate("groups", groups):
            offset = numpyro.sample("intercept_offset", dist.Normal(0.0, 1.0))
        with numpyro.plate("data", len(y)):
            numpyro.sample("y", dist.Normal((mean + tau * offset)[group] + x @ slope, sigma), obs=y)

    median = program.guide.median()
    guide = AutoNormal(model, init_loc_fn=init_to_value(values={name: _array(median[name]) for name in median}))
    return model, guide, Trace_ELBO(num_particles=particles)


WRITTEN: dict[Kind, Callable[[Any, int], Translation]] = {
    "vae": _vae,
    "iwae": _iwae,
    "chain": _chain,
    "regression": _regression,
}
