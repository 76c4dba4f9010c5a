"""Operator norms of layers, Lipschitz bounds of networks, and the radii that they certify."""

import math

import pytest
import torch
from torch import nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import certified_radius, exact_norm, lipschitz_bound, operator_norm

LAYERS = {
    "linear": (nn.Linear(7, 5), (7,)),
    "linear, tall": (nn.Linear(3, 9, bias=False), (3,)),
    "same": (nn.Conv2d(3, 4, 3, padding=1), (3, 6, 6)),
    "strided": (nn.Conv2d(2, 4, 3, stride=2, padding=1), (2, 7, 5)),
    "valid": (nn.Conv2d(1, 2, 3), (1, 6, 6)),
    "dilated": (nn.Conv2d(1, 2, 3, dilation=2, padding=2), (1, 6, 6)),
    "grouped": (nn.Conv2d(4, 4, 3, groups=2), (4, 5, 5)),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
    "transposed": (nn.ConvTranspose2d(2, 3, 3, stride=2), (2, 4, 4)),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    made, shape = LAYERS[request.param]
    torch.manual_seed(0)
    made.reset_parameters()
    return made.double(), shape


def test_the_norm_is_that_of_the_jacobian(layer):
    made, shape = layer
    x = torch.randn(1, *shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(made, x).reshape(-1, math.prod(shape))
    exact = torch.linalg.svdvals(jacobian)[0]
    torch.testing.assert_close(exact_norm(made, shape), exact)
    torch.testing.assert_close(operator_norm(made, shape, steps=500), exact, rtol=2e-3, atol=0)
    assert operator_norm(made, shape, steps=3) <= exact * (1 + 1e-12)


def test_its_gradient_is_that_of_the_largest_singular_value():
    torch.manual_seed(1)
    layer = nn.Linear(6, 4).double()
    (found,) = torch.autograd.grad(operator_norm(layer, (6,), steps=500), layer.weight)
    left, _, right = torch.linalg.svd(layer.weight)
    torch.testing.assert_close(found, torch.outer(left[:, 0], right[0]), rtol=0, atol=1e-8)


NETWORKS = {
    "perceptron": (nn.Sequential(nn.Linear(5, 16), nn.LeakyReLU(0.2), nn.Linear(16, 3)), (5,)),
    "convolutions": (
        nn.Sequential(
            nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ELU()),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(4, 4, 3),
            nn.Tanh(),
            nn.AvgPool2d(2, stride=1, padding=1),
            nn.Flatten(),
            nn.Linear(36, 4),
        ),
        (2, 8, 8),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_difference_grows_by_more_than_the_bound(name):
    network, shape = NETWORKS[name]
    bound = lipschitz_bound(network, shape, exact_norm)
    torch.manual_seed(2)
    x = torch.randn(500, *shape)
    y = x + 0.3 * torch.rand(500, 1, *(1,) * (len(shape) - 1)) * torch.randn(500, *shape)
    growth = (network(x) - network(y)).norm(dim=-1) / (x - y).flatten(1).norm(dim=-1)
    slope = torch.autograd.functional.jacobian(network, x[:1]).reshape(-1, math.prod(shape))
    assert growth.max() < bound
    assert torch.linalg.matrix_norm(slope, 2) < bound


POOLING = {
    "apart": nn.MaxPool2d(2),
    "overlapping": nn.MaxPool2d(3, stride=2, padding=1),
    "dilated": nn.MaxPool2d(2, stride=1, dilation=2),
    "mean": nn.AvgPool2d(2),
    "mean of overlapping": nn.AvgPool2d(3, stride=1, padding=1),
    "mean of what is there": nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
}


@pytest.mark.parametrize("name", POOLING)
def test_pooling_lengthens_nothing_by_more_than_its_bound(name):
    pooling = POOLING[name].double()
    bound = lipschitz_bound(nn.Sequential(pooling), (1, 6, 6))
    torch.manual_seed(3)
    x = torch.randn(200, 1, 6, 6, dtype=torch.float64)
    slopes = torch.stack([torch.autograd.functional.jacobian(pooling, row).reshape(-1, 36) for row in x])
    assert torch.linalg.svdvals(slopes)[:, 0].max() <= bound * (1 + 1e-12)


def test_the_bound_is_attained_where_layers_line_up():
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1.0)
    x = torch.tensor([[1.0, 1.0]])
    growth = (network(2 * x) - network(x)).norm() / x.norm()
    torch.testing.assert_close(lipschitz_bound(network, (2,), exact_norm), growth)


def test_what_has_no_known_bound_is_refused():
    for layer in (nn.SiLU(), nn.BatchNorm1d(3), nn.LeakyReLU(2.0), nn.Dropout().train()):
        with pytest.raises(OptionError, match=r"the bound of .* is not known"):
            lipschitz_bound(nn.Sequential(nn.Linear(3, 3), layer), (3,))
    with pytest.raises(OptionError, match="steps=0, expected a positive integer"):
        operator_norm(nn.Linear(2, 2), (2,), steps=0)


def test_a_linear_decision_has_the_distance_to_its_boundary():
    torch.manual_seed(4)
    direction = torch.randn(6, dtype=torch.float64)
    layer = nn.Linear(6, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.stack([direction, -direction]))
    x = torch.randn(50, 6, dtype=torch.float64)
    scores = layer(x)
    exact = (scores[:, 0] - scores[:, 1]).abs() / (2 * direction.norm())
    torch.testing.assert_close(certified_radius(scores, exact_norm(layer, (6,))), exact)


def test_radii_need_two_classes_and_a_positive_bound():
    with pytest.raises(OptionError, match="two classes or more"):
        certified_radius(torch.zeros(5, 1), 1.0)
    with pytest.raises(OptionError, match=r"lipschitz=0\.0, expected a positive number"):
        certified_radius(torch.zeros(5, 2), 0.0)
