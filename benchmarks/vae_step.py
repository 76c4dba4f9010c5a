"""One training step of a variational autoencoder: by hand in torch, in Pyro, and in this library.

Convention of this module: every way has the architecture of ``models.VAE`` (one hidden layer, Bernoulli pixels),
its own copy of it, the same batch, the closed-form divergence where it can, and Adam.
"""

from __future__ import annotations

from collections.abc import Callable

import pyro
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from benchmarks.interleaved import ratios
from ppl_genmodels.inference import compile_step
from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.models import VAE
from ppl_genmodels.objectives import elbo

__all__ = ["SIZES", "measure", "ways"]

Step = Callable[[], object]

SIZES = {
    "784-400-10, batch 128": (784, 400, 10, 128),
    "784-400-30, batch 128": (784, 400, 30, 128),
    "784-2000-10, batch 128": (784, 2000, 10, 128),
    "784-2000-30, batch 128": (784, 2000, 30, 128),
    "64-32-10, batch 32": (64, 32, 10, 32),
}
"""The sizes of the published comparison of Pixyz with Pyro, and a small one."""

REFERENCE = "torch by hand"
MODES: tuple[Mode, ...] = ("off", "trace", "inductor")


def by_hand(vae: VAE, x: Tensor) -> Tensor:
    """The loss written out, without a program."""
    loc, raw = vae.encoder(x).chunk(2, -1)
    scale = softplus(raw) + 1e-5
    z = loc + scale * torch.randn_like(loc)
    cost = binary_cross_entropy_with_logits(vae.decoder(z), x, reduction="sum")
    return (cost + (0.5 * (scale**2 + loc**2 - 1) - scale.log()).sum()) / len(x)


def torch_step(vae: VAE, loss_of: Callable[[], Tensor]) -> Step:
    """A step with one fused optimizer."""
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pyro_step(vae: VAE, x: Tensor) -> Step:
    """A step as Pyro's tutorials write it, parameters in the global store."""
    pyro.clear_param_store()

    def model(x: Tensor) -> None:
        pyro.module("vae", vae)
        vae.model(x)

    svi = SVI(model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), TraceMeanField_ELBO())
    return lambda: svi.step(x)


def library_step(vae: VAE, x: Tensor, mode: Mode) -> Step:
    """This library's step in one of its modes."""
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3, fused=True)
    step = compile_step(elbo(), vae, optimizer, mode)
    return lambda: step(x).item()


def ways(data_dim: int, hidden: int, latent_dim: int, batch: int) -> dict[str, Step]:
    """Each way's step on the same batch of random bits."""
    x = torch.rand(batch, data_dim).round()
    first, second, third, *others = (VAE(data_dim, latent_dim, (hidden,)) for _ in range(6))
    bound = TraceMeanField_ELBO()
    library = {f"ppl_genmodels, {mode}": library_step(vae, x, mode) for mode, vae in zip(MODES, others, strict=True)}
    return {
        REFERENCE: torch_step(first, lambda: by_hand(first, x)),
        "Pyro, as its tutorials": pyro_step(second, x),
        "Pyro, one fused optimizer": torch_step(
            third, lambda: bound.differentiable_loss(third.model, third.guide, x) / len(x)
        ),
    } | library


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """For each size the ratios of all ways to torch by hand."""
    with pyro.validation_enabled(False):
        return {name: ratios(ways(*size), REFERENCE, rounds) for name, size in SIZES.items()}
