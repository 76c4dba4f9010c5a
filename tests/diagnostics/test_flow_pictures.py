"""Densities, samples beside data, paths through layers, evaluations: pictures of flows, held against closed forms."""

import re

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure
from scipy.integrate import trapezoid
from scipy.stats import norm
from torch import nn
from torch.distributions.transforms import AffineTransform, ComposeTransform, TanhTransform

import ppl_genmodels as ppl
from ppl_genmodels.diagnostics import (
    describe_density,
    describe_evaluations,
    describe_layers,
    describe_samples_and_data,
    plot_density,
    plot_evaluations,
    plot_layers,
    plot_samples_and_data,
)
from ppl_genmodels.diagnostics.layers import MOST_PANELS, POINTS
from ppl_genmodels.diagnostics.samples_and_data import MOST_COLUMNS
from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import DataError, ProgramError, UnknownNameError
from ppl_genmodels.transforms import ActNorm, Continuous, Coupling

LOC, SCALE = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0])
NORMAL = dist.Normal(LOC, SCALE).to_event(1)
LIMITS = ((-1.0, 3.0), (-10.0, 6.0))


class Independent(nn.Module):
    """Rows from two normals; as many latents beside as are asked for."""

    def __init__(self, features=2, latents=0):
        super().__init__()
        self.latents = latents
        self.register_buffer("loc", LOC.repeat(features)[:features])
        self.register_buffer("scale", SCALE.repeat(features)[:features])

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            for number in range(self.latents):
                pyro.sample(f"z{number}", dist.Normal(self.loc[0], self.scale[0]))
            pyro.sample("x", dist.Normal(self.loc, self.scale).to_event(1), obs=x)

    def guide(self, x=None):
        with pyro.plate("data", len(x)):
            for number in range(self.latents):
                pyro.sample(f"z{number}", dist.Normal(self.loc[0], self.scale[0]))


def mesh_of(ax):
    """Places across and up, and the values there."""
    (mesh,) = ax.collections[:1]
    corners = mesh.get_coordinates()
    across, up = (0.5 * (edge[1:] + edge[:-1]) for edge in (corners[0, :, 0], corners[:, 0, 1]))
    return across, up, np.asarray(mesh.get_array()).reshape(len(up), len(across))


def table(columns, rows=400, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns))


class Drawn:
    """A fitted program that draws what it is told."""

    program = None

    def __init__(self, features):
        program = ppl.as_program(Independent(features))
        self.structure = program.structure(torch.zeros(2, features))


class FittedNormal:
    """What was fitted of the program above, by its surface alone."""

    def __init__(self):
        self.program = Independent()
        self.structure = ppl.as_program(self.program).structure(torch.zeros(2, 2))

    def log_evidence(self, data, num_particles):
        return NORMAL.log_prob(data)


SOURCES = {"distribution": lambda: NORMAL, "program": Independent, "fitted": FittedNormal}


@pytest.mark.parametrize("source", SOURCES)
def test_colours_are_the_density_whatever_it_comes_from(source):
    ax = plot_density(SOURCES[source](), limits=LIMITS, ax=Figure().subplots())
    across, up, values = mesh_of(ax)
    assert (across[0], across[-1], up[0], up[-1]) == pytest.approx((-1, 3, -10, 6), abs=1e-9)
    expected = norm.pdf(up, -2, 2)[:, None] * norm.pdf(across, 1, 0.5)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-7)


def test_the_mass_and_the_mean_log_density_are_those_of_the_distribution():
    points = np.array([[1.0, -2.0], [1.5, 0.0], [0.0, 1.0]])
    sentence = describe_density(NORMAL, points, limits=((0.5, 2.0), (-12.0, 0.0)))
    mass = (norm.cdf(2) - norm.cdf(-1)) * (norm.cdf(1) - norm.cdf(-5))
    found = re.findall(r"-?\d+\.\d+", sentence)
    assert float(found[0]) == pytest.approx(100 * mass, abs=0.06)
    expected = (norm.logpdf(points, LOC.numpy(), SCALE.numpy())).sum(1)
    assert float(found[1]) == pytest.approx(expected.mean(), abs=6e-4)
    assert float(found[2]) == pytest.approx(expected.std() / 3**0.5, abs=6e-4)


def test_the_grid_covers_data_or_draws_and_random_numbers_stay():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    points = table(2)
    ax = plot_density(NORMAL, points)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < points[:, 0].min() < points[:, 0].max() < right
    assert bottom < points[:, 1].min() < points[:, 1].max() < top
    assert float(re.findall(r"\d+\.\d", describe_density(NORMAL))[0]) > 95
    assert torch.equal(torch.get_rng_state(), before)


def test_data_lie_over_the_density():
    points = table(2, rows=40)
    ax = plot_density(Independent(), points)
    np.testing.assert_allclose(np.asarray(ax.collections[1].get_offsets()), points)


