r"""Diffusion given a label: draws of each class, more or less typical of it.

Convention of this module: an observed site ``y``, the label, and an observed site ``x``, the datum given it, both in
the plate ``data``. It is fitted by ``objectives.denoising()``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_genmodels.distributions import samplers
from ppl_genmodels.distributions.diffusion import Diffusion as DiffusionDistribution
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import check_dtype, check_index, check_rows, data_array
from ppl_genmodels.models.diffusion import denoising_for, diffusion_flow
from ppl_genmodels.networks import ClassifierFree, LabelEmbedding
from ppl_genmodels.networks.denoiser import Predicts
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives import Objective

__all__ = ["ConditionalDiffusion"]


@register("conditional_diffusion")
class ConditionalDiffusion(nn.Module):
    r"""Diffusion of vectors or images given their class, with classifier-free guidance.

    All classes are equally probable a priori. In training a label is left out now and then, so that the network learns
    the data of all classes too, and what is typical of one: see :class:`~ppl_genmodels.networks.ClassifierFree`.

    Args:
        event_shape: Shape of a datum: (features,), or (channels, height, width) of images.
        classes: How many.
        width: As :class:`~ppl_genmodels.models.Diffusion` has it.
        blocks: As there.
        scales: As there.
        noising: As there.
        predicts: As there.
        data_scale: As there.
        dropped: The probability with which a label is left out.
        solver: As there.
        steps: As there.
        trace: As there.

    Raises:
        OptionError: When a size is no positive integer, the shape is neither of vectors nor of images, or an option is
            none of those named.

    References:
        Ho and Salimans (2022), Classifier-Free Diffusion Guidance.

    Example:
        >>> from ppl_genmodels.objectives import denoising
        >>> program = ConditionalDiffusion(event_shape=(2,), classes=3, width=16)
        >>> denoising(weight="simple").loss(program, torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 1])).shape
        torch.Size([])
        >>> program.generate(torch.tensor([2, 2]), guidance=1.0, steps=4).shape
        torch.Size([2, 2])
    """

    logits: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        classes: int,
        width: int = 128,
        blocks: int = 3,
        scales: int = 2,
        noising: str = "cosine",
        predicts: Predicts = "velocity",
        data_scale: float = 1.0,
        dropped: float = 0.1,
        solver: str = "dopri5",
        steps: int = 20,
        trace: str = "exact",
    ) -> None:
        super().__init__()
        self.classes = check_size("ConditionalDiffusion", "classes", classes)
        context = check_size("ConditionalDiffusion", "width", width)
        self.embedding = LabelEmbedding(classes, context, dropped)
        self.flow = diffusion_flow(
            "ConditionalDiffusion",
            event_shape,
            width,
            blocks,
            scales,
            noising,
            predicts,
            data_scale,
            context_features=context,
            solver={"solver": solver, "steps": steps, "trace": trace},
        )
        self.register_buffer("logits", torch.zeros(classes), persistent=False)

    @classmethod
    def options_for(cls, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """``event_shape`` and ``data_scale``, read off the array ``x``, and ``classes``, off ``y``.

        Raises:
            UnknownNameError: When the data have no array ``x`` or ``y``.
            DataError: When one is empty.
        """
        x, y = data_array(data, "x", "ConditionalDiffusion"), data_array(data, "y", "ConditionalDiffusion")
        return {"event_shape": x.shape[1:], "data_scale": float(np.nanstd(x)), "classes": int(y.max()) + 1}

    def default_objective(self) -> Objective:
        """As :class:`~ppl_genmodels.models.Diffusion` has it."""
        return denoising_for(self.flow.denoiser, "x")

    def density(self, y: Tensor) -> DiffusionDistribution:
        """The distribution of a datum given its label, of shape (rows,)."""
        return DiffusionDistribution(self.flow, self.embedding(y))

    def model(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """Draws a datum of a class, or conditions on data and their labels.

        Args:
            x: Data to condition on, ``(rows, *event_shape)``; drawn by default.
            y: Labels from 0, ``(rows,)``; drawn by default.

        Returns:
            The data, observed or drawn.

        Raises:
            DataError: When the data or labels have another shape or dtype, or there is no such label.
        """
        with pyro.plate("data", self._rows(x, y)):
            y = pyro.sample("y", dist.Categorical(logits=self.logits), obs=y)
            return pyro.sample("x", self.density(y), obs=x)

    @torch.no_grad()
    def generate(
        self, y: Tensor, guidance: float = 0.0, sampler: samplers.Sampler = "dpm_solver", steps: int = 20
    ) -> Tensor:
        """Draws data of given classes by a sampler of few steps.

        Args:
            y: Labels, ``(rows,)``.
            guidance: How much more typical of the class than chance would have it; 0 for what is learned.
            sampler: As :func:`~ppl_genmodels.distributions.samplers.generate` has them.
            steps: Of the sampler.

        Returns:
            Data, ``(rows, *event_shape)``.

        Raises:
            DataError: When there is no such label.
        """
        check_index(self, "y", y, self.classes, "classes")
        like, denoiser = self.flow.base_loc, self.flow.denoiser
        if guidance:
            denoiser = ClassifierFree(denoiser, self.embedding.none(), guidance)
        noise = torch.randn(len(y), *self.flow.event_shape, dtype=like.dtype, device=like.device)
        return samplers.generate(denoiser, noise, sampler, steps, context=self.embedding.table(y))

    def _rows(self, x: Tensor | None, y: Tensor | None) -> int:
        rows = None
        if x is not None:
            check_dtype(self, "x", x, like=self.flow.base_loc)
            rows = check_rows(self, "x", x, self.flow.event_shape)
        if y is not None:
            check_index(self, "y", y, self.classes, "classes")
            rows = check_rows(self, "y", y, (), rows)
        return rows or 1
