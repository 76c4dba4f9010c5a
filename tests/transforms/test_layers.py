"""Bijections beyond the contract: data-dependent starts, contexts, flows in programs, and what is refused."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import fit
from ppl_genmodels.distributions import Flow
from ppl_genmodels.errors import OptionError
from ppl_genmodels.transforms import (
    ActNorm,
    Affine,
    Autoregressive,
    Coupling,
    Permute,
    Spline,
    Unsqueeze,
    first_data,
    wait_for_data,
)


@pytest.mark.parametrize(("shape", "event_dim"), [((500, 3), 1), ((50, 3, 4, 4), 3)])
def test_actnorm_makes_the_first_data_standard_and_keeps_what_it_set(shape, event_dim):
    torch.manual_seed(0)
    layer, first = ActNorm(3, event_dim), 5 + 2 * torch.randn(shape)
    with first_data():
        rows = layer.inv(first).movedim(-event_dim, -1).reshape(-1, 3)
    torch.testing.assert_close(rows.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.std(0), torch.ones(3), atol=1e-5, rtol=0)
    kept = [parameter.clone() for parameter in layer.parameters()]
    with first_data():
        layer.inv(torch.randn(shape))
    assert all(map(torch.equal, kept, layer.parameters()))


def test_actnorm_restored_or_copied_is_not_set_again():
    layer = ActNorm(2)
    with first_data():
        layer.inv(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    restored = ActNorm(2)
    restored.load_state_dict(layer.state_dict())
    for other in (restored, copy.deepcopy(layer)):
        with first_data():
            other.inv(torch.randn(10, 2))
        assert torch.equal(other.loc, layer.loc)


def test_actnorm_is_not_set_by_one_row():
    layer = ActNorm(2)
    with first_data():
        layer.inv(torch.tensor([[4.0, 2.0]]))
    assert not layer.is_set


def test_fit_lets_a_batch_set_what_waits_for_data():
    torch.manual_seed(0)
    program = Density(2)
    fit(program, 5 + 2 * torch.randn(400, 2), steps=1, batch_size=400, progress=False)
    torch.testing.assert_close(program.layers[0].loc, 5 * torch.ones(2), atol=4 * 2 / 400**0.5, rtol=0)
    torch.testing.assert_close(program.layers[0].log_scale.exp(), 2 * torch.ones(2), atol=4 * 2 / 800**0.5, rtol=0)
    assert not wait_for_data(program)


def test_layers_start_as_the_identity():
    x = torch.randn(5, 3)
    for layer in (Coupling(3), Coupling(3, element=Spline()), Autoregressive(3), Autoregressive(3, element=Spline())):
        torch.testing.assert_close(layer(x), x)


@pytest.mark.parametrize("fast", ["density", "sampling"])
@pytest.mark.parametrize("reverse", [False, True])
def test_each_number_is_given_those_on_one_side_of_it(fast, reverse):
    torch.manual_seed(0)
    layer = Autoregressive(4, (64,), Spline(), fast, reverse=reverse).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(4, dtype=torch.float64)
    for through in (layer, layer.inv):
        matrix = torch.autograd.functional.jacobian(through, x)
        given, others = (matrix.triu(1), matrix.tril(-1)) if reverse else (matrix.tril(-1), matrix.triu(1))
        assert (others == 0).all()
        assert (given != 0).sum() == 6
        assert (matrix.diagonal() > 0).all()


@pytest.mark.parametrize("make", [Coupling, Autoregressive])
@pytest.mark.parametrize("element", [Affine, Spline])
def test_a_context_changes_the_map_and_is_broadcast(make, element):
    torch.manual_seed(0)
    layer = make(3, hidden=(8,), element=element(), context_features=2).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    base = dist.Normal(torch.zeros(3, dtype=torch.float64), 1.0).to_event(1)
    contexts = torch.randn(4, 2, dtype=torch.float64)
    flow = Flow(base, [layer]).condition(contexts)
    assert flow.batch_shape == (4,)
    drawn = flow.rsample((5,))
    assert drawn.shape == (5, 4, 3)
    together = flow.log_prob(drawn.clone())
    alone = [Flow(base, [layer]).condition(each).log_prob(drawn[:, i]) for i, each in enumerate(contexts)]
    torch.testing.assert_close(together, torch.stack(alone, 1))
    assert (together[:, 0] - Flow(base, [layer]).condition(contexts[1]).log_prob(drawn[:, 0])).abs().max() > 1e-3


class Density(nn.Module):
    """A flow for rows of numbers."""

    def __init__(self, features):
        super().__init__()
        self.layers = nn.ModuleList([ActNorm(features), *self.couplings(features)])
        self.register_buffer("zeros", torch.zeros(features))

    def couplings(self, features):
        return [Coupling(features, (32,), Spline(), swap=bool(number % 2)) for number in range(4)]

    def model(self, x=None):
        base = dist.Normal(self.zeros, 1.0).to_event(1)
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", Flow(base, self.layers), obs=x)


def test_a_flow_is_fitted_and_sampled_as_any_program():
    """The evidence of a ring exceeds that of the Gaussian with its moments; draws lie on the ring."""
    torch.manual_seed(0)
    angle = 2 * torch.pi * torch.rand(1000)
    ring = torch.stack([angle.cos(), angle.sin()], -1) + 0.1 * torch.randn(1000, 2)
    fitted = fit(Density(2), ring[:800], epochs=60, batch_size=100, optimizer=torch.optim.Adam, progress=False)
    gaussian = dist.MultivariateNormal(ring[:800].mean(0), ring[:800].T.cov()).log_prob(ring[800:])
    gain = fitted.log_evidence(ring[800:]).cpu() - gaussian
    assert gain.mean() > 0.5 + 4 * gain.std() / 200**0.5
    radius = fitted.sample(500, seed=1)["x"].norm(dim=-1)
    assert ((radius > 0.6) & (radius < 1.4)).float().mean() > 0.9


def test_a_draw_remembers_how_it_was_made():
    """The density of a draw costs no inverse, which an inverse autoregressive flow could not pay."""

    class Counting(Autoregressive):
        inverses = 0

        def inverse_pass(self, y, context):
            Counting.inverses += 1
            return super().inverse_pass(y, context)

    flow = Flow(dist.Normal(torch.zeros(3), 1.0).to_event(1), [Counting(3, fast="sampling")])
    drawn = flow.rsample((4,))
    flow.log_prob(drawn)
    assert Counting.inverses == 0
    flow.log_prob(drawn.clone())
    assert Counting.inverses == 1


def test_splines_are_exact_where_slopes_are_steep_and_numbers_lie_on_edges():
    """In single precision against double, with gradients that stay finite; sizes and slopes are at their limits."""
    torch.manual_seed(0)
    spline, parameters = Spline(8, bound=3.0), 1000 * torch.randn(2000, 23)
    y = torch.cat([6 * torch.rand(1994) - 3, torch.tensor([-3.0, 3.0, 0.0, -9.0, 9.0, torch.inf])])
    given = parameters.requires_grad_()
    x, ladj = spline.inverse(y, given)
    exact, _ = spline.inverse(y.double(), parameters.double())
    (slopes,) = torch.autograd.grad(ladj.sum() + x[:-1].sum(), given)
    assert slopes.isfinite().all()
    torch.testing.assert_close(x.double(), exact, atol=1e-2, rtol=0)
    torch.testing.assert_close(spline.forward(exact, parameters.double())[0], y.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Coupling(1), "features=1, expected 2 or more"),
        (lambda: Autoregressive(2, hidden=()), "expected one width at least"),
        (lambda: Autoregressive(2, fast="both"), "'density' or 'sampling', got 'both'"),
        (lambda: Spline(bins=0), "bins=0"),
        (lambda: Permute([0, 2]), r"permutation of 0 to 1, got \[0, 2\]"),
        (lambda: Unsqueeze()(torch.ones(3, 2, 2)), r"channels in fours, got images of shape \(3, 2, 2\)"),
        (lambda: Unsqueeze().inv(torch.ones(1, 3, 4)), r"halves height and width.*\(1, 3, 4\)"),
        (lambda: Coupling(2).condition(torch.ones(3))(torch.ones(2)), "expected a context of no features, got 3"),
        (lambda: Coupling(2, context_features=3)(torch.ones(2)), "expected a context of 3 features, got none"),
        (
            lambda: Flow(dist.Normal(torch.zeros(2), 1.0).to_event(1), [Coupling(2)]).condition(torch.ones(3)),
            r"no transform of this flow takes a context, got one of shape \(3,\).*context_features=3",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(OptionError, match=message):
        call()
