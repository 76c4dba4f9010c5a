"""The same numbers as Zuko, given the same parameters: values, log-determinants, densities, draws.

Zuko's flows lead from data to noise, ours from noise to data, so that a layer of one is the inverse of the other's.
"""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Distribution, Transform
from torch.distributions.transforms import _InverseTransform

from ppl_genmodels.distributions import Flow
from ppl_genmodels.transforms import Additive, Affine, Autoregressive, Coupling, InvertibleLinear, Spline

FEATURES, HIDDEN, BINS = 5, (12, 12), 6
EXACT = {"atol": 1e-10, "rtol": 1e-10}


@pytest.fixture(scope="module")
def zuko():
    """Zuko, whose changes to torch last as long as these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Distribution, "_validate_args", Distribution._validate_args)
        patch.setattr(Distribution, "arg_constraints", vars(Distribution)["arg_constraints"])
        patch.setattr(Transform, "call_and_ladj", None, raising=False)
        name = _InverseTransform.__name__
        import zuko

        _InverseTransform.__name__ = name
        Transform.call_and_ladj = zuko.transforms._call_and_ladj
        yield zuko


def of_zuko(zuko, kind):
    """Zuko's map of single numbers, the shapes of its parameters, and ours."""
    return {
        "additive": (zuko.transforms.AdditiveTransform, ((),), Additive()),
        "affine": (zuko.transforms.MonotonicAffineTransform, ((), ()), Affine()),
        "spline": (zuko.transforms.MonotonicRQSTransform, ((BINS,), (BINS,), (BINS - 1,)), Spline(BINS)),
    }[kind]


KINDS = ["additive", "affine", "spline"]


def moved(module):
    """A module in double precision, away from where it starts."""
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_numbers_are_zukos(zuko, kind):
    torch.manual_seed(0)
    theirs, shapes, ours = of_zuko(zuko, kind)
    x = torch.linspace(-8, 8, 200, dtype=torch.float64)
    parts = [2 * torch.randn(200, *shape, dtype=torch.float64) for shape in shapes]
    parameters = torch.cat([part.reshape(200, -1) for part in parts], -1)
    y, ladj = theirs(*parts).call_and_ladj(x)
    torch.testing.assert_close(ours.forward(x, parameters), (y, ladj), **EXACT)
    torch.testing.assert_close(ours.inverse(y, parameters), (x, ladj), **EXACT)


def autoregressive(zuko, kind, context, swap=False):
    """One layer of Zuko's and ours with its parameters."""
    theirs_map, shapes, element = of_zuko(zuko, kind)
    order = torch.arange(FEATURES)
    options = {"order": order.flipud() if swap else order, "univariate": theirs_map, "shapes": shapes}
    theirs = moved(zuko.flows.MaskedAutoregressiveTransform(FEATURES, context, hidden_features=HIDDEN, **options))
    ours = Autoregressive(FEATURES, HIDDEN, element, fast="sampling", context_features=context, reverse=swap)
    copy_masked(theirs.hyper, ours.double())
    return theirs, ours


def copy_masked(theirs, ours):
    """Masks and parameters; Zuko puts contexts last."""
    layers, context = [layer for layer in theirs if hasattr(layer, "mask")], ours.context_features
    with torch.no_grad():
        for number, (source, target) in enumerate(zip(layers, ours.network.layers, strict=True)):
            shift = context if number == 0 else 0
            target.mask = source.mask.double().roll(shift, -1)
            target.weight.copy_(source.weight.roll(shift, -1))
            target.bias.copy_(source.bias)


def coupling(zuko, kind, context, swap=False):
    """One layer of Zuko's, and ours with its parameters."""
    theirs_map, shapes, element = of_zuko(zuko, kind)
    ours = Coupling(FEATURES, HIDDEN, element, swap=swap, context_features=context).double()
    half = torch.arange(FEATURES) < (ours.mapped if swap else ours.given)
    options = {"mask": ~half if swap else half, "univariate": theirs_map, "shapes": shapes, "hidden_features": HIDDEN}
    theirs = moved(zuko.flows.coupling.GeneralCouplingTransform(FEATURES, context, **options))
    for source, target in zip(theirs.hyper.parameters(), ours.network.parameters(), strict=True):
        target.data.copy_(source.data)
    return theirs, ours


