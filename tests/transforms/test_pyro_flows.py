"""Pyro's own transforms as layers of a flow, alone and beside layers of this library."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms as of_pyro
from torch import nn
from torch.autograd.functional import jacobian

from ppl_genmodels import fit
from ppl_genmodels.distributions import Flow
from ppl_genmodels.transforms import Coupling, Permute, call_and_ladj

LAYERS = {
    "planar": lambda: of_pyro.Planar(3),
    "radial": lambda: of_pyro.Radial(3),
    "sylvester": lambda: of_pyro.Sylvester(3, count_transforms=2),
    "householder": lambda: of_pyro.Householder(3, count_transforms=2),
    "batch norm": lambda: of_pyro.BatchNorm(3).eval(),
    "spline": lambda: of_pyro.Spline(3, count_bins=4),
    "linear spline": lambda: of_pyro.Spline(3, count_bins=4, order="linear"),
    "spline coupling": lambda: of_pyro.spline_coupling(3, hidden_dims=[8]),
    "polynomial": lambda: of_pyro.polynomial(3, hidden_dims=[8]),
}
NO_INVERSE = ("planar", "radial", "sylvester", "polynomial")
"""Of which only their own last draw has a density."""


def made(name):
    """A layer away from where it starts."""
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if name == "batch norm":
            layer.moving_mean, layer.moving_variance = torch.randn(3).double(), torch.rand(3).double() + 0.5
    return layer


def noise():
    return dist.Normal(torch.zeros(3, dtype=torch.float64), 1.0).to_event(1)


OFF = pytest.mark.xfail(strict=True, reason="its matrices stand for columns, and it multiplies rows by them")


@pytest.mark.parametrize("name", [pytest.param(name, marks=OFF if name == "sylvester" else ()) for name in LAYERS])
def test_a_draw_has_the_density_of_the_change_of_variables(name):
    layer = made(name)
    flow = Flow(noise(), [layer])
    torch.manual_seed(1)
    drawn = flow.rsample((6,))
    torch.manual_seed(1)
    x = noise().rsample((6,))
    log_dets = torch.stack([torch.linalg.slogdet(jacobian(made(name), row))[1] for row in x])
    torch.testing.assert_close(flow.log_prob(drawn), noise().log_prob(x) - log_dets, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in NO_INVERSE])
def test_a_value_that_was_not_drawn_has_the_same_density_where_there_is_an_inverse(name):
    flow = Flow(noise(), [made(name)])
    drawn = flow.rsample((6,))
    torch.testing.assert_close(flow.log_prob(drawn.clone()), flow.log_prob(drawn), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_it_stands_beside_layers_of_this_library_and_has_gradients(name):
    layer = made(name)
    flow = Flow(noise(), [Coupling(3, (8,)).double(), layer, Permute([2, 0, 1])])
    drawn = flow.rsample((2, 6))
    log_prob = flow.log_prob(drawn)
    assert log_prob.shape == (2, 6)
    parameters = list(layer.parameters())
    if parameters:
        slopes = torch.autograd.grad((log_prob.square() + drawn.sum(-1)).sum(), parameters, allow_unused=True)
        assert all(slope is not None and slope.isfinite().all() for slope in slopes)
        assert any(slope.abs().sum() > 0 for slope in slopes)


def test_one_pass_gives_what_two_calls_give():
    layer, x = made("planar"), torch.randn(6, 3, dtype=torch.float64)
    y, ladj = call_and_ladj(layer, x)
    assert torch.equal(y, layer(x))
    assert torch.equal(ladj, layer.log_abs_det_jacobian(x, y))


class ByPlanar(nn.Module):
    """Two numbers of which data tell the sum, and Pyro's planar layers as their guide."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([of_pyro.Planar(2), of_pyro.Planar(2)])
        self.register_buffer("zeros", torch.zeros(2))

    def model(self, x):
        z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def guide(self, x):
        pyro.sample("z", Flow(dist.Normal(self.zeros, 1.0).to_event(1), self.layers))


def test_a_layer_without_inverse_serves_as_a_guide():
    """The posterior variance of the sum is 2 / (1 + 2 n), its mean the mean of the data times 2 n / (1 + 2 n)."""
    torch.manual_seed(0)
    x = torch.full((10,), 1.0)
    fitted = fit(ByPlanar(), x, steps=400, batch_size=10, num_particles=32, compile="off", progress=False)
    total = fitted.infer(x, num_samples=2000, seed=0).posterior["z"].values.sum(-1)
    assert total.mean() == pytest.approx(20 / 21, abs=0.1)
    assert total.std() < 0.7  # two independent numbers of the prior have 1.41
