"""Flows of images: densities by autodiff, probabilities of levels by quadrature, and bounds on them."""

import json
import math
from itertools import pairwise

import pytest
import torch
from torch.autograd.functional import jacobian

from ppl_genmodels import data, fit, handlers, load
from ppl_genmodels import objectives as obj
from ppl_genmodels.diagnostics import bits_per_dimension
from ppl_genmodels.errors import DataError, OptionError, ProgramError
from ppl_genmodels.inference.predictive import sample_prior
from ppl_genmodels.models import Glow, ImageFlow, RealNVP
from ppl_genmodels.program import as_program
from ppl_genmodels.transforms import ActNorm, PixelSigmoid
from ppl_genmodels.transforms.image_coupling import CheckerboardCoupling

LEVELS, PARTICLES = 4, 20_000
PROGRAMS = {
    "glow": lambda **options: Glow((1, 4, 4), LEVELS, 1, 2, 5, **options),
    "glow in colour": lambda **options: Glow((3, 2, 2), LEVELS, 2, 1, 5, **options),
    "real_nvp": lambda **options: RealNVP((1, 4, 4), LEVELS, 2, 2, 5, **options),
    "real_nvp on three scales": lambda **options: RealNVP((1, 4, 4), LEVELS, 1, 3, 5, **options),
}


def moved(program, amount=0.2):
    """A program away from where it starts, in double precision."""
    torch.manual_seed(0)
    program.double()
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.add_(amount * torch.randn_like(parameter))
    return program


def grey(program, rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(LEVELS, (rows, *program.image_shape), generator=generator).double() / (LEVELS - 1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_density_of_a_continuous_image_is_that_of_its_noise_and_the_jacobian(name):
    program = moved(PROGRAMS[name]())
    flow, shape = program.density(), program.zeros.shape

    def carried(noise):
        value = noise.reshape(shape)
        for transform in flow.transforms:
            value = transform(value)
        return value.reshape(-1)

    noise = torch.randn(program.zeros.numel(), dtype=torch.float64)
    volume = torch.linalg.slogdet(jacobian(carried, noise))[1]
    expected = flow.base_dist.log_prob(noise.reshape(shape)) - volume
    torch.testing.assert_close(flow.log_prob(carried(noise).reshape(program.image_shape)), expected)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("dequantization", ["uniform", "variational"])
def test_the_guide_stays_in_the_cells_and_knows_its_density(name, dequantization):
    """The mean of 1/q over draws of q is the volume of the cell, 1; five standard errors."""
    program = moved(PROGRAMS[name](dequantization=dequantization), 0.05)
    x = grey(program, 1)
    run = obj.Run(as_program(program), (x,), {}, 4000)
    v, log_q = run.guide.nodes["v"]["value"], run.log_prob(run.guide.nodes.values())
    assert ((v - x * (LEVELS - 1)) >= 0).all()
    assert ((v - x * (LEVELS - 1)) <= 1).all()
    assert (run.model.nodes["x"]["fn"].log_prob(x) == 0).all()
    ratio = (-log_q.detach()).exp().flatten()
    assert abs(ratio.mean().item() - 1) <= 5 * ratio.std().item() / math.sqrt(len(ratio)) + 1e-9


class OnePixel(ImageFlow):
    """Noise on the line, scaled and moved, seen as one pixel."""

    def __init__(self, dequantization, margin):
        super().__init__((1, 1, 1), LEVELS, [ActNorm(1, event_dim=3)], dequantization, 4)
        self.pixels = PixelSigmoid(LEVELS, margin)


def one_pixel(dequantization, margin):
    program = moved(OnePixel(dequantization, margin))
    with torch.no_grad():
        program.transform[0].loc.fill_(0.4)
        program.transform[0].log_scale.fill_(-0.3)
    return program


def by_quadrature(program, low, high, points=20_001):
    grid = torch.linspace(low, high, points, dtype=torch.float64)
    density = program.density().log_prob(grid.reshape(-1, 1, 1, 1)).exp().detach()
    return torch.trapezoid(density, grid).item()


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_probabilities_of_the_levels_sum_to_one(margin):
    program = one_pixel("uniform", margin)
    beyond = LEVELS * margin / (1 - 2 * margin)
    edges = [-beyond, 1.0, 2.0, 3.0, LEVELS + beyond]
    cells = [by_quadrature(program, low, high) for low, high in pairwise(edges)]
    logits = program.pixels.inv(torch.tensor(edges[1:-1], dtype=torch.float64))
    normal = torch.distributions.Normal(0.4, math.exp(-0.3))
    exact = torch.cat([torch.zeros(1), normal.cdf(logits), torch.ones(1)]).diff()
    assert sum(cells) == pytest.approx(1.0, abs=1e-5)
    assert cells == pytest.approx(exact.tolist(), abs=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.05])
@pytest.mark.parametrize("dequantization", ["uniform", "variational"])
def test_many_particles_give_the_probability_of_a_level_and_one_a_bound(dequantization, margin):
    """Within four standard errors; without a margin these are the probabilities that sum to one."""
    program = one_pixel(dequantization, margin)
    x = (torch.arange(LEVELS).double() / (LEVELS - 1)).reshape(-1, 1, 1, 1)
    exact = torch.tensor([by_quadrature(program, k, k + 1) for k in range(LEVELS)])
    torch.manual_seed(1)
    log_weight = obj.log_weight(obj.Run(as_program(program), (x,), {}, PARTICLES)).detach()
    weight = log_weight.exp()
    assert ((weight.mean(0) - exact).abs() < 4 * weight.std(0) / math.sqrt(PARTICLES)).all()
    elbo_error = log_weight.std(0) / math.sqrt(PARTICLES)
    assert (log_weight.mean(0) < exact.log() + 4 * elbo_error).all()
    assert (log_weight.mean(0) < exact.log() - 1e-3).any()


@pytest.mark.parametrize("kind", [Glow, RealNVP])
def test_fit_sets_actnorm_by_the_first_batch_and_raises_the_evidence(kind, tmp_path):
    x = data.load("digits", images=True).data[:256]
    program = kind((1, 8, 8), 17, 1, 2, 8)
    assert not any(layer.is_set for layer in program.modules() if isinstance(layer, ActNorm))
    fitted = fit(program, x, steps=40, batch_size=64, optimizer=lambda p: torch.optim.Adam(p, 5e-3), progress=False)
    assert all(layer.is_set for layer in program.modules() if isinstance(layer, ActNorm))
    history = fitted.history["objective"]
    assert history.iloc[-5:].mean() > history.iloc[:5].mean() + 10
    bounds = [fitted.log_evidence(x[:32], num_particles=count) for count in (1, 100)]
    assert bounds[0].mean() < bounds[1].mean()
    bits = bits_per_dimension(bounds[1], (1, 8, 8))
    assert 0 < bits.mean < math.log2(17)
    assert torch.equal(fitted.reconstruct(x[:5], 3)["x"], torch.from_numpy(x[:5]))
    drawn = fitted.sample(20, seed=0)["x"]
    torch.testing.assert_close(16 * drawn, (16 * drawn).round())
    fitted.save(tmp_path / "flow")
    again = load(tmp_path / "flow").log_evidence(x[:32], num_particles=1)
    torch.testing.assert_close(again, bounds[0])


def test_the_first_batch_leaves_standard_noise():
    """After one step at a standstill; rotations come after the last actnorm, and keep the mean variance."""
    x = torch.from_numpy(data.load("digits", images=True).data[:512])
    program = Glow((1, 8, 8), 17, 2, 1, 8)
    fit(program, x, steps=1, batch_size=512, optimizer=lambda p: torch.optim.SGD(p, 0.0), progress=False)
    v = 16 * x + torch.rand(x.shape)
    noise = program.transform.inv(program.pixels.inv(v)).detach()
    assert (noise.mean((0, 2, 3)).abs() < 0.05).all()
    assert abs(noise.var((0, 2, 3)).mean().item() - 1) < 0.05


def test_a_cold_flow_draws_one_image():
    program = as_program(moved(PROGRAMS["glow"]()))
    with handlers.temper(temperature=1e-6, sites="v"):
        cold = sample_prior(program, 3, seed=0)["v"]
    torch.testing.assert_close(cold, cold[:1].expand(3, 1, 4, 4), atol=1e-3, rtol=0)
    assert sample_prior(program, 3, seed=0)["v"].std(0).max() > 0.1


def test_a_bit_per_dimension_is_log_two():
    fair = torch.full((10,), -math.log(2.0) * 32)
    assert bits_per_dimension(fair, (2, 4, 4)) == pytest.approx((1.0, 0.0))
    assert str(bits_per_dimension(fair, (2, 4, 4))) == "1.000 ± 0.000 bits per dimension"
    assert math.isnan(bits_per_dimension(fair[:1], (2, 4, 4)).standard_error)
    with pytest.raises(DataError, match=r"shape \(\), expected \(rows,\).*Remedy"):
        bits_per_dimension(fair.sum(), (2, 4, 4))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Glow((1, 28, 28), scales=3), r"squeezed 3 times.*divisible by 8. Remedy"),
        (lambda: Glow((1, 7, 8)), r"image_shape=\(1, 7, 8\).*divisible by 4"),
        (lambda: RealNVP((1, 6, 6), scales=3), r"squeezed 2 times"),
        (lambda: Glow((1, 4, 4), levels=1), "levels=1, expected 2 or more"),
        (lambda: Glow((1, 4, 4), dequantization="none"), "dequantization is 'uniform' or 'variational', got 'none'"),
        (lambda: RealNVP((4, 4)), "expected 3"),
    ],
)
def test_options_that_cannot_be_are_refused(build, message):
    with pytest.raises(OptionError, match=message):
        build()