@pytest.mark.parametrize("make", [autoregressive, coupling])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("swap", [False, True])
def test_layers_are_zukos_in_both_directions_and_have_their_gradients(zuko, make, kind, context, swap):
    torch.manual_seed(0)
    theirs, ours = make(zuko, kind, context, swap)
    x = 2 * torch.randn(20, FEATURES, dtype=torch.float64, requires_grad=True)
    given = torch.randn(20, context, dtype=torch.float64) if context else None
    layer = ours if given is None else ours.condition(given)
    expected, found = theirs(given).call_and_ladj(x), layer.call_and_ladj(x)
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(layer.inverse_and_ladj(expected[0]), (x, expected[1]), **EXACT)
    slopes = [torch.autograd.grad(y.square().sum() + ladj.sum(), x)[0] for y, ladj in (expected, found)]
    torch.testing.assert_close(*slopes, **EXACT)


@pytest.mark.parametrize("make", [autoregressive, coupling])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [0, 2])
def test_flows_have_zukos_densities_and_draws(zuko, make, kind, context):
    torch.manual_seed(0)
    pairs = [make(zuko, kind, context, swap) for swap in (False, True, False)]
    ends = torch.zeros(FEATURES, dtype=torch.float64), torch.ones(FEATURES, dtype=torch.float64)
    base = zuko.flows.UnconditionalDistribution(zuko.distributions.DiagNormal, *ends)
    theirs = zuko.flows.Flow([pair[0] for pair in pairs], base)
    given = torch.randn(context, dtype=torch.float64) if context else None
    layers = [layer if given is None else layer.condition(given) for _, layer in pairs]
    ours = Flow(dist.Normal(*ends).to_event(1), [layer.inv for layer in reversed(layers)])
    x = 2 * torch.randn(20, FEATURES, dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(x), theirs(given).log_prob(x), **EXACT)
    torch.manual_seed(1)
    expected = theirs(given).sample((20,))
    torch.manual_seed(1)
    drawn = ours.rsample((20,))
    torch.testing.assert_close(drawn, expected, **EXACT)
    torch.testing.assert_close(ours.log_prob(drawn), theirs(given).log_prob(expected), **EXACT)


@pytest.mark.parametrize("named", ["NICE", "MAF", "NSF"])
def test_named_flows_of_zuko_have_our_densities(zuko, named):
    """With the options that both have by default, of pairs, where halves and checkers are the same."""
    torch.manual_seed(0)
    theirs = moved(getattr(zuko.flows, named)(2, transforms=3))
    layers = []
    for number, lazy in enumerate(theirs.transform.transforms):
        if named == "NICE":
            layer = Coupling(2, swap=bool(number % 2)).double()
            for source, target in zip(lazy.hyper.parameters(), layer.network.parameters(), strict=True):
                target.data.copy_(source.data)
        else:
            element = Spline() if named == "NSF" else Affine()
            layer = Autoregressive(2, element=element, fast="sampling", reverse=bool(number % 2)).double()
            copy_masked(lazy.hyper, layer)
        layers.append(layer)
    base = dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1)
    ours = Flow(base, [layer.inv for layer in reversed(layers)])
    x = 2 * torch.randn(50, 2, dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(x), theirs().log_prob(x), **EXACT)


def test_a_linear_map_of_triangles_is_zukos(zuko):
    torch.manual_seed(0)
    ours = moved(InvertibleLinear(FEATURES))
    scale, lower = ours.signs * ours.log_diagonal.exp(), ours.lower.tril(-1) + torch.eye(FEATURES)
    theirs = zuko.transforms.LULinearTransform(lower * scale + ours.upper.triu(1) / scale.unsqueeze(-1))
    x = torch.randn(20, FEATURES, dtype=torch.float64)
    y, ladj = theirs.call_and_ladj(x)
    torch.testing.assert_close(ours.call_and_ladj(x), (y @ ours.permutation.mT, ladj), **EXACT)
