"""Moments and forms of the categorical over levels."""

import torch

from ppl_genmodels.distributions import LevelCategorical

LOGITS = torch.tensor([[0.3, -1.0, 0.8, 0.0, 2.0], [-3.0, 1.0, 1.0, 0.5, 0.0]])


def test_mean_and_variance_are_those_of_draws():
    torch.manual_seed(0)
    draws = 100_000
    distribution = LevelCategorical(logits=LOGITS)
    levels = distribution.sample((draws,)).double()
    standard_error = levels.std(0) / draws**0.5
    assert ((levels.mean(0) - distribution.mean).abs() < 4 * standard_error).all()
    fourth = (levels - levels.mean(0)).pow(4).mean(0)
    variance_error = ((fourth - levels.var(0).square()) / draws).sqrt()
    assert ((levels.var(0) - distribution.variance).abs() < 4 * variance_error).all()


def test_expanding_keeps_the_moments():
    expanded = LevelCategorical(logits=LOGITS).expand((3, 2)).to_event(1)
    assert expanded.event_shape == (2,)
    exact = LOGITS.softmax(-1) @ torch.arange(5.0)
    torch.testing.assert_close(expanded.mean, exact.expand(3, 2))


def test_levels_of_a_floating_dtype_have_the_same_log_density():
    distribution = LevelCategorical(logits=LOGITS)
    levels = torch.tensor([4, 1])
    torch.testing.assert_close(distribution.log_prob(levels.float()), distribution.log_prob(levels))


def test_the_mean_has_the_dtype_of_the_logits():
    assert LevelCategorical(logits=LOGITS.double()).mean.dtype is torch.float64
