r"""Samples of earlier steps, which a critic sees beside those of today so that it does not forget them.

Convention of this module: what is remembered are buffers, changed in place, so that a traced step sees them and a
checkpoint keeps them. They change only where a gradient is taken. Values have the rows first, shape (rows, \*event).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["PastSamples"]


class PastSamples(nn.Module):
    r"""Remembers what a program drew, and mixes it into what it draws now.

    For :func:`~ppl_genmodels.objectives.adversarial`: a critic that is trained on what the program draws today forgets
    what it drew before, and the game may go round in circles.

    Args:
        *event_shapes: Shape of a value of each site, in the critic's order; () for labels.
        rows: How many are remembered; the oldest are forgotten.
        share: Of the draws, how many are exchanged for remembered ones.

    Raises:
        OptionError: When there is no shape, the rows are no positive integer, or the share is not between 0 and 1.

    References:
        Shrivastava and others (2017), Learning from Simulated and Unsupervised Images through Adversarial Training,
        section 2.3; Zhu and others (2017), Unpaired Image-to-Image Translation, section 4.

    Example:
        >>> past = PastSamples((2,), rows=100, share=0.5)
        >>> (first,) = past([torch.zeros(50, 2)])
        >>> (second,) = past([torch.zeros(50, 2)])
        >>> (third,) = past([torch.ones(50, 2)])
        >>> bool(second.any()), 0.0 < float(third.mean()) < 1.0
        (False, True)
    """

    begun: Tensor
    next: Tensor

    def __init__(self, *event_shapes: Sequence[int], rows: int = 1000, share: float = 0.5) -> None:
        super().__init__()
        if not event_shapes:
            raise OptionError("PastSamples: there is no event shape. Remedy: PastSamples((2,)), one for each site.")
        count = check_size("PastSamples", "rows", rows)
        if not 0 <= share <= 1:
            raise OptionError(f"PastSamples: share={share}, expected a share between 0 and 1. Remedy: 0.5.")
        self.event_shapes, self.share = tuple(torch.Size(shape) for shape in event_shapes), share
        for number, shape in enumerate(self.event_shapes):
            self.register_buffer(f"values_{number}", torch.zeros(count, *shape))
        self.register_buffer("begun", torch.zeros(count, dtype=torch.bool))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    def forward(self, drawn: Sequence[Tensor]) -> list[Tensor]:
        r"""Draws, some of them exchanged for earlier ones, which makes room to remember those of now.

        Args:
            drawn: A value of each site, ``(rows, \*event)`` each.

        Raises:
            OptionError: When there are more or fewer sites than shapes, or a value has another shape.
        """
        found = [tuple(value.shape[1:]) for value in drawn]
        if found != [tuple(shape) for shape in self.event_shapes]:
            wanted = [tuple(shape) for shape in self.event_shapes]
            raise OptionError(
                f"PastSamples: the sites' values have shapes {found}, expected {wanted}. Remedy: "
                f"PastSamples({', '.join(map(str, found))})."
            )
        count, rows = len(drawn[0]), len(self.begun)
        device = self.begun.device
        places = torch.randint(rows, (count,), device=device)
        chosen = self.begun[places] & (torch.rand(count, device=device) < self.share)
        mixed = [self._mixed(number, places, chosen, value) for number, value in enumerate(drawn)]
        if torch.is_grad_enabled():
            self._remember([value.detach() for value in drawn])
        return mixed

    def _mixed(self, number: int, places: Tensor, chosen: Tensor, value: Tensor) -> Tensor:
        earlier = self._values(number)[places].to(value.dtype)
        return torch.where(chosen.reshape(-1, *(1 for _ in value.shape[1:])), earlier, value)

    @torch.no_grad()
    def _remember(self, drawn: Sequence[Tensor]) -> None:
        """In the places after the last, where the oldest are."""
        rows = len(self.begun)
        count = min(rows, len(drawn[0]))
        places = (self.next + torch.arange(count, device=self.begun.device)) % rows
        for number, value in enumerate(drawn):
            values = self._values(number)
            values.index_copy_(0, places, value[:count].to(values.dtype))
        self.begun.index_fill_(0, places, True)
        self.next.add_(count)

    def _values(self, number: int) -> Tensor:
        values: Tensor = getattr(self, f"values_{number}")
        return values
