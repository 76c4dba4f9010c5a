"""Flipout: each datum's weights are distributed as the draw, and those of different data are uncorrelated."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import Program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.guides import Amortized, AutoDelta, AutoMultivariateNormal, AutoNormal
from ppl_genmodels.inference import compile_step
from ppl_genmodels.networks import MLP, weight_sites

INPUTS, NOISE = 3, 0.7


class Linear(nn.Module):
    """Linear regression with a mean-field guide, whose expected objective is known in closed form."""

    def __init__(self, network=None):
        super().__init__()
        self.network = weight_sites(nn.Linear(INPUTS, 1) if network is None else network)
        self.loc, self.raw = nn.Parameter(0.5 * torch.randn(1, INPUTS)), nn.Parameter(0.3 * torch.randn(1, INPUTS))
        self.bias, self.raw_bias = nn.Parameter(torch.randn(1)), nn.Parameter(torch.zeros(1))

    def guide(self, x, y=None):
        pyro.sample("network.weight", dist.Normal(self.loc, self.raw.exp()).to_event(2))
        pyro.sample("network.bias", dist.Normal(self.bias, self.raw_bias.exp()).to_event(1))

    def model(self, x, y=None):
        mean = self.network(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(mean, NOISE), obs=y)

    def exact(self, x, y):
        """The expected log-likelihood less the terms without gradient."""
        mean = x @ self.loc[0] + self.bias
        variance = x.square() @ self.raw[0].exp().square() + self.raw_bias.exp().square()
        return -0.5 * ((y - mean).square() + variance).mean() / NOISE**2


def data(rows):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(rows, INPUTS, generator=generator), torch.randn(rows, generator=generator)


def gradients(program, source, x, y, calls, particles=1):
    parameters = list(source.parameters())
    losses = (obj.log_lik().loss(program, x, y, num_particles=particles) for _ in range(calls))
    return torch.stack([torch.cat([g.reshape(-1) for g in torch.autograd.grad(-loss, parameters)]) for loss in losses])


def deviation(samples, exact):
    """The largest deviation of the mean, in standard errors."""
    return ((samples.mean(0) - exact).abs() / (samples.std(0) / len(samples) ** 0.5)).max()


def exact_gradient(source, x, y):
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(source.exact(x, y), list(source.parameters()))])


@pytest.mark.parametrize("particles", [1, 3])
def test_the_mean_gradient_is_the_exact_one(particles):
    torch.manual_seed(0)
    source, (x, y) = Linear(), data(8)
    samples = gradients(handlers.flipout(source), source, x, y, 300, particles)
    assert deviation(samples, exact_gradient(source, x, y)) < 4.5


def test_a_perturbation_of_another_size_is_caught():
    class Doubled(handlers.Flipout):
        def _split(self, value):
            center, noise = super()._split(value)
            return center, None if noise is None else 2 * noise

    torch.manual_seed(0)
    source, (x, y) = Linear(), data(8)
    samples = gradients(Program(source.model, source.guide).wrap(Doubled()), source, x, y, 300)
    assert deviation(samples, exact_gradient(source, x, y)) > 6


def test_outputs_have_the_variance_of_the_draw_and_no_covariance():
    """Two equal inputs share one draw: their outputs have covariance equal to their variance without the signs."""
    torch.manual_seed(0)
    source, draws = Linear(), 4000
    x = torch.tensor([1.0, -0.5, 2.0]).expand(draws, 2, INPUTS)
    variance = (x[0, 0].square() @ source.raw[0].exp().square() + source.raw_bias.exp().square()).item()
    moments = {}
    for name, handler in (("plain", None), ("flipout", handlers.Flipout())):
        with pyro.plate("draws", draws, dim=-2), pyro.poutine.trace() as traced:
            (handler(source.guide) if handler else source.guide)(x)
        model = pyro.poutine.replay(source.network, trace=traced.trace)
        with pyro.plate("draws", draws, dim=-2):
            y = (handler(model) if handler else model)(x).squeeze(-1).detach()
        moments[name] = (y - y.mean(0)).T @ (y - y.mean(0)) / draws
    error = variance * (2 / draws) ** 0.5  # of a variance; of a covariance at most this
    for found in moments.values():
        assert (found.diagonal() - variance).abs().max() < 4.5 * error
    assert abs(moments["plain"][0, 1] - variance) < 4.5 * error
    assert abs(moments["flipout"][0, 1]) < 4.5 * error


def test_variance_falls_as_one_over_the_batch_and_without_it_stalls():
    """Equal data, gradient of the locations: Wen and others (2018), figure 1, where the exact ratios are known."""
    torch.manual_seed(0)
    source, calls = Linear(), 400
    places = slice(0, INPUTS)  # of the locations among the parameters

    def variance(program, rows):
        x, y = torch.tensor([[1.0, -0.5, 2.0]]).expand(rows, INPUTS), torch.full((rows,), 0.3)
        found = gradients(program, source, x, y, calls)[:, places]
        squares = (found - found.mean(0)).square().sum(1)
        return squares.mean(), squares.std() / calls**0.5

    flipped, plain = ([variance(p, rows) for rows in (1, 16, 256)] for p in (handlers.flipout(source), source))
    for (found, error), rows in zip(flipped, (1, 16, 256), strict=True):
        expected, its_error = (each / rows for each in flipped[0])
        assert abs(found - expected) <= 4.5 * (error**2 + its_error**2) ** 0.5
    for found, error in plain:
        assert abs(found - plain[0][0]) <= 4.5 * (error**2 + plain[0][1] ** 2) ** 0.5


def deep(make):
    source = Linear(MLP(INPUTS, 1, hidden=(4,)))
    return Program(source.model, make(source.model))


@pytest.mark.parametrize("make", [AutoNormal, lambda model: Amortized(model, nn.Linear(INPUTS, 2))])
@pytest.mark.parametrize("particles", [1, 3])
def test_guides_of_independent_normals_are_served(make, particles):
    """Rows that are equal get outputs that differ."""
    program, x = deep(make), torch.ones(4, INPUTS)
    program.structure(x, torch.zeros(4))
    run = obj.Run(handlers.flipout(program), (x, torch.zeros(4)), {}, particles)
    loc = run.model.nodes["y"]["fn"].loc.reshape(particles, 4)
    assert all(len(row.unique()) > 1 for row in loc)


@pytest.mark.parametrize("make", [AutoMultivariateNormal, AutoDelta])
def test_other_guides_are_refused(make):
    x, y = data(4)
    with pytest.raises(ProgramError, match=r"layer 'network.layers.0': Flipout serves.*guides.AutoNormal"):
        obj.elbo().loss(handlers.flipout(deep(make)), x, y)


def test_only_selected_weights_are_perturbed():
    source, x = Linear(), torch.ones(4, INPUTS)
    for sites, distinct in (((), 1), ("network.bias", 2)):
        run = obj.Run(handlers.flipout(source, sites=sites), (x, torch.zeros(4)), {})
        found = {len(obj.Run(run.program, run.args, {}).model.nodes["y"]["fn"].loc.unique()) for _ in range(20)}
        assert max(found) == distinct


def test_without_gradients_nothing_changes():
    source, (x, y) = Linear(), data(6)
    values = []
    for program in (source, handlers.flipout(source)):
        torch.manual_seed(4)
        values.append(obj.elbo().evaluate(program, x, y))
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])


def test_the_traced_step_gives_the_eager_values():
    x, y = data(6)
    values = []
    for mode in ("off", "trace"):
        torch.manual_seed(0)
        source = Linear()
        step = compile_step(obj.elbo(), handlers.flipout(source), torch.optim.SGD(source.parameters(), 0.01), mode=mode)
        torch.manual_seed(1)
        values.append(torch.stack([step(x, y) for _ in range(4)]))
    torch.testing.assert_close(*values)


def test_two_handlers_of_one_weight_and_unknown_names_are_refused():
    x, y = data(4)
    twice = handlers.flipout(handlers.flipout(Linear()))
    with pytest.raises(OptionError, match=r"'network.weight' is claimed by two Flipout handlers.*sites="):
        obj.elbo().loss(twice, x, y)
    with pytest.raises(UnknownNameError, match=r"'network.wieght' of Flipout. Did you mean 'network.weight'"):
        obj.elbo().loss(handlers.flipout(Linear(), sites="network.wieght"), x, y)


def test_it_goes_with_detached_scores():
    x, y = data(4)
    program = handlers.detach_score(handlers.flipout(Linear()))
    obj.elbo().loss(program, x, y).backward()
