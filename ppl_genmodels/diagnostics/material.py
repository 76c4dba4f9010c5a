"""What a report is made from: samples, and the posteriors of the rows that it looks at.

Convention of this module: each is computed once, when first asked for, under a fixed seed. Of many
rows some are taken, evenly spread, where each row has latents of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from arviz import InferenceData
from numpy.typing import ArrayLike, NDArray

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.diagnostics.fitted_like import FittedLike, observed_site, site_values
from ppl_genmodels.diagnostics.labels import checked_labels
from ppl_genmodels.diagnostics.observations import spread_index
from ppl_genmodels.errors import PplError
from ppl_genmodels.program import as_program

__all__ = ["Material"]

MOST_ROWS = 1000
MOST_RECONSTRUCTED = 500
DRAWS = 500
NUMBERS = 2**24
"""How many numbers of the observed site's draws are held at once."""

SEED = 0


@dataclass(frozen=True, eq=False)
class Material:
    """A fitted program with the data and labels it is looked at with.

    Attributes:
        fitted: What was fitted.
        data: The rows; None to look at training and samples only.
        labels: One for each row of the data.
    """

    fitted: FittedLike
    data: Rows | None = None
    labels: ArrayLike | None = None

    @property
    def rows(self) -> int:
        """How many rows of data were given."""
        return 0 if self.data is None else len(self.data)

    @property
    def local_latents(self) -> list[str]:
        """The latent sites that each row has for itself."""
        structure = self.fitted.structure
        return [site.name for site in structure.latent if structure.is_local(site.name)]

    @property
    def global_latents(self) -> list[str]:
        """The latent sites that all rows share."""
        structure = self.fitted.structure
        return [site.name for site in structure.latent if not structure.is_local(site.name)]

    @property
    def infers(self) -> bool:
        """Whether latent sites can be inferred: not where data enter by a critic alone, as those of a GAN do."""
        return bool(self.fitted.structure.observed) or as_program(self.fitted.program).guide is not None

    @cached_property
    def samples(self) -> dict[str, NDArray[Any]]:
        """Draws of every site from the program run without data, each of shape (count, event)."""
        count = int(np.clip(NUMBERS // self._event_size(), 64, 512))
        drawn = self.fitted.sample(count, seed=SEED)
        return {name: site_values(self.fitted, name, values) for name, values in drawn.items()}

    @cached_property
    def prior(self) -> dict[str, NDArray[Any]] | None:
        """Draws of the local latents from their prior; None where the program needs data to run."""
        try:
            drawn = self.samples
        except PplError:
            return None
        return {name: drawn[name] for name in self.local_latents if name in drawn}

    @property
    def unconditional(self) -> NDArray[Any] | None:
        """Samples of the first observed site; None where all latents are shared by the rows."""
        return self.samples[observed_site(self.fitted)] if self.local_latents else None

    @cached_property
    def chosen(self) -> NDArray[np.int64]:
        """The rows looked at."""
        return spread_index(self.rows, self.rows if self.global_latents else MOST_ROWS)

    @cached_property
    def chosen_labels(self) -> NDArray[Any] | None:
        """The labels of the rows looked at."""
        return None if self.labels is None else checked_labels(self.labels, self.rows)[self.chosen]

    @cached_property
    def posterior(self) -> InferenceData:
        """The posterior of the rows looked at."""
        return self.fitted.infer(self._take(self.chosen), DRAWS, seed=SEED)

    @cached_property
    def predictive(self) -> InferenceData:
        """A posterior with replicated data, of as many rows and draws as memory allows."""
        affordable = max(1, NUMBERS // self._event_size())
        if self.global_latents:
            rows, draws = self.chosen, int(np.clip(affordable // self.rows, 20, 200))
        else:
            draws = 100
            rows = spread_index(self.rows, int(np.clip(affordable // draws, 50, MOST_ROWS)))
        return self.fitted.infer(self._take(rows), draws, predictive=True, seed=SEED)

    @cached_property
    def observed(self) -> NDArray[Any] | None:
        """Observations of the first observed site in the rows looked at, shape (count, event)."""
        name = observed_site(self.fitted)
        if self.data is None:
            return None
        if not self.infers or not self.fitted.structure.latent or not self.fitted.structure.observed:
            arrays = self.data.arrays()
            array = next(iter(arrays.values())) if len(arrays) == 1 else arrays.get(name)
            return None if array is None else site_values(self.fitted, name, array)
        try:
            return site_values(self.fitted, name, self.posterior.observed_data[name].values)
        except PplError:
            return None

    @cached_property
    def reconstructed(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Observations of some rows and their reconstructions, both of shape (count, event)."""
        name = observed_site(self.fitted)
        most = self.rows if self.global_latents else MOST_RECONSTRUCTED
        some = self._take(spread_index(self.rows, most))
        seen = self.fitted.infer(some, 1, seed=SEED).observed_data[name].values
        made = self.fitted.reconstruct(some)[name]
        return site_values(self.fitted, name, seen), site_values(self.fitted, name, made)

    def _take(self, rows: NDArray[np.int64]) -> Any:
        data = self.data
        return data if data is None or len(rows) == self.rows else data.subset(rows.tolist())

    def _event_size(self) -> int:
        structure = self.fitted.structure
        return max(site.event_shape.numel() for site in structure.observed or structure.generated)
