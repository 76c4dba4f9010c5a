"""Laws of the U-net, and that it learns to denoise."""

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import UNet


def awake(*args, **options):
    """A U-net whose last convolution is not zero."""
    torch.manual_seed(0)
    network = UNet(*args, **options)
    nn.init.normal_(network.leave[-1].weight, std=0.1)
    return network


@pytest.mark.parametrize("batch", [(), (5,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize(
    ("channels", "size", "widths"), [(1, (8, 8), (8, 16)), (2, (4, 12), (8, 8, 16)), (3, (5, 7), (8,))]
)
def test_any_number_of_batch_dims_gives_the_images_results(batch, channels, size, widths):
    network = awake(channels, widths)
    images, times = torch.randn(*batch, channels, *size), torch.rand(batch)
    flat = zip(images.reshape(-1, channels, *size), times.reshape(-1), strict=True)
    alone = torch.stack([network(image, time) for image, time in flat])
    torch.testing.assert_close(network(images, times), alone.reshape(images.shape), rtol=1e-4, atol=1e-5)


def test_one_time_and_one_context_serve_all_images():
    network = awake(1, (8, 16), context_features=3)
    images, time, context = torch.randn(5, 1, 8, 8), torch.tensor(0.3), torch.randn(3)
    expected = network(images, time.expand(5), context.expand(5, 3))
    torch.testing.assert_close(network(images, time, context), expected)


def test_it_starts_at_zero_and_may_have_other_channels_than_the_images():
    assert not UNet(1, (8, 16))(torch.randn(5, 1, 8, 8), torch.rand(5)).any()
    assert awake(1, (8, 16), outputs=2)(torch.randn(2, 3, 1, 8, 8), torch.rand(2, 3)).shape == (2, 3, 2, 8, 8)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_gradient_reaches_every_parameter(blocks):
    network = awake(2, (8, 16, 24), blocks=blocks, context_features=3)
    network(torch.randn(4, 2, 8, 8), torch.rand(4), torch.randn(4, 3)).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    without = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
    assert not without
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_every_pixel_tells_on_every_pixel():
    jacobian = torch.autograd.functional.jacobian(
        lambda x: awake(1, (8, 16))(x, torch.tensor(0.5)), torch.randn(1, 8, 8)
    )
    assert (jacobian.reshape(64, 64) != 0).all()


def test_time_and_context_tell_on_the_outputs_of_their_own_image_alone():
    network = awake(1, (8, 16), context_features=3)
    images, times, contexts = torch.randn(3, 1, 8, 8), torch.rand(3), torch.randn(3, 3)
    before = network(images, times, contexts)
    for later in (
        network(images, times + torch.tensor([0.0, 0.1, 0.0]), contexts),
        network(images, times, contexts + torch.tensor([[0.0], [0.5], [0.0]])),
    ):
        moved = (later - before).abs().amax((1, 2, 3))
        assert moved[1] > 1e-3
        assert moved[[0, 2]].max() < 1e-5


def test_images_moved_round_by_whole_cells_of_the_coarsest_scale_give_outputs_moved_round():
    """Where the convolutions go round too, as edges are what else tells places apart."""
    network = awake(1, (8, 16, 16)).double()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    images, times = torch.randn(2, 1, 16, 16).double(), torch.rand(2).double()
    found = network(images, times)

    def moved(value, rows, columns):
        return value.roll((rows, columns), (-2, -1))

    torch.testing.assert_close(network(moved(images, 4, 8), times), moved(found, 4, 8))
    assert (network(moved(images, 1, 0), times) - moved(found, 1, 0)).abs().max() > 1e-3


def test_it_traces_into_one_graph():
    network = awake(1, (8, 16), context_features=2)

    def value_and_gradient(x, time, context):
        out = network(x, time, context)
        return out, torch.autograd.grad(out.square().sum(), [*network.parameters()])

    given = torch.randn(3, 1, 8, 8), torch.rand(3), torch.randn(3, 2)
    graph = make_fx(value_and_gradient)(*given)
    other = torch.randn(3, 1, 8, 8), torch.rand(3), torch.randn(3, 2)
    torch.testing.assert_close(graph(*other), value_and_gradient(*other))


def test_it_computes_in_double_precision_with_the_numbers_of_single():
    network = awake(1, (8, 16))
    images, times = torch.randn(4, 1, 8, 8), torch.rand(4)
    single = network(images, times)
    double = network.double()(images.double(), times.double())
    assert double.dtype is torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-3, atol=1e-4)


def test_it_learns_the_best_denoiser_where_a_linear_one_cannot():
    """Of one bright pixel anywhere in noise, where the expected image is a softmax over the pixels."""
    bright, noise_scale = 4.0, torch.tensor([0.5, 1.5])  # at times 0 and 1

    def draw(rows):
        data = bright * nn.functional.one_hot(torch.randint(64, (rows,)), 64).float()
        time = torch.rand(rows)
        noisy = data + torch.lerp(*noise_scale, time)[:, None] * torch.randn(rows, 64)
        return data, noisy, time

    network = awake(1, (8, 16))
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)
    for _ in range(250):
        data, noisy, time = draw(64)
        loss = (network(noisy.reshape(-1, 1, 8, 8), time).flatten(1) - data).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    data, noisy, time = draw(2000)
    variance = torch.lerp(*noise_scale, time)[:, None] ** 2
    covariance = bright**2 * (torch.eye(64) / 64 - 1 / 64**2)
    mean = bright / 64
    gain = torch.linalg.solve(covariance + variance[..., None] * torch.eye(64), covariance)
    guesses = {
        "linear": mean + (gain @ (noisy - mean)[..., None])[..., 0],
        "best": bright * (bright * noisy / variance).softmax(-1),
        "learned": network(noisy.reshape(-1, 1, 8, 8), time).flatten(1),
    }
    errors = {name: (guess - data).square().sum(-1).mean().item() for name, guess in guesses.items()}
    assert errors["best"] < errors["learned"] < (errors["best"] + errors["linear"]) / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: UNet(0), "UNet: channels=0, expected a positive integer"),
        (lambda: UNet(1, blocks=0), "UNet: blocks=0, expected a positive integer"),
        (lambda: UNet(1, (8, 0)), r"UNet: widths\[1\]=0, expected a positive integer"),
        (lambda: UNet(1, (8, 12)), "UNet: widths=.*, expected multiples of 8"),
        (lambda: UNet(1, (8, 8, 8))(torch.zeros(2, 1, 8, 6), torch.zeros(2)), "8 by 6 cannot be halved 2 times"),
        (
            lambda: UNet(1, (8,))(torch.zeros(2, 1, 4, 4), torch.zeros(2), torch.zeros(2, 3)),
            "expected a context of no features, got 3. Remedy: context_features=3",
        ),
        (
            lambda: UNet(1, (8,), context_features=3)(torch.zeros(2, 1, 4, 4), torch.zeros(2)),
            "expected a context of 3 features, got none",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(OptionError, match=message):
        call()
