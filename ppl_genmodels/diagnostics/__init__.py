"""Looking at what was fitted: the bridge to ArviZ, one function per picture, the report, and comparisons of samples.

Convention of this package: the only place that imports ArviZ. Every ``plot_`` function takes a
fitted program, an InferenceData or a table, and the axes to draw on, and returns axes; ``describe_``
functions say in a sentence what the picture of that name shows, ``describe_steps`` in a table.
"""

from ppl_genmodels.diagnostics.adversarial_examples import AdversarialExamples, adversarial_examples
from ppl_genmodels.diagnostics.bits import BitsPerDimension, bits_per_dimension
from ppl_genmodels.diagnostics.bridge import to_inference_data
from ppl_genmodels.diagnostics.calibration import describe_calibration, plot_calibration
from ppl_genmodels.diagnostics.density import describe_density, plot_density
from ppl_genmodels.diagnostics.density_coverage import DensityCoverage, density_coverage
from ppl_genmodels.diagnostics.diffusion_steps import describe_steps, plot_steps
from ppl_genmodels.diagnostics.evaluations import describe_evaluations, plot_evaluations
from ppl_genmodels.diagnostics.example import example_globals, example_posterior
from ppl_genmodels.diagnostics.forest import describe_globals, plot_forest, summary
from ppl_genmodels.diagnostics.frechet_distance import frechet_distance
from ppl_genmodels.diagnostics.game import describe_game, plot_game
from ppl_genmodels.diagnostics.gradients import GradientComparison, gradients
from ppl_genmodels.diagnostics.history import (
    describe_gradient,
    describe_history,
    plot_gradient,
    plot_history,
)
from ppl_genmodels.diagnostics.information import (
    describe_information,
    latent_information,
    plot_information,
)
from ppl_genmodels.diagnostics.khat import describe_khat, plot_khat
from ppl_genmodels.diagnostics.latent_map import describe_latent_map, plot_latent_map
from ppl_genmodels.diagnostics.layers import describe_layers, plot_layers
from ppl_genmodels.diagnostics.mmd import MMDTest, mmd_test
from ppl_genmodels.diagnostics.modes_covered import ModesCovered, modes_covered
from ppl_genmodels.diagnostics.nearest_neighbours import NearestNeighbours, nearest_neighbours
from ppl_genmodels.diagnostics.ngrams import ngram_divergence
from ppl_genmodels.diagnostics.precision_recall import PrecisionRecall, precision_recall
from ppl_genmodels.diagnostics.predictive import describe_predictive, plot_predictive
from ppl_genmodels.diagnostics.progressive_generation import plot_progressive_generation
from ppl_genmodels.diagnostics.psis import pareto_k
from ppl_genmodels.diagnostics.rate_distortion import describe_rate_distortion, plot_rate_distortion
from ppl_genmodels.diagnostics.reconstructions import (
    describe_reconstructions,
    plot_reconstructions,
)
from ppl_genmodels.diagnostics.report import report
from ppl_genmodels.diagnostics.sampler_quality import describe_sampler_quality, plot_sampler_quality, sampler_quality
from ppl_genmodels.diagnostics.samples import describe_samples, plot_samples
from ppl_genmodels.diagnostics.samples_and_data import describe_samples_and_data, plot_samples_and_data
from ppl_genmodels.diagnostics.sliced_wasserstein import sliced_wasserstein
from ppl_genmodels.diagnostics.style import plain_figures
from ppl_genmodels.diagnostics.traces import describe_pairs, describe_trace, plot_pair, plot_trace
from ppl_genmodels.diagnostics.two_sample import ClassifierTwoSample, classifier_two_sample
from ppl_genmodels.diagnostics.wasserstein import wasserstein
from ppl_genmodels.graph import program_graph

__all__ = [
    "AdversarialExamples",
    "BitsPerDimension",
    "ClassifierTwoSample",
    "DensityCoverage",
    "GradientComparison",
    "MMDTest",
    "ModesCovered",
    "NearestNeighbours",
    "PrecisionRecall",
    "adversarial_examples",
    "bits_per_dimension",
    "classifier_two_sample",
    "density_coverage",
    "describe_calibration",
    "describe_density",
    "describe_evaluations",
    "describe_game",
    "describe_globals",
    "describe_gradient",
    "describe_history",
    "describe_information",
    "describe_khat",
    "describe_latent_map",
    "describe_layers",
    "describe_pairs",
    "describe_predictive",
    "describe_rate_distortion",
    "describe_reconstructions",
    "describe_sampler_quality",
    "describe_samples",
    "describe_samples_and_data",
    "describe_steps",
    "describe_trace",
    "example_globals",
    "example_posterior",
    "frechet_distance",
    "gradients",
    "latent_information",
    "mmd_test",
    "modes_covered",
    "nearest_neighbours",
    "ngram_divergence",
    "pareto_k",
    "plain_figures",
    "plot_calibration",
    "plot_density",
    "plot_evaluations",
    "plot_forest",
    "plot_game",
    "plot_gradient",
    "plot_history",
    "plot_information",
    "plot_khat",
    "plot_latent_map",
    "plot_layers",
    "plot_pair",
    "plot_predictive",
    "plot_progressive_generation",
    "plot_rate_distortion",
    "plot_reconstructions",
    "plot_sampler_quality",
    "plot_samples",
    "plot_samples_and_data",
    "plot_steps",
    "plot_trace",
    "precision_recall",
    "program_graph",
    "report",
    "sampler_quality",
    "sliced_wasserstein",
    "summary",
    "to_inference_data",
    "wasserstein",
]