def test_data_that_are_no_grey_levels_are_refused():
    program = Glow((1, 4, 4), LEVELS, 1, 1, 4)
    for bad in (torch.full((2, 1, 4, 4), 0.5), torch.full((2, 1, 4, 4), 3.0)):
        with pytest.raises(DataError, match=r"32 values that are none of the 4 grey levels.*Remedy"):
            program.model(bad)
    with pytest.raises(DataError, match="expected"):
        program.guide(torch.zeros(2, 16))
    with pytest.raises(ProgramError, match="guide needs data"):
        program.guide()
    with pytest.raises(DataError, match=r"expected \(rows, channels, height, width\). Remedy"):
        Glow.options_for({"x": torch.zeros(5, 16).numpy()})


def test_options_are_read_off_images():
    digits = data.load("digits", images=True).data
    assert Glow.options_for({"x": digits}) == {"image_shape": (1, 8, 8), "levels": 17}
    assert json.dumps(RealNVP.options_for({"x": digits}))
    bytes_of_all = torch.arange(256).div(255).reshape(1, 1, 16, 16).numpy()
    assert Glow.options_for({"x": bytes_of_all})["levels"] == 256
    assert Glow.options_for({"x": 3 * digits}) == {"image_shape": (1, 8, 8)}


def test_contexts_of_other_channels_are_refused():
    layer, x = CheckerboardCoupling(1, 4, context_channels=2), torch.zeros(5, 1, 4, 4)
    assert layer.condition(torch.zeros(5, 2, 4, 4))(x).shape == x.shape
    for given in (layer, layer.condition(x)):
        with pytest.raises(OptionError, match=r"expected a context of 2 channels.*Remedy"):
            given(x)
