"""Layers that data set before training: which wait for data, and when they are set.

Convention of this module: inside :func:`first_data`, which ``fit`` opens for one run before training, the first data
that pass a layer from data to noise set it, once; what is restored or copied stays as it was set.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from ppl_genmodels.transforms.bijection import Bijection

__all__ = ["SetByData", "first_data", "wait_for_data"]

_FIRST_DATA = ContextVar("first_data", default=False)


@contextmanager
def first_data() -> Iterator[None]:
    """While open, layers that are set by data are set, unless they are already.

    Example:
        >>> from ppl_genmodels.transforms import ActNorm
        >>> layer = ActNorm(1)
        >>> with first_data():
        ...     _ = layer.inv(torch.tensor([[1.0], [5.0]]))
        >>> layer.loc
        Parameter containing:
        tensor([3.], requires_grad=True)
    """
    token = _FIRST_DATA.set(True)
    try:
        yield
    finally:
        _FIRST_DATA.reset(token)


def wait_for_data(module: nn.Module) -> bool:
    """Whether a module has layers that data are to set.

    Example:
        >>> from ppl_genmodels.transforms import ActNorm
        >>> wait_for_data(nn.Sequential(ActNorm(1)))
        True
    """
    return any(isinstance(each, SetByData) and not each.is_set for each in module.modules())


class SetByData(Bijection):
    """A bijection that the first data set; see :class:`~ppl_genmodels.transforms.ActNorm`.

    A subclass says how rows set it, and calls :meth:`see` on what goes from data to noise.

    Args:
        event_dim: 1 for vectors, 3 for images (channels, height, width).
    """

    is_set: Tensor

    def __init__(self, event_dim: int = 1) -> None:
        super().__init__(event_dim)
        self.register_buffer("is_set", torch.tensor(False))

    @abstractmethod
    def set_by(self, rows: Tensor) -> None:
        """Sets parameters or buffers by rows, shape (rows, features), without gradient.

        Each place of an image is a row.
        """

    def see(self, data: Tensor) -> None:
        r"""Is set by data, shape (\*batch, \*event), if it waits for them; one event says nothing of a spread."""
        if not _FIRST_DATA.get() or self.is_set:
            return
        if data.shape[: data.dim() - self._event_dim].numel() < 2:
            return
        with torch.no_grad():
            self.set_by(data.movedim(-self._event_dim, -1).flatten(0, -2))
            self.is_set.fill_(True)
