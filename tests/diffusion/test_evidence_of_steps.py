"""The chain's terms, rate and distortion with the exact denoiser of normal data, where all of them are known."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from ppl_genmodels.diagnostics import (
    describe_rate_distortion,
    describe_sampler_quality,
    describe_steps,
    plot_progressive_generation,
    plot_rate_distortion,
    plot_sampler_quality,
    plot_steps,
    sampler_quality,
)
from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.models.diffusion_chain import DiffusionChain
from ppl_genmodels.networks import CosineNoising, Denoiser, EDMNoising, LinearNoising, TimeMLP, UNet
from ppl_genmodels.objectives import elbo
from ppl_genmodels.transforms import ProbabilityFlow

NOISINGS = [LinearNoising, CosineNoising, EDMNoising]
ROWS = 2000


@pytest.fixture
def exact(gaussian):
    """The flow of the exact denoiser, and data."""

    def make(dim, noising=CosineNoising, rows=ROWS):
        torch.manual_seed(0)
        denoiser = gaussian(dim, noising())
        return ProbabilityFlow(denoiser, (dim,)).double(), denoiser.target.sample((rows,))

    return make


def left(denoiser, times):
    """The variances of the data given their noisy values, by time and principal axis."""
    noising, values = denoiser.noising, denoiser.values.numpy()
    alpha, sigma = (scale(times).numpy()[:, None] for scale in (noising.alpha, noising.sigma))
    return values * sigma**2 / (alpha**2 * values + sigma**2)


@pytest.mark.parametrize("noising", NOISINGS)
def test_every_term_is_the_closed_form(exact, noising):
    flow, x = exact(3, noising)
    frame = describe_steps(flow, x, steps=12)
    times = torch.linspace(1, 0, 13, dtype=torch.float64)
    log_snr = flow.denoiser.noising.log_snr(times).numpy()
    # A step costs half of what it takes off the noise's odds, times the error that was left before it.
    cost = 0.5 * (np.exp(log_snr[1:]) - np.exp(log_snr[:-1])) * left(flow.denoiser, times[:-1]).sum(1)
    steps = frame[frame["term"] == "step"]
    assert (np.abs(steps["nats"] - cost) < 5 * steps["standard_error"]).all()
    np.testing.assert_allclose(steps["time"], times[1:], atol=1e-12)
    np.testing.assert_allclose(steps["log_snr"], log_snr[1:], rtol=1e-12)
    prior, decoder = frame["nats"].iloc[[0, -1]]
    assert prior == pytest.approx(0.5 * math.exp(log_snr[0]) * x.square().sum(1).mean().item(), rel=1e-6)
    assert decoder == pytest.approx(1.5 * (math.log(2 * math.pi) + 1 - log_snr[-1]), rel=1e-12)


@pytest.mark.parametrize("noising", NOISINGS)
def test_distortion_over_rate_is_the_closed_form_and_falls(exact, noising):
    flow, x = exact(3, noising)
    frame = describe_steps(flow, x, steps=12)
    variances = left(flow.denoiser, torch.linspace(1, 0, 13, dtype=torch.float64))
    squared = frame["distortion"].iloc[:-1] ** 2
    error = np.sqrt(2 * (variances**2).sum(1) / ROWS) / 3  # of a mean of chi-squares
    assert (np.abs(squared - variances.mean(1)) < 5 * error).all()
    assert (np.diff(frame["rate"].iloc[:-1]) > 0).all()
    assert (np.diff(frame["distortion"].iloc[:-1]) < 0).all()
    assert np.isnan(frame["distortion"].iloc[-1])


@pytest.mark.parametrize("noising", NOISINGS)
def test_the_terms_sum_to_the_bound_of_the_chain(exact, noising):
    flow, x = exact(2, noising)
    frame = describe_steps(flow, x, steps=8)
    terms = elbo().evaluate(DiffusionChain(flow, steps=8), x, num_particles=4)
    bound = terms["log_lik"] - terms["kl"]
    in_bits = 2 * math.log(2)
    assert frame["nats"].sum() == pytest.approx(frame["rate"].iloc[-1] * in_bits, rel=1e-12)
    error = math.hypot(frame["rate_error"].iloc[-1] * in_bits, bound.std().item() / ROWS**0.5)
    assert -frame["nats"].sum() == pytest.approx(bound.mean().item(), abs=4 * error)
    assert (frame["nats"].cumsum() / in_bits).to_numpy() == pytest.approx(frame["rate"].to_numpy(), rel=1e-12)


def test_more_steps_bring_the_rate_down_to_the_entropy(exact):
    flow, x = exact(2)
    entropy = flow.denoiser.target.entropy().item() / (2 * math.log(2))
    rates = [describe_steps(flow, x, steps=steps)["rate"].iloc[-1] for steps in (4, 16, 64, 512)]
    error = describe_steps(flow, x, steps=4)["rate_error"].iloc[-1]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(entropy, abs=4 * error + 0.01)


def test_of_levels_the_last_rate_is_the_probability_of_their_cells(exact):
    flow, x = exact(2, rows=10)
    density, levels = describe_steps(flow, x, steps=4), describe_steps(flow, x, steps=4, cell=2 / 256)
    assert levels["rate"].iloc[-1] == pytest.approx(density["rate"].iloc[-1] + 7, rel=1e-12)
    pd.testing.assert_frame_equal(levels.iloc[:-1], density.iloc[:-1])


def test_a_chain_of_learned_variances_is_summed_too():
    torch.manual_seed(0)
    network = TimeMLP(2, width=16, outputs=4)
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    flow = ProbabilityFlow(Denoiser(network, CosineNoising(), "preconditioned", learned_variance=True), (2,)).double()
    x = torch.randn(ROWS, 2, dtype=torch.float64)
    frame = describe_steps(flow, x, steps=6)
    terms = elbo().evaluate(DiffusionChain(flow, steps=6), x)
    bound = (terms["log_lik"] - terms["kl"]).detach()
    error = math.hypot(frame["rate_error"].iloc[-1] * 2 * math.log(2), bound.std().item() / ROWS**0.5)
    assert -frame["nats"].sum() == pytest.approx(bound.mean().item(), abs=4 * error)


def test_a_context_and_images_are_passed_on():
    torch.manual_seed(0)
    denoiser = Denoiser(TimeMLP(2, width=16, context_features=3), LinearNoising())
    torch.nn.init.normal_(denoiser.network.leave.weight, std=0.3)
    flow = ProbabilityFlow(denoiser, (2,), context_features=3)
    x, context = torch.randn(9, 2), torch.randn(9, 3)
    frames = [describe_steps(flow, x, steps=2, context=given) for given in (context, context + 1)]
    assert not np.allclose(frames[0]["nats"], frames[1]["nats"])
    images = ProbabilityFlow(Denoiser(UNet(1, [8], 1), CosineNoising(), event_dim=3), (1, 8, 8))
    assert describe_steps(images, np.zeros((3, 1, 8, 8)), steps=2)["nats"].isna().sum() == 0
    panels = plot_progressive_generation(images, 2, columns=3, steps=4, axes=Figure().subplots(3))
    assert panels[0].images[0].get_array().shape == (17, 8, 4)


def test_the_seed_decides_and_no_other_draw_is_disturbed(exact):
    flow, x = exact(2, rows=20)
    state = torch.get_rng_state()
    first, again, other = (describe_steps(flow, x, steps=3, seed=seed) for seed in (0, 0, 1))
    plot_progressive_generation(flow, 10, columns=2, steps=3, axes=Figure().subplots(2))
    assert torch.equal(torch.get_rng_state(), state)
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_pictures_show_the_table(exact):
    flow, x = exact(2, rows=200)
    frame = describe_steps(flow, x, steps=10)
    ax = plot_steps(frame, Figure().subplots())
    steps = frame[frame["term"] == "step"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), steps[["time", "nats"]].to_numpy())
    assert ax.get_xlim()[0] > ax.get_xlim()[1]
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert shown == [
        f"10 steps: {steps['nats'].sum():.3g} in all",
        f"prior: {frame['nats'].iloc[0]:.3g}",
        f"decoder: {frame['nats'].iloc[-1]:.3g}",
    ]
    curve = plot_rate_distortion(frame, Figure().subplots())
    np.testing.assert_array_equal(curve.lines[0].get_xydata(), frame[["rate", "distortion"]].to_numpy()[:-1])
    assert f"take {frame['rate'].iloc[-1]:.3f} ± " in describe_rate_distortion(frame)


def test_where_half_of_the_distortion_is_gone_is_said(exact):
    flow, x = exact(2)
    sentence = describe_rate_distortion(describe_steps(flow, x, steps=200))
    frame = describe_steps(flow, x, steps=200).iloc[:-1]
    half = frame[frame["distortion"] <= 0.5 * frame["distortion"].iloc[0]].index[0]
    low, high = frame["rate"].loc[half - 1], frame["rate"].loc[half]
    said = float(sentence.split("after ")[1].split(" ")[0])
    assert low - 1e-3 <= said <= high + 1e-3


def test_estimates_go_from_the_mean_to_the_data(exact):
    flow, _ = exact(2)
    panels = plot_progressive_generation(flow, ROWS, columns=5, steps=200, axes=Figure().subplots(5))
    assert [panel.get_title() for panel in panels] == ["time 1", "0.75", "0.5", "0.25", "0"]
    points = [np.asarray(panel.collections[0].get_offsets()) for panel in panels]
    target = flow.denoiser.target
    np.testing.assert_allclose(points[0], np.tile(target.mean, (ROWS, 1)), atol=0.05)
    covariance = target.covariance_matrix.numpy()
    for time, estimates in zip((0.5, 0.0), (points[2], points[4]), strict=True):
        # What is expected of the data varies by what is known of them.
        known = np.trace(covariance) - left(flow.denoiser, torch.tensor([time]).double()).sum()
        error = np.sqrt(2 * (covariance**2).sum() / ROWS)
        assert np.trace(np.cov(estimates.T)) == pytest.approx(known, abs=4 * error + 0.02 * known)


def test_more_steps_make_samples_harder_to_tell_from_data(exact):
    flow, x = exact(2, rows=150)
    frame = sampler_quality(flow, x, samplers=["ddim"], steps=[2, 100])
    few, many = frame["accuracy"]
    assert few > 0.65 > 0.6 > many
    assert frame["squared_mmd"].is_monotonic_decreasing
    assert frame["p_value"].iloc[0] < 0.01 < frame["p_value"].iloc[1]
    panels = plot_sampler_quality(frame, Figure().subplots(2))
    np.testing.assert_array_equal(panels[1].lines[0].get_xydata(), frame[["steps", "squared_mmd"]].to_numpy())
    assert describe_sampler_quality(frame).startswith("ddim with 100 steps is within one standard error")


def test_what_cannot_be_is_refused(exact):
    flow, x = exact(3, rows=5)
    with pytest.raises(DataError, match=r"x has the shape \(5, 2\), expected .* event shape \(3,\)"):
        describe_steps(flow, x[:, :2])
    with pytest.raises(DataError, match="1 of 5 rows of x hold NaN"):
        describe_steps(flow, x.masked_fill(x == x[2], math.nan))
    with pytest.raises(OptionError, match="steps=0"):
        describe_steps(flow, x, steps=0)
    with pytest.raises(OptionError, match="cell=0"):
        describe_steps(flow, x, cell=0)
    with pytest.raises(DataError, match=r"event shape \(3,\) is neither that of images nor \(2,\)"):
        plot_progressive_generation(flow)
    with pytest.raises(DataError, match="got 2 axes, expected one for each of 3 times"):
        plot_progressive_generation(exact(2)[0], 5, columns=3, steps=4, axes=Figure().subplots(2))
