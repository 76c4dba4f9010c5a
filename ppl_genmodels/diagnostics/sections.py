"""The sections of a report: for each picture when it applies, what to look for, and what was found.

Convention of this module: a section is a row of :data:`SECTIONS`; to add a picture to the report is
to add a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ppl_genmodels.diagnostics.calibration import describe_calibration, plot_calibration
from ppl_genmodels.diagnostics.density import describe_density, has_density, plot_density
from ppl_genmodels.diagnostics.fitted_like import image_shape_of, observed_site
from ppl_genmodels.diagnostics.forest import describe_globals, plot_forest, summary
from ppl_genmodels.diagnostics.game import describe_game, games_of, plot_game
from ppl_genmodels.diagnostics.history import (
    describe_gradient,
    describe_history,
    plot_gradient,
    plot_history,
)
from ppl_genmodels.diagnostics.images import event_shape
from ppl_genmodels.diagnostics.information import describe_information, plot_information
from ppl_genmodels.diagnostics.khat import describe_khat, plot_khat
from ppl_genmodels.diagnostics.latent_map import describe_latent_map, plot_latent_map
from ppl_genmodels.diagnostics.layers import describe_layers, has_layers, plot_layers
from ppl_genmodels.diagnostics.material import Material
from ppl_genmodels.diagnostics.predictive import describe_predictive, plot_predictive
from ppl_genmodels.diagnostics.reconstructions import (
    describe_reconstructions,
    plot_reconstructions,
)
from ppl_genmodels.diagnostics.samples import describe_samples, plot_samples
from ppl_genmodels.diagnostics.samples_and_data import describe_samples_and_data, plot_samples_and_data
from ppl_genmodels.diagnostics.traces import describe_pairs, describe_trace, plot_pair, plot_trace

__all__ = ["SECTIONS", "Section"]

FEWEST_ROWS = 30
"""Fewer rows beside global latents are shown in the forest, not on a map."""


@dataclass(frozen=True)
class Section:
    """A picture or a table with the sentences under it.

    Attributes:
        name: Of its file and its anchor.
        title: Its heading.
        look: What to look for.
        applies: Whether there is something to show.
        found: The sentence with what was found.
        draw: Draws the picture and returns axes of its figure.
        table: Makes a table to stand under the picture.
    """

    name: str
    title: str
    look: str
    applies: Callable[[Material], bool]
    found: Callable[[Material], str]
    draw: Callable[[Material], Any]
    table: Callable[[Material], pd.DataFrame] | None = None


def _trained(m: Material) -> bool:
    return len(m.fitted.history) > 0


def _has_gradient(m: Material) -> bool:
    return "gradient_norm" in m.fitted.history and bool(m.fitted.history["gradient_norm"].notna().any())


def _inferred(m: Material) -> bool:
    return m.data is not None and bool(m.fitted.structure.latent) and m.infers


def _has_evidence(m: Material) -> bool:
    """Not where data enter by a critic alone."""
    return _inferred(m) and not m.fitted.structure.generated


def _many_local(m: Material) -> bool:
    few = m.rows < FEWEST_ROWS and bool(m.global_latents)
    return m.data is not None and bool(m.local_latents) and not few and m.infers


def _has_global(m: Material) -> bool:
    return m.data is not None and bool(m.global_latents) and m.infers


def _several_global(m: Material) -> bool:
    structure = m.fitted.structure
    sizes = [
        int(np.prod((*structure.site(name).batch_shape, *structure.site(name).event_shape)))
        for name in m.global_latents
    ]
    return m.data is not None and sum(sizes) > 1 and m.infers


def _samples_data(m: Material) -> bool:
    return bool(m.fitted.structure.observed or m.fitted.structure.generated)


def _replicated(m: Material) -> bool:
    return _inferred(m) and bool(m.fitted.structure.observed)


def _draw_samples(m: Material) -> Any:
    name = observed_site(m.fitted)
    return plot_samples(m.fitted, data=m.observed, samples=m.samples[name])


def _found_samples(m: Material) -> str:
    return describe_samples(m.samples[observed_site(m.fitted)], m.observed)


def _draw_beside_data(m: Material) -> Any:
    samples, data = m.samples[observed_site(m.fitted)], np.asarray(m.observed)
    return plot_samples_and_data(m.fitted, data, samples=samples)


def _found_beside_data(m: Material) -> str:
    samples, data = m.samples[observed_site(m.fitted)], np.asarray(m.observed)
    return describe_samples_and_data(m.fitted, data, samples=samples)


def _is_table(m: Material) -> bool:
    """Whether the data are rows of two or more columns, and no images."""
    if m.data is None or not _samples_data(m) or m.observed is None or m.observed.ndim != 2:
        return False
    return m.observed.shape[1] > 1 and not image_shape_of(m.fitted.program) and event_shape(m.observed) is None


SECTIONS = (
    Section(
        "training",
        "Training",
        "The objective should rise and then level off, and validation should follow it; where it "
        "turns down while training still rises, the program learns its rows by heart.",
        _trained,
        lambda m: describe_history(m.fitted),
        lambda m: plot_history(m.fitted),
    ),
    Section(
        "gradient",
        "Gradient norm",
        "The norm should fall or stay level; bursts call for clipping or a lower learning rate.",
        _has_gradient,
        lambda m: describe_gradient(m.fitted),
        lambda m: plot_gradient(m.fitted),
    ),
    Section(
        "game",
        "Health of the game",
        "The critic should come down to telling one half of the values rightly; coverage and precision should rise "
        "and duplicates stay away; the push should stay well above a tenth as long as the critic tells the sides "
        "apart, and the mean should come to the data's and stay there.",
        lambda m: bool(games_of(m.fitted.history)),
        lambda m: describe_game(m.fitted),
        lambda m: plot_game(m.fitted),
    ),
    Section(
        "samples",
        "Samples",
        "Samples should look like data, and differ from one another as much as data do.",
        _samples_data,
        _found_samples,
        _draw_samples,
    ),
    Section(
        "density",
        "Density",
        "Density should be high where data lie and low where none do; threads between parts that are "
        "apart say that the program has stretched one part over all of them.",
        lambda m: has_density(m.fitted.structure) and m.observed is not None,
        lambda m: describe_density(m.fitted, m.observed),
        lambda m: plot_density(m.fitted, m.observed),
    ),
    Section(
        "layers",
        "From noise to data",
        "Each point keeps its colour. A layer that moves nothing can be left out; colours that are torn "
        "apart or squeezed together say where the flow works hard.",
        lambda m: has_density(m.fitted.structure) and has_layers(m.fitted),
        lambda m: describe_layers(m.fitted),
        lambda m: plot_layers(m.fitted),
    ),
    Section(
        "samples_and_data",
        "Samples and data, column by column",
        "Histograms should have one shape, and clouds of both colours should lie over one another; of many "
        "columns those are shown that differ most.",
        _is_table,
        _found_beside_data,
        _draw_beside_data,
    ),
    Section(
        "reconstructions",
        "Reconstructions",
        "Each row should keep what matters of the data when it has passed through the latents.",
        _replicated,
        lambda m: describe_reconstructions(*m.reconstructed),
        lambda m: plot_reconstructions(m.fitted, m.data),
    ),
    Section(
        "latent_map",
        "Latent map",
        "Similar rows should lie together; one dense cloud around zero without any order means "
        "that the latents are not used.",
        _many_local,
        lambda m: describe_latent_map(m.posterior, m.chosen_labels, m.local_latents),
        lambda m: plot_latent_map(m.posterior, m.chosen_labels, m.local_latents),
    ),
    Section(
        "information",
        "Information per latent dimension",
        "A dimension near zero nats has collapsed onto the prior. Active are those whose posterior "
        "mean varies over rows with a variance above 0.01.",
        _many_local,
        lambda m: describe_information(m.posterior, m.prior, m.local_latents),
        lambda m: plot_information(m.posterior, m.prior, m.local_latents),
    ),
    Section(
        "forest",
        "Global latents",
        "Intervals that are wide say that the data leave a latent open; those away from zero, that they do not.",
        _has_global,
        lambda m: describe_globals(m.posterior),
        lambda m: plot_forest(m.posterior),
        lambda m: summary(m.posterior),
    ),
    Section(
        "trace",
        "Densities and draws",
        "Densities should be smooth; draws should show no drift and no plateau.",
        _has_global,
        lambda m: describe_trace(m.posterior),
        lambda m: plot_trace(m.posterior),
    ),
    Section(
        "pairs",
        "Pairs of global latents",
        "A guide of independent sites shows round clouds whatever the posterior; narrow ridges and "
        "funnels are hard for any guide.",
        _several_global,
        lambda m: describe_pairs(m.posterior),
        lambda m: plot_pair(m.posterior),
    ),
    Section(
        "predictive",
        "Posterior-predictive check",
        "Replicated data should not be told apart from the data.",
        _replicated,
        lambda m: describe_predictive(m.predictive),
        lambda m: plot_predictive(m.predictive),
    ),
    Section(
        "calibration",
        "Calibration",
        "The curve should follow the diagonal; below it, predictive intervals are too narrow, above "
        "it too wide. Rows that have latents of their own are compared with samples, because "
        "replicates have seen them.",
        _replicated,
        lambda m: describe_calibration(m.predictive, samples=m.unconditional),
        lambda m: plot_calibration(m.predictive, samples=m.unconditional),
    ),
    Section(
        "k_hat",
        "k-hat",
        "Below 0.7 the guide is near enough to the posterior for importance weighting to correct "
        "it; above, its draws stand for themselves only.",
        _has_evidence,
        lambda m: describe_khat(m.posterior),
        lambda m: plot_khat(m.posterior),
    ),
)
