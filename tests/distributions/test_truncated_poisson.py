"""The truncated Poisson against the Poisson's own probabilities."""

import pytest
import torch
from scipy import stats
from torch.distributions import kl_divergence

from ppl_genmodels.distributions import TruncatedPoisson
from ppl_genmodels.errors import OptionError

RATES = [0.05, 1.0, 7.5]
HIGH = 5


def probabilities(rate):
    """Those of a Poisson, divided by what lies below the bound."""
    known = stats.poisson(rate)
    return torch.tensor(known.pmf(range(HIGH + 1)) / known.cdf(HIGH))


@pytest.mark.parametrize("rate", RATES)
def test_probabilities_are_a_poissons_in_proportion(rate):
    fn = TruncatedPoisson(torch.tensor(rate, dtype=torch.float64), HIGH)
    counts, asked = torch.arange(HIGH + 1.0, dtype=torch.float64), probabilities(rate)
    torch.testing.assert_close(fn.log_prob(counts).exp(), asked)
    torch.testing.assert_close(fn.mean, (asked * counts).sum())
    torch.testing.assert_close(fn.variance, (asked * counts**2).sum() - (asked * counts).sum() ** 2)
    torch.testing.assert_close(fn.entropy(), -(asked * asked.log()).sum())


def test_draws_have_these_probabilities():
    torch.manual_seed(0)
    drawn = TruncatedPoisson(torch.tensor(2.0), HIGH).sample((5000,))
    counts = torch.bincount(drawn.long(), minlength=HIGH + 1)
    assert stats.chisquare(counts.numpy(), 5000 * probabilities(2.0).numpy()).pvalue > 1e-3


def test_the_divergence_is_the_sum_over_counts():
    one, other = (TruncatedPoisson(torch.tensor(rate), HIGH) for rate in (1.0, 3.0))
    asked = (probabilities(1.0) * (probabilities(1.0) / probabilities(3.0)).log()).sum()
    torch.testing.assert_close(kl_divergence(one, other).double(), asked, rtol=1e-5, atol=0)
    assert kl_divergence(TruncatedPoisson(torch.tensor(1.0), HIGH + 1), other) == torch.inf


def test_it_expands_and_lists_its_counts():
    fn = TruncatedPoisson(torch.ones(3), 2).expand((4, 3))
    assert fn.sample().shape == fn.log_prob(torch.zeros(3)).shape == (4, 3)
    assert fn.enumerate_support().shape == (3, 4, 3)
    assert fn.enumerate_support(expand=False).shape == (3, 1, 1)


def test_a_bound_that_is_no_positive_integer_is_refused():
    with pytest.raises(OptionError, match="TruncatedPoisson: high=0"):
        TruncatedPoisson(torch.ones(()), 0)


def test_values_outside_are_refused():
    with pytest.raises(ValueError, match="support"):
        TruncatedPoisson(torch.ones(()), 2, validate_args=True).log_prob(torch.tensor(3.0))