@pytest.mark.parametrize(
    ("source", "data", "limits", "error", "words"),
    [
        (Independent(latents=1), None, None, ProgramError, r"latent sites \['z0'\]"),
        (Independent(features=3), None, None, DataError, r"event shape \(3,\), expected \(2,\)"),
        (dist.Normal(0.0, 1.0), None, None, DataError, r"event shape \(\), expected \(2,\)"),
        (NORMAL, table(3), None, DataError, r"shape \(400, 3\), expected \(rows, 2\)"),
        (NORMAL, None, ((1.0, 0.0), (0.0, 1.0)), DataError, "expected .*lowest, highest"),
    ],
)
def test_what_has_no_density_of_pairs_is_refused(source, data, limits, error, words):
    with pytest.raises(error, match=words):
        plot_density(source, data, limits=limits)


def test_the_distance_of_marginals_is_the_one_between_distribution_functions():
    quantiles = norm.ppf((np.arange(2000) + 0.5) / 2000)
    data = np.stack([quantiles, quantiles[::-1], np.roll(quantiles, 700)], -1)
    sentence = describe_samples_and_data(Drawn(3), data, samples=data + np.array([0.0, 0.6, 0.2]))
    assert "is that of x[1]" in sentence
    exact = norm.cdf(0.3) - norm.cdf(-0.3)
    assert float(re.findall(r"distance of (\d\.\d+)", sentence)[0]) == pytest.approx(exact, abs=0.006)
    assert "2 of 3 exceed 0.04" in sentence


def test_the_correlation_that_differs_most_is_named():
    data, samples = table(3, 4000), table(3, 4000, seed=1)
    samples[:, 2] = 0.8 * samples[:, 0] + 0.6 * samples[:, 2]
    sentence = describe_samples_and_data(Drawn(3), data, samples=samples)
    found = re.search(r"x\[0\] and x\[2\]: (\S+) in samples, (\S+) in data", sentence)
    assert float(found[1]) == pytest.approx(0.8, abs=4 * 0.36 / 4000**0.5)
    assert float(found[2]) == pytest.approx(0.0, abs=4 / 4000**0.5)


def test_of_many_columns_those_that_differ_most_are_drawn_in_their_order():
    data = table(9)
    shift = np.array([0, 3, 0, 2, 0, 5, 1.5, 0, 4])
    panels = plot_samples_and_data(Drawn(9), data, samples=data + shift)
    assert panels.shape == (MOST_COLUMNS, MOST_COLUMNS)
    assert [panel.get_xlabel() for panel in panels[-1]] == ["x[1]", "x[3]", "x[5]", "x[6]", "x[8]"]


def test_a_frame_names_its_columns_and_some_may_be_chosen():
    frame = pd.DataFrame(table(4), columns=["ash", "hue", "alcohol", "proline"])
    axes = Figure().subplots(2, 2)
    panels = plot_samples_and_data(Drawn(4), frame, columns=["proline", 1], samples=table(4, seed=1), axes=axes)
    assert [panel.get_xlabel() for panel in panels[-1]] == ["proline", "hue"]
    assert panels is axes or (panels == axes).all()
    with pytest.raises(UnknownNameError, match="no column 'hues'"):
        plot_samples_and_data(Drawn(4), frame, columns=["hues"], samples=frame)


def test_points_of_data_and_samples_stand_in_their_panel():
    data, samples = table(3, rows=50), table(3, rows=50, seed=1)
    panels = plot_samples_and_data(Drawn(3), data, samples=samples)
    of_data, of_samples = (np.asarray(dots.get_offsets()) for dots in panels[2, 1].collections)
    np.testing.assert_array_equal(of_data, data[:, [1, 2]])
    np.testing.assert_array_equal(of_samples, samples[:, [1, 2]])
    assert not panels[0, 2].axison
    assert len(panels[1, 1].patches) > 8


def test_missing_rows_are_left_out_and_other_shapes_refused():
    data = table(2, rows=30)
    data[3, 1] = np.nan
    panels = plot_samples_and_data(Drawn(2), data, samples=table(2))
    assert len(panels[1, 0].collections[0].get_offsets()) == 29
    with pytest.raises(DataError, match="the data have no row without missing values"):
        plot_samples_and_data(Drawn(2), np.full((3, 2), np.nan), samples=data)
    with pytest.raises(DataError, match=r"event shape \(2,\) and the data the shape \(400, 3\)"):
        describe_samples_and_data(Drawn(2), table(3), samples=data)


def normal_flow(*transforms):
    return Flow(dist.Normal(torch.zeros(2), 1.0).to_event(1), transforms)


def offsets(panel):
    return np.asarray(panel.collections[0].get_offsets())


def test_each_panel_holds_the_same_points_one_layer_on():
    torch.manual_seed(0)
    layers = [Coupling(2, (8,)), Coupling(2, (8,), swap=True), ActNorm(2)]
    with torch.no_grad():
        for parameter in nn.ModuleList(layers).parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    panels = plot_layers(normal_flow(*layers))
    assert [panel.get_title() for panel in panels] == ["noise", "1: Coupling", "2: Coupling", "3: ActNorm"]
    points = torch.as_tensor(offsets(panels[0]), dtype=torch.float32)
    assert points.shape == (POINTS, 2)
    for layer, panel in zip(layers, panels[1:], strict=True):
        points = layer(points).detach()
        np.testing.assert_allclose(offsets(panel), points.numpy(), atol=1e-4)
    colours = [panel.collections[0].get_array() for panel in panels]
    assert all(np.array_equal(colour, colours[0]) for colour in colours)


