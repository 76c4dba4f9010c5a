"""What is timed: a program, batches of data, and the bound that is maximised.

Convention of this module: batches rotate, and each comes as new tensors, as from a loader, so that nothing can be
remembered by their identity. The kind of a task chooses the hand-written counterparts in the other modules. A new case
is a row of :data:`CASES`; a new kind, a categorical latent with an estimator say, is a row in the tables of
``by_hand``, ``pyro_ways``, ``library_ways`` and of the peers that can do it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.programs import Chain, Regression
from ppl_genmodels.models import VAE

__all__ = ["CASES", "PUBLISHED", "SMALL_VAE", "Kind", "Task", "chain", "regression", "vae"]

Kind = Literal["vae", "iwae", "chain", "regression"]
Batch = tuple[Tensor, ...]

ROTATION = 8
"""Batches of each task."""
SEED = 0


@dataclass(frozen=True)
class Task:
    """A program to train.

    Attributes:
        kind: Which counterparts it has by hand and in other libraries.
        make: Makes the program.
        batches: What it is trained on, in turn.
        particles: Draws from the guide.
        learning_rate: Of Adam.
        device: Where it is trained.
    """

    kind: Kind
    make: Callable[[], nn.Module]
    batches: tuple[Batch, ...]
    particles: int = 1
    learning_rate: float = 1e-3
    device: str = "cpu"

    @property
    def rows(self) -> int:
        """Rows of a batch."""
        return len(self.batches[0][0])

    def program(self) -> nn.Module:
        """A new program, always with the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return self.make().to(self.device)

    def rotation(self) -> Iterator[Batch]:
        """The batches again and again, on the task's device; the tensors are new, their memory is not."""
        batches = [tuple(part.to(self.device) for part in batch) for batch in self.batches]
        return (tuple(part.detach() for part in batch) for batch in itertools.cycle(batches))


def vae(
    data_dim: int, hidden: int, latent_dim: int, rows: int, particles: int = 1, kind: Kind = "vae", **options: object
) -> Task:
    """A variational autoencoder with one hidden layer on random bits.

    Example:
        >>> task = vae(64, 32, 10, rows=32)
        >>> task.rows, len(task.batches), task.batches[0][0].shape
        (32, 8, torch.Size([32, 64]))
    """
    make = partial(VAE, data_dim=data_dim, latent_dim=latent_dim, hidden=(hidden,))
    return Task(kind, make, _bits(rows, data_dim), particles, **options)  # type: ignore[arg-type]


def chain(num_sites: int, rows: int = 32, **options: object) -> Task:
    """A chain of latent vectors on random bits."""
    return Task("chain", partial(Chain, num_sites), _bits(rows, 64), **options)  # type: ignore[arg-type]


def regression(num_features: int, num_groups: int, rows: int, **options: object) -> Task:
    """A hierarchical regression of random responses."""
    generator = torch.Generator().manual_seed(SEED)
    batches = tuple(
        (
            torch.randn(rows, num_features, generator=generator),
            torch.randint(num_groups, (rows,), generator=generator),
            torch.randn(rows, generator=generator),
        )
        for _ in range(ROTATION)
    )
    return Task("regression", partial(Regression, num_features, num_groups, batches[0]), batches, **options)  # type: ignore[arg-type]


def _bits(rows: int, data_dim: int) -> tuple[Batch, ...]:
    generator = torch.Generator().manual_seed(SEED)
    return tuple((torch.rand(rows, data_dim, generator=generator).round(),) for _ in range(ROTATION))


PUBLISHED = ("VAE 784-400-10", "VAE 784-400-30", "VAE 784-2000-10", "VAE 784-2000-30")
"""The sizes of the published comparison of Pixyz with Pyro, batch 128."""
SMALL_VAE = "VAE 64-32-10"

CASES: dict[str, Callable[..., Task]] = {
    "VAE 784-400-10": partial(vae, 784, 400, 10, rows=128),
    "VAE 784-400-30": partial(vae, 784, 400, 30, rows=128),
    "VAE 784-2000-10": partial(vae, 784, 2000, 10, rows=128),
    "VAE 784-2000-30": partial(vae, 784, 2000, 30, rows=128),
    SMALL_VAE: partial(vae, 64, 32, 10, rows=32),
    "hierarchical regression": partial(regression, 5, 20, rows=256),
    "10 latent sites": partial(chain, 10),
    "IWAE-50": partial(vae, 784, 400, 10, rows=20, particles=50, kind="iwae"),
}
"""The table's columns. Batches are of 128 rows for the published sizes, 32 for the small autoencoder and the chain,
256 for the regression and 20 for the importance-weighted bound."""
