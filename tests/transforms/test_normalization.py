"""Batch normalization against torch's own, its running statistics in every kind of step, and whitening."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import fit, load
from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.transforms import BatchNorm, Coupling, Whitening, call_and_ladj, first_data, wait_for_data


class Density(nn.Module):
    """A flow with running statistics, for pairs."""

    def __init__(self, make=BatchNorm):
        super().__init__()
        self.layers = nn.ModuleList([Coupling(2, (8,)), make(2), Coupling(2, (8,), swap=True)])
        self.register_buffer("zeros", torch.zeros(2))

    def model(self, x=None):
        base = dist.Normal(self.zeros, 1.0).to_event(1)
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", Flow(base, self.layers), obs=x)


def fitted(mode, steps=30):
    torch.manual_seed(0)
    program, x = Density(), 5 + 2 * torch.randn(200, 2)
    return program, fit(program, x, steps=steps, batch_size=50, compile=mode, progress=False), x


@pytest.mark.parametrize(("shape", "event_dim"), [((50, 3), 1), ((2, 25, 3), 1), ((20, 3, 4, 2), 3)])
def test_batch_norm_is_torchs_from_data_to_noise(shape, event_dim):
    torch.manual_seed(0)
    layer, other = BatchNorm(3, event_dim).double(), nn.BatchNorm1d(3).double()
    with torch.no_grad():
        other.bias.copy_(torch.randn(3))
        other.weight.copy_(torch.rand(3) + 0.5)
        layer.loc.copy_(other.bias.reshape(layer.loc.shape))
        layer.log_scale.copy_(other.weight.log().reshape(layer.loc.shape))
    for training in (True, True, False):
        y = 3 + 2 * torch.randn(shape, dtype=torch.float64)
        layer.train(training), other.train(training)
        found, expected = layer.inv(y), other(y.movedim(-event_dim, -1).reshape(-1, 3))
        torch.testing.assert_close(found.movedim(-event_dim, -1).reshape(-1, 3), expected)
        torch.testing.assert_close(layer.mean.flatten(), other.running_mean)
        torch.testing.assert_close(layer.variance.flatten(), other.running_var)


def test_in_training_the_log_determinant_is_that_with_the_statistics_of_the_batch():
    torch.manual_seed(0)
    layer, y = BatchNorm(3).double(), 3 + 2 * torch.randn(50, 3, dtype=torch.float64)
    expected = 0.5 * (y.var(0, correction=0) + 1e-5).log().sum().expand(50)
    torch.testing.assert_close(layer.inverse_and_ladj(y)[1], expected)


def test_a_draw_and_a_single_row_leave_the_running_statistics_and_use_them():
    layer = BatchNorm(2)
    layer.mean.copy_(torch.tensor([1.0, 2.0]))
    before = copy.deepcopy(layer.state_dict())
    y, _ = call_and_ladj(layer, torch.zeros(7, 2))
    assert torch.equal(y[0], layer.mean)
    torch.testing.assert_close(layer.inv(torch.tensor([[1.0, 2.0]])), torch.zeros(1, 2))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_running_statistics_move_in_traced_steps_as_in_eager_ones():
    eager, traced = fitted("off")[0], fitted("trace")[0]
    assert not torch.equal(eager.layers[1].mean, torch.zeros(2))
    for name, value in eager.state_dict().items():
        assert torch.equal(traced.state_dict()[name], value), name


def test_running_statistics_are_saved(tmp_path):
    program, result, x = fitted("trace", steps=10)
    result.save(tmp_path / "run")
    again = load(tmp_path / "run", program=Density())
    torch.testing.assert_close(again.log_evidence(x), result.log_evidence(x))
    assert torch.equal(again.program.layers[1].variance, program.layers[1].variance)


def test_after_training_the_density_is_that_of_new_rows():
    """By the running statistics, which have come near those of the data."""
    _, result, x = fitted("off", steps=150)
    gaussian = dist.MultivariateNormal(x.mean(0), x.T.cov()).log_prob(x)
    gain = result.log_evidence(x).cpu() - gaussian
    assert gain.mean() > -4 * gain.std() / len(x) ** 0.5
    each = torch.cat([result.log_evidence(row.unsqueeze(0)).cpu() for row in x[:5]])
    torch.testing.assert_close(each, result.log_evidence(x[:5]).cpu())


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (1e-3, 1.0, 1e4)])
def test_whitened_data_have_covariance_one(scales):
    torch.manual_seed(0)
    mixing = torch.randn(3, 3, dtype=torch.float64) * torch.tensor(scales, dtype=torch.float64)
    y, layer = 5 + torch.randn(200, 3, dtype=torch.float64) @ mixing, Whitening(3).double()
    with first_data():
        x = layer.inv(y)
    torch.testing.assert_close(x.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(x.T.cov(), torch.eye(3, dtype=torch.float64), atol=1e-3, rtol=0)
    covariance = y.T.cov()
    torch.testing.assert_close(
        layer.scale_tril @ layer.scale_tril.mT, covariance + 1e-6 * covariance.diagonal().diag(), rtol=1e-9, atol=0
    )
    assert not list(layer.parameters())
    assert not wait_for_data(layer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whitening_of_dependent_and_of_constant_features_is_finite_and_has_an_inverse(dtype):
    torch.manual_seed(0)
    first = torch.randn(100, 1, dtype=dtype)
    y, layer = torch.cat([first, 2 * first, torch.ones_like(first)], 1), Whitening(3).to(dtype)
    with first_data():
        x, ladj = layer.inverse_and_ladj(y)
    assert x.isfinite().all()
    assert ladj.isfinite().all()
    torch.testing.assert_close(layer(x), y)


def test_whitening_stays_as_the_first_data_set_it():
    torch.manual_seed(0)
    layer, y = Whitening(2), torch.randn(50, 2)
    with first_data():
        layer.inv(y)
        kept = layer.scale_tril.clone()
        layer.inv(3 * y)
    restored = Whitening(2)
    restored.load_state_dict(layer.state_dict())
    with first_data():
        restored.inv(3 * y)
    assert torch.equal(layer.scale_tril, kept)
    assert torch.equal(restored.scale_tril, kept)


def test_fit_lets_a_batch_set_the_whitening():
    torch.manual_seed(0)
    program, x = Density(Whitening), 5 + 2 * torch.randn(200, 2)
    fit(program, x, steps=1, batch_size=200, progress=False)
    expected = (x.T.cov() + 1e-6 * x.var(0).diag()).to(torch.float32)
    layer = program.layers[1]
    torch.testing.assert_close(layer.scale_tril @ layer.scale_tril.mT, expected, rtol=1e-4, atol=1e-4)


def test_too_few_rows_for_a_covariance_are_refused():
    with first_data(), pytest.raises(DataError, match=r"3 rows of 3 features, expected at least 4.*batch_size=4"):
        Whitening(3).inv(torch.randn(3, 3))


@pytest.mark.parametrize("momentum", [0.0, 1.5, -0.1])
def test_a_momentum_that_is_no_share_is_refused(momentum):
    with pytest.raises(OptionError, match="more than 0, at most 1"):
        BatchNorm(2, momentum=momentum)