def test_log_volumes_are_summed_over_layers_and_the_largest_is_named():
    stretch = AffineTransform(torch.zeros(2), torch.tensor([2.0, 5.0]))
    parts = ComposeTransform([AffineTransform(1.0, 0.5), stretch])
    sentence = describe_layers(normal_flow(parts, AffineTransform(0.0, 4.0).inv))
    total, most = np.log(0.25 * 10 / 16), np.log(1 / 16)
    assert f"change by {total:.2f} nats" in sentence
    assert f"the most, {most:.2f}, in layer 3 (inverse AffineTransform)" in sentence


def test_the_mean_log_volume_is_that_over_the_base():
    x = np.linspace(-9, 9, 20001)
    slope = trapezoid(norm.pdf(x) * np.log(1 - np.tanh(x) ** 2 + 1e-300), x)
    spread = trapezoid(norm.pdf(x) * (np.log(1 - np.tanh(x) ** 2 + 1e-300) - slope) ** 2, x) ** 0.5
    found = float(re.findall(r"by (-?\d+\.\d+) nats", describe_layers(normal_flow(TanhTransform())))[0])
    assert found == pytest.approx(2 * slope, abs=4 * spread * (2 / POINTS) ** 0.5)


def test_of_many_layers_some_are_shown_noise_and_data_among_them():
    panels = plot_layers(normal_flow(*[ActNorm(2) for _ in range(23)]))
    titles = [panel.get_title() for panel in panels]
    assert len(titles) == MOST_PANELS
    assert (titles[0], titles[-1]) == ("noise", "23: ActNorm")
    assert len(plot_layers(normal_flow(ActNorm(2), ActNorm(2)), Figure().subplots(2))) == 2


def test_a_continuous_layer_shows_points_on_their_way():
    class Turning(nn.Module):
        def forward(self, x, time):
            return torch.stack([-x[..., 1], x[..., 0]], -1)

    panels = plot_layers(normal_flow(Continuous(2, network=Turning())))
    assert [panel.get_title() for panel in panels[1:]] == ["1: at 0.25", "1: at 0.5", "1: at 0.75", "1: Continuous"]
    start = offsets(panels[0]) @ np.array([1.0, 1.0j])
    for time, panel in zip((0.25, 0.5, 0.75, 1.0), panels[1:], strict=True):
        np.testing.assert_allclose(offsets(panel) @ np.array([1.0, 1.0j]), start * np.exp(1j * time), atol=1e-3)


def test_what_is_no_flow_of_pairs_has_no_layers():
    with pytest.raises(DataError, match="expected a flow of pairs"):
        plot_layers(NORMAL)
    with pytest.raises(ProgramError, match=r"none of the sites \['x'\]"):
        plot_layers(Independent())


def test_fitted_values_of_param_statements_are_not_made_up():
    def model(x=None):
        loc = pyro.param("loc", torch.zeros(2))
        with pyro.plate("data", 1 if x is None else len(x)):
            flow = Flow(dist.Normal(loc, 1.0).to_event(1), [AffineTransform(0.0, 2.0)])
            pyro.sample("x", flow, obs=x)

    fitted = ppl.fit(model, table(2), steps=2, progress=False)
    with pytest.raises(ProgramError, match=r"\['loc'\] are not at hand"):
        plot_layers(fitted)


class Recorded:
    def __init__(self, counts):
        self.counts, self.steps = counts, list(range(0, 10 * len(counts), 10))


def test_evaluations_are_drawn_over_steps_and_told():
    callback = Recorded([14] * 20 + [20] * 15 + [50] + [26] * 4)
    ax = plot_evaluations(callback)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), np.stack([callback.steps, callback.counts], -1))
    assert ax.get_ylim()[0] == 0 < 50 < ax.get_ylim()[1]
    sentence = describe_evaluations(callback)
    assert "14 in the first tenth of training, 26 in the last; the most, 50, at step 350" in sentence


def test_nothing_recorded_is_said():
    with pytest.raises(DataError, match="nothing was recorded"):
        plot_evaluations(Recorded([]))


@pytest.mark.parametrize(("columns", "pictures"), [(2, {"density", "layers"}), (4, set())])
def test_the_report_of_a_flow_shows_what_fits(tmp_path, columns, pictures):
    torch.manual_seed(0)
    program = ppl.models.SplineFlow(columns, layers=1, hidden=(8,))
    x = table(columns)
    fitted = ppl.fit(program, x, steps=3, progress=False)
    fitted.report(tmp_path / "report", x)
    found = {path.stem for path in (tmp_path / "report").glob("*.png")}
    assert found == {"training", "gradient", "samples", "samples_and_data"} | pictures
    assert "Not shown" not in (tmp_path / "report" / "index.html").read_text()
