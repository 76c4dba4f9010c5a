"""What every likelihood obeys, and what each of them is."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ppl_genmodels.distributions import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    build_likelihood,
)
from ppl_genmodels.distributions.likelihood import LIKELIHOODS
from ppl_genmodels.errors import DataError, OptionError, ProgramError, UnknownNameError

SHAPES = [(6,), (2, 3, 4)]


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch", [(), (5,), (7, 5)])
def test_one_datum_has_one_log_density(name, shape, batch):
    likelihood = build_likelihood(name, shape, levels=5)
    distribution = likelihood(torch.randn(*batch, *likelihood.output_shape))
    assert distribution.batch_shape == batch
    assert distribution.event_shape == shape
    assert distribution.mean.shape == (*batch, *shape)
    drawn = distribution.sample()
    likelihood.check("Program", "x", drawn)
    assert distribution.log_prob(drawn).shape == batch


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_dtype_follows_the_module(name):
    likelihood = build_likelihood(name, (6,), levels=5).to(torch.float64)
    distribution = likelihood(torch.zeros(likelihood.output_shape, dtype=torch.float64))
    assert distribution.mean.dtype is torch.float64
    assert likelihood.features(distribution.sample()).dtype is torch.float64


def test_bernoulli_is_the_binary_cross_entropy():
    output, x = torch.randn(5, 6), torch.randint(0, 2, (5, 6)).float()
    expected = -binary_cross_entropy_with_logits(output, x, reduction="none").sum(-1)
    torch.testing.assert_close(BernoulliLikelihood((6,))(output).log_prob(x), expected)


def test_gaussian_has_one_learned_scale_for_all_pixels():
    likelihood = GaussianLikelihood((6,))
    assert [p.shape for p in likelihood.parameters()] == [()]
    output, x = torch.randn(5, 6), torch.randn(5, 6)
    optimizer = torch.optim.Adam(likelihood.parameters(), 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        (-likelihood(output).log_prob(x).mean()).backward()
        optimizer.step()
    best = (x - output).square().mean().sqrt()
    torch.testing.assert_close(likelihood.scale.detach(), best, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_categorical_is_the_cross_entropy_of_neighbouring_outputs(shape):
    likelihood = CategoricalLikelihood(shape, levels=5)
    output = torch.randn(4, *likelihood.output_shape)
    x = torch.randint(0, 5, (4, *shape))
    classes = output.reshape(4, shape[0], 5, *shape[1:]).transpose(1, 2)
    expected = -cross_entropy(classes, x, reduction="none").flatten(1).sum(-1)
    torch.testing.assert_close(likelihood(output).log_prob(x), expected)


def test_uniform_levels_cost_the_logarithm_of_their_number():
    likelihood = CategoricalLikelihood((3,), levels=256)
    log_prob = likelihood(torch.zeros(768)).log_prob(torch.tensor([0, 128, 255]))
    assert log_prob.item() == pytest.approx(-3 * math.log(256), rel=1e-6)


def test_the_features_of_levels_lie_between_zero_and_one():
    features = CategoricalLikelihood((3,), levels=17).features(torch.tensor([0, 8, 16]))
    assert features.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bernoulli", 0.5, "BernoulliLikelihood.*from 0 to 0.5.*binarise"),
        ("gaussian", math.inf, "GaussianLikelihood.*to inf.*infinite"),
        ("categorical", 17.0, "CategoricalLikelihood.*to 17.*integers 0 to 16"),
        ("categorical", -1.0, "CategoricalLikelihood.*from -1"),
        ("categorical", 2.5, "CategoricalLikelihood.*to 2.5"),
    ],
)
def test_data_outside_the_support_are_refused_with_a_remedy(name, value, message):
    likelihood = build_likelihood(name, (3,), levels=17)
    data = torch.tensor([0.0, math.nan, value])
    with pytest.raises(DataError, match=f"VAE: 'x' has 1 values that {message}"):
        likelihood.check("VAE", "x", data)
    with dist.validation_enabled(False):
        likelihood.check("VAE", "x", data)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_missing_values_pass_the_check(name):
    build_likelihood(name, (2,)).check("VAE", "x", torch.tensor([[math.nan, 1.0]]))


def test_an_output_of_another_shape_is_refused():
    with pytest.raises(ProgramError, match=r"shape \(5, 6\), expected \(..., 30\): 5 per pixel"):
        CategoricalLikelihood((6,), levels=5)(torch.zeros(5, 6))


def test_an_unknown_name_and_a_single_level_are_refused():
    with pytest.raises(UnknownNameError, match=r"no likelihood 'gausian'. Did you mean 'gaussian'"):
        build_likelihood("gausian", (6,))
    with pytest.raises(OptionError, match="levels=1, expected 2 or more"):
        build_likelihood("categorical", (6,), levels=1)
