"""Laws of the multilayer perceptron."""

import pytest
import torch
from torch import nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks import MLP


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
@pytest.mark.parametrize("batch", [(), (6,), (7, 6), (3, 7, 6)])
def test_any_number_of_batch_dims_gives_the_rows_results(hidden, batch):
    network = MLP(3, 2, hidden)
    x = torch.randn(*batch, 3)
    rows = torch.stack([network(row) for row in x.reshape(-1, 3)])
    torch.testing.assert_close(network(x), rows.reshape(*batch, 2))


def test_without_hidden_layers_it_is_affine():
    network = MLP(3, 2, hidden=())
    a, b, zero = torch.randn(3), torch.randn(3), torch.zeros(3)
    torch.testing.assert_close(network(a + b) + network(zero), network(a) + network(b))


def test_the_activation_stands_between_layers_and_not_after_the_last():
    kinds = [type(layer) for layer in MLP(3, 2, (5, 4), nn.Tanh).layers]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2, (5,)), "MLP: in_features=0"),
        ((3, 2.5, (5,)), "MLP: out_features=2.5"),
        ((3, 2, (5, -1)), r"MLP: hidden\[1\]=-1"),
        ((3, 2, 500), r"MLP: hidden=500, expected a sequence.*hidden=\(500,\)"),
        ((3, 2, "500"), "MLP: hidden='500', expected a sequence"),
    ],
)
def test_bad_sizes_are_refused_by_name(arguments, message):
    with pytest.raises(OptionError, match=message):
        MLP(*arguments)
