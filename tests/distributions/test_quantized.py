"""Levels seen of continuous values: cells, draws, probabilities as integrals of densities."""

import pyro.distributions as dist
import pytest
import torch

from ppl_genmodels.distributions import CellUniform, Quantized
from ppl_genmodels.distributions.quantized import level_of
from ppl_genmodels.errors import OptionError

GREY = torch.arange(4) / 3


def test_the_log_density_is_zero_in_the_cell_and_minus_infinity_outside():
    values = torch.tensor([-7.0, 0.5, 1.5, 2.5, 3.5, 9.0])
    density = torch.stack([Quantized(values, 4).log_prob(level.expand(6)).exp() for level in GREY], -1)
    cell = torch.tensor([0, 0, 1, 2, 3, 3])
    assert torch.equal(density, torch.nn.functional.one_hot(cell, 4).float())


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_draw_is_in_its_own_cell(levels):
    torch.manual_seed(0)
    seen = Quantized((levels + 2) * torch.rand(2000) - 1, levels)
    x = seen.sample()
    assert torch.equal(x, seen.mean)
    assert (seen.log_prob(x) == 0).all()
    assert seen.support.check(x).all()
    assert not seen.variance.any()


def test_bytes_divided_by_255_are_their_own_levels():
    level = torch.arange(256)
    assert torch.equal(level_of(level / 255, 256), level.float())


def test_probabilities_of_levels_are_integrals_over_cells():
    """By draws of a Normal, whose cells have known probabilities; five standard errors."""
    torch.manual_seed(1)
    normal, count = dist.Normal(1.3, 1.1), 20_000
    edges = normal.cdf(torch.tensor([-torch.inf, 1.0, 2.0, 3.0, torch.inf]))
    x = Quantized(normal.sample((count,)), 4).sample()
    share = torch.stack([(level_of(x, 4) == k).float().mean() for k in range(4)])
    exact = edges.diff()
    assert ((share - exact).abs() < 5 * (exact * (1 - exact) / count).sqrt()).all()


def test_uniform_draws_stay_in_their_cells():
    """Where rounding would put one in 250 000 on the upper end."""
    torch.manual_seed(2)
    level = torch.full((3_000_000,), 100.0)
    cell = CellUniform(level)
    drawn = cell.rsample()
    assert torch.equal(drawn.floor(), level)
    assert (cell.log_prob(drawn) == 0).all()
    assert (dist.Uniform(level, level + 1).rsample() >= 101).any()  # else this test would show nothing
    error = (1 / 12) ** 0.5 / 3_000_000**0.5
    assert abs((drawn.double() - 100).mean().item() - 0.5) < 5 * error + 1e-5


def test_shapes_follow_torch():
    seen = Quantized(torch.rand(3, 1, 2, 2), 4).to_event(3)
    assert (seen.batch_shape, seen.event_shape) == ((3,), (1, 2, 2))
    assert seen.expand((7, 3)).sample().shape == (7, 3, 1, 2, 2)
    assert seen.expand((7, 3)).log_prob(torch.zeros(3, 1, 2, 2)).shape == (7, 3)
    cell = CellUniform(torch.zeros(3, 1, 2, 2)).to_event(3).expand((7, 3))
    assert cell.rsample().shape == (7, 3, 1, 2, 2)


def test_double_precision_is_kept():
    values = torch.rand(3, dtype=torch.float64)
    assert Quantized(values, 4).log_prob(GREY[:3].double()).dtype == torch.float64
    assert CellUniform(values.floor()).rsample().dtype == torch.float64


def test_what_is_no_grey_level_is_refused():
    with pytest.raises(ValueError, match="support"):
        Quantized(torch.zeros(1), 4, validate_args=True).log_prob(torch.tensor([0.5]))
    with pytest.raises(OptionError, match=r"levels=1, expected 2 or more. Remedy"):
        Quantized(torch.zeros(1), 1)
