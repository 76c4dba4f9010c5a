"""Pyro's conditional transforms in a flow, beside the library's own, and events that change their shape."""

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms as of_pyro
from torch import nn
from torch.distributions.transforms import ExpTransform, ReshapeTransform, StickBreakingTransform

from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import OptionError
from ppl_genmodels.transforms import Autoregressive

CONTEXT = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))


def base(features):
    return dist.Normal(torch.zeros(features), 1.0).to_event(1)


@pytest.mark.parametrize("make", [of_pyro.conditional_affine_coupling, of_pyro.conditional_affine_autoregressive])
def test_pyros_conditional_transforms_serve_as_in_pyros_own_distribution(make):
    torch.manual_seed(0)
    theirs, permuted = make(3, 2), of_pyro.Permute(torch.tensor([2, 0, 1]))
    mine = Flow(base(3), nn.ModuleList([theirs]).append(make(3, 2)))
    expected = dist.ConditionalTransformedDistribution(base(3), [theirs, mine.transforms[1].conditional])
    value = torch.randn(5, 3)
    given = mine.condition(CONTEXT)
    assert given.batch_shape == (5,)
    torch.testing.assert_close(given.log_prob(value), expected.condition(CONTEXT).log_prob(value))
    beside = Flow(base(3), [theirs, permuted, Autoregressive(3, (4,), context_features=2)]).condition(CONTEXT)
    drawn = beside.rsample((7,))
    torch.testing.assert_close(beside.log_prob(drawn.clone()), beside.log_prob(drawn), atol=1e-4, rtol=1e-4)


def test_a_conditional_transform_without_a_context_is_refused():
    flow = Flow(base(3), [of_pyro.conditional_affine_coupling(3, 2)])
    with pytest.raises(OptionError, match=r"takes a context and was given none\. Remedy: flow\.condition"):
        flow.rsample()


def test_a_flow_of_single_numbers_has_the_density_of_each():
    """From vectors of one to numbers, where a batch must not be summed."""
    layer = Autoregressive(1, (4,))
    flow = Flow(dist.Normal(torch.zeros(5, 1), 1.0).to_event(1), [layer, ReshapeTransform((1,), ()), ExpTransform()])
    value = torch.rand(5) + 0.1
    assert flow.event_shape == ()
    torch.testing.assert_close(flow.log_prob(value), dist.LogNormal(0.0, 1.0).log_prob(value))
    drawn = flow.rsample()
    torch.testing.assert_close(flow.log_prob(drawn), dist.LogNormal(0.0, 1.0).log_prob(drawn))


def test_a_flow_onto_the_simplex_is_torchs_own():
    parts = [StickBreakingTransform()]
    flow, plain = Flow(base(3), parts), torch.distributions.TransformedDistribution(base(3), parts)
    value = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]])
    torch.testing.assert_close(flow.log_prob(value), plain.log_prob(value))
    drawn = flow.rsample((6,))
    torch.testing.assert_close(flow.log_prob(drawn), plain.log_prob(drawn))
