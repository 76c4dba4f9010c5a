"""Laws of the convolutional networks."""

import pytest
import torch

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import ConvDecoder, ConvEncoder

IMAGE_SHAPES = [(1, 8, 8), (3, 9, 7), (1, 28, 20), (2, 1, 1)]
CHANNELS = [(), (4,), (4, 5, 6)]


@pytest.mark.parametrize("image_shape", IMAGE_SHAPES)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("batch", [(), (6,), (2, 3), (2, 1, 3)])
def test_any_number_of_batch_dims_gives_the_rows_results(image_shape, channels, batch):
    encoder = ConvEncoder(image_shape, 5, channels)
    decoder = ConvDecoder(5, image_shape, channels[::-1])
    images, features = torch.randn(*batch, *image_shape), torch.randn(*batch, 5)
    encoded = torch.stack([encoder(image) for image in images.reshape(-1, *image_shape)])
    decoded = torch.stack([decoder(row) for row in features.reshape(-1, 5)])
    torch.testing.assert_close(encoder(images), encoded.reshape(*batch, 5))
    torch.testing.assert_close(decoder(features), decoded.reshape(*batch, *image_shape))


def test_every_pixel_reaches_the_features_and_every_feature_the_pixels():
    image = torch.randn(2, 9, 7, requires_grad=True)
    ConvEncoder((2, 9, 7), 5, (16, 16))(image).square().sum().backward()
    assert (image.grad != 0).all()
    torch.manual_seed(0)
    jacobian = torch.autograd.functional.jacobian(ConvDecoder(5, (2, 9, 7)), torch.randn(5))
    assert (jacobian != 0).any(-1).all()


def test_more_convolutions_than_halvings_leave_one_pixel():
    assert ConvEncoder((1, 2, 2), 3, (4,) * 5)(torch.zeros(1, 2, 2)).shape == (3,)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ConvEncoder((8, 8), 5), "ConvEncoder: image_shape=.* has 2 entries, expected 3"),
        (lambda: ConvEncoder((1, 8, 0), 5), r"ConvEncoder: image_shape\[2\]=0"),
        (lambda: ConvDecoder(5, (1, 8, 8), (4, 0)), r"ConvDecoder: channels\[1\]=0"),
        (lambda: ConvDecoder(0, (1, 8, 8)), "ConvDecoder: in_features=0"),
    ],
)
def test_bad_sizes_are_refused_by_name(build, message):
    with pytest.raises(OptionError, match=message):
        build()
