"""The three conditions of a stable game and the gradient layer, against closed forms."""

import functools
import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions import refine
from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import SmoothCritic
from ppl_genmodels.networks.smooth_critic import ACTIVATIONS
from ppl_genmodels.objectives import KernelPenalty

SOFT = [*ACTIVATIONS]


class Affine(nn.Module):
    """x = loc + scale z."""

    def __init__(self, scale):
        super().__init__()
        self.loc, self.scale = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.full((2,), scale))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.deterministic("x", self.loc + self.scale * z, event_dim=1)


def settled(critic):
    """After enough steps of the power iteration; and some of training's size, so that layers are not as they began."""
    torch.manual_seed(1)
    for layer in critic.network.layers:
        if isinstance(layer, nn.Linear):
            layer.parametrizations.weight.original.data.mul_(5).add_(torch.randn(()))
    for _ in range(300):
        critic(torch.zeros(1, 3, dtype=torch.float64))
    return critic.eval()


@pytest.mark.parametrize("activation", SOFT)
def test_slope_and_bend_of_a_smooth_critic_are_within_its_constants(activation):
    torch.manual_seed(0)
    critic = settled(SmoothCritic(3, (16, 16), lipschitz=2.0, activation=activation).double())
    x = 3 * torch.randn(200, 3, dtype=torch.float64)
    slopes = torch.func.vmap(torch.func.grad(critic))(x)
    bends = torch.func.vmap(torch.func.jacrev(torch.func.grad(critic)))(x)
    assert slopes.norm(dim=-1).max() <= critic.lipschitz * (1 + 1e-6)
    assert torch.linalg.matrix_norm(bends, 2).max() <= critic.smoothness * (1 + 1e-6)
    assert slopes.norm(dim=-1).max() > 0.1 * critic.lipschitz


@pytest.mark.parametrize("activation", SOFT)
def test_the_constants_of_an_activation_are_attained(activation):
    make, bend = ACTIVATIONS[activation]
    x = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    slope = torch.func.vmap(torch.func.grad(make()))(x)
    steps = slope.diff().abs() / x.diff()
    assert slope.max() == pytest.approx(1.0, abs=1e-4)
    assert steps.max() == pytest.approx(bend, rel=1e-3)


def gaussian(one, other, bandwidth):
    return (-0.5 * (one[:, None] - other).square().sum(-1) / bandwidth**2).exp()


def test_the_norm_of_a_sum_of_kernels_is_exact_and_of_other_values_below():
    torch.manual_seed(0)
    first, second = 2 * torch.randn(2, 6, 3, dtype=torch.float64)
    rows, weights = torch.cat([first, second]), torch.randn(12, dtype=torch.float64)
    penalty = KernelPenalty(0.7, bandwidth=0.8, ridge=0.0)
    exact = weights @ gaussian(rows, rows, 0.8) @ weights
    found = penalty(lambda x: gaussian(x, rows, 0.8) @ weights, [first], [second])
    torch.testing.assert_close(found, 0.7 * exact.expand(6), rtol=1e-8, atol=0)
    fewer = penalty(lambda x: gaussian(x, rows, 0.8) @ weights, [first[:2]], [second[:2]])
    assert 0 < fewer[0] < 0.7 * exact
    ridge = KernelPenalty(0.7, 0.8, ridge=0.1)(lambda x: gaussian(x, rows, 0.8) @ weights, [first], [second])
    assert 0 < ridge[0] < 0.7 * exact


def test_a_free_critic_under_it_attains_the_mmd():
    """The witness is at the optimum: its bound is the squared MMD over 4 weight, and other critics are below."""
    torch.manual_seed(0)
    first, second = torch.randn(8, 2, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64) + 1
    weight, rows = 0.25, torch.cat([first, second])
    witness = torch.cat([torch.full((8,), 1 / 8.0), torch.full((8,), -1 / 8.0)]).double()
    mmd = witness @ gaussian(rows, rows, 1.0) @ witness

    def bound(scale, other):
        weights = scale * witness / (2 * weight) + other
        critic = lambda x: gaussian(x, rows, 1.0) @ weights  # noqa: E731
        penalty = KernelPenalty(weight, ridge=0.0)(critic, [first], [second]).mean()
        return obj.Wasserstein().bound(critic(first), critic(second)).mean() - penalty

    assert bound(1.0, 0.0).item() == pytest.approx(mmd.item() / (4 * weight), rel=1e-8)
    others = 0.1 * torch.randn(5, 16, dtype=torch.float64)
    assert all(bound(scale, each) < bound(1.0, 0.0) for scale, each in itertools.product((0.8, 1.0, 1.2), others))


def test_all_three_conditions_train_by_a_traced_step_as_they_do_eagerly():
    programs = []
    for compile in ("trace", "off"):
        torch.manual_seed(0)
        program, critic = Affine(scale=0.5), SmoothCritic(2, (16, 16))
        game = obj.adversarial(
            "x",
            critic,
            divergence=obj.Wasserstein(),
            regularizers=[KernelPenalty(0.1)],
            optimizer=functools.partial(torch.optim.Adam, lr=1e-2),
        )
        settings = {
            "optimizer": functools.partial(torch.optim.SGD, lr=0.1),
            "batch_size": 64,
            "steps": 40,
            "progress": False,
        }
        ppl.fit(
            program,
            torch.randn(2000, 2) + torch.tensor([1.0, 0.0]),
            objective=-game,
            compile=compile,
            **settings,
        )
        programs.append(program)
    torch.testing.assert_close(programs[0].loc, programs[1].loc, rtol=1e-4, atol=1e-5)
    assert programs[0].loc[0] > 0.1


def test_a_gradient_layer_moves_samples_as_the_log_ratio_of_normals_has_it():
    torch.manual_seed(0)
    x = torch.randn(100, 2, dtype=torch.float64)
    shift = torch.tensor([1.5, -0.5], dtype=torch.float64)
    torch.testing.assert_close(refine(x, lambda each: each @ shift, steps=4, step_size=0.25), x + shift)
    # of N(0, 4) to N(0, 1): log-ratio 3 x² / 8, slope 3 x / 4
    moved = refine(x, lambda each: 0.375 * each.square().sum(-1, keepdim=True), steps=3, step_size=0.2)
    torch.testing.assert_close(moved, x * (1 + 0.2 * 0.75) ** 3)
    assert not moved.requires_grad


def test_what_cannot_be_is_refused():
    with pytest.raises(OptionError, match="activation='relu', expected one of 'softplus', 'elu', 'tanh'; a kink"):
        SmoothCritic(2, activation="relu")
    with pytest.raises(OptionError, match="lipschitz=0, expected a positive number"):
        SmoothCritic(2, lipschitz=0)
    with pytest.raises(OptionError, match="KernelPenalty: weight=-1"):
        KernelPenalty(-1.0)
    with pytest.raises(OptionError, match="step_size=0, expected a positive number"):
        refine(torch.zeros(1, 1), lambda x: x, step_size=0)
