"""Common noise: the same draw at the same site in every run, and differences that vary little."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import ProgramError, UnknownNameError
from ppl_genmodels.handlers import common_noise

X = torch.tensor([0.4, -0.8, 1.5], dtype=torch.float64)


class Latent(nn.Module):
    """A Gamma for all rows and a Normal for each."""

    def __init__(self):
        super().__init__()
        self.parameter = nn.Parameter(torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64))

    def guide(self, x):
        pyro.sample("rate", dist.Gamma(self.parameter[0].exp(), self.parameter[1].exp()))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.parameter[2] * x, 0.7))

    def model(self, x):
        two = torch.tensor(2.0, dtype=x.dtype)  # in single precision torch rounds what it prices
        rate = pyro.sample("rate", dist.Gamma(two, two / 2))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.sin() * rate, 1.0), obs=x)


START = Latent().parameter.detach()


def differences(step, seeds, apart=0):
    """Of two objectives that lie a step apart, for each seed."""
    program, found = Latent(), []
    for seed in range(seeds):
        losses = []
        for parameter, of_seed in ((START + step, seed), (START, seed + apart)):
            program.parameter.data = parameter
            with torch.no_grad(), common_noise(seed=of_seed):
                losses.append(obj.elbo("monte_carlo").loss(program, X, num_particles=3))
        found.append(losses[0] - losses[1])
    return torch.stack(found)


def test_the_variance_of_a_difference_falls_with_the_square_of_the_step():
    """By a hundred for a tenth of the step, to within the next order, which is a tenth; independent runs': not."""
    tenth = differences(0.01, 100).var()
    assert 60 < differences(0.1, 100).var() / tenth < 160
    assert differences(0.01, 100, apart=1000).var() > 100 * tenth


def test_finite_differences_are_the_pathwise_gradient():
    """To the step squared times a third derivative of order ten, and torch's 5e-4 at the shape of a Gamma."""
    handler = handlers.reparameterize(sites="rate")
    common = common_noise(seed=3)

    def value(parameter):
        program = Latent()
        program.parameter.data = parameter
        loss = obj.elbo("monte_carlo").loss(as_program(program).wrap(handler).wrap(common), X, num_particles=3)
        return program, loss

    program, loss = value(START)
    (gradient,) = torch.autograd.grad(loss, program.parameter)
    step = 1e-4 * torch.eye(3, dtype=torch.float64)
    differences = torch.stack([(value(START + h)[1] - value(START - h)[1]).detach() / 2e-4 for h in step])
    torch.testing.assert_close(differences, gradient, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(differences[1:], gradient[1:], atol=1e-6, rtol=1e-6)


def drawn(handler, program=None, particles=4):
    return obj.Run(as_program(program or Latent()).wrap(handler), (X,), {}, particles).guide.nodes


@pytest.mark.parametrize("grad", [True, False])
def test_runs_share_noise_and_sites_and_seeds_do_not(grad):
    with torch.set_grad_enabled(grad):
        one, again, other = (drawn(common_noise(seed=seed)) for seed in (1, 1, 2))
    for name in ("rate", "z"):
        assert torch.equal(one[name]["value"], again[name]["value"])
        assert not torch.isin(one[name]["value"], other[name]["value"]).any()
        assert one[name]["value"].unique().numel() == one[name]["value"].numel()


def test_the_random_state_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    drawn(common_noise())
    assert torch.equal(torch.rand(2), expected)


def test_over_seeds_a_run_has_the_law_that_it_has():
    with torch.no_grad():
        values = torch.cat([drawn(common_noise(seed=s), particles=200)["z"]["value"] for s in range(15)])
    error = values - START[2] * X
    assert (error.mean(0).abs() < 4.5 * 0.7 / len(values) ** 0.5).all()
    assert ((error.var(0) - 0.49).abs() < 4.5 * 0.49 * (2 / len(values)) ** 0.5).all()


def test_discrete_sites_share_noise_and_keep_their_estimator():
    def program(probs):
        def run(x):
            with pyro.plate("data", 1000):
                pyro.sample("b", dist.Bernoulli(torch.tensor(probs)))

        return run, run

    low, high = (
        obj.Run(common_noise(program(probs), seed=5), (X,), {}).guide.nodes["b"]["value"] for probs in (0.3, 0.4)
    )
    assert (high >= low).all()
    assert (high > low).any()


def test_named_sites_alone_share_noise():
    one, other = (drawn(common_noise(sites="z")) for _ in range(2))
    assert torch.equal(one["z"]["value"], other["z"]["value"])
    assert not torch.equal(one["rate"]["value"], other["rate"]["value"])


@pytest.mark.parametrize("inner", ["antithetic", "quasi_random"])
def test_it_holds_the_noise_of_other_handlers_however_they_are_nested(inner):
    found = []
    for order in (0, 1, 0):
        program = as_program(Latent())
        for each in (getattr(handlers, inner)(), common_noise(seed=1))[:: 1 - 2 * order]:
            program = program.wrap(each)
        found.append(obj.Run(program, (X,), {}, 4).guide.nodes["z"]["value"])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    if inner == "antithetic":
        loc = START[2] * X
        torch.testing.assert_close(found[0][:2] + found[0][2:], (2 * loc).expand(2, 3))


def test_four_forms_draw_the_same():
    program, found = Latent(), []
    for one in (common_noise(program, seed=1), as_program(program).wrap(common_noise(seed=1))):
        found.append(obj.Run(one, (X,), {}, 4).guide.nodes["z"]["value"])
    with common_noise(seed=1):
        found.append(obj.Run(as_program(program), (X,), {}, 4).guide.nodes["z"]["value"])
    found.append(
        obj.Run(as_program((program.model, common_noise(program.guide, seed=1))), (X,), {}, 4).guide.nodes["z"]["value"]
    )
    assert all(torch.equal(found[0], each) for each in found[1:])


def test_what_cannot_be_served_is_refused_by_name():
    with pytest.raises(UnknownNameError, match="'zz'"):
        obj.elbo().loss(common_noise(Latent(), sites="zz"), X)
    with (
        pytest.raises(ProgramError, match=r"'l': CommonNoise serves distributions.*got LKJCholesky"),
        common_noise(sites="l"),
    ):
        pyro.sample("l", dist.LKJCholesky(2, 1.0))


@pytest.mark.own_compile
@pytest.mark.filterwarnings("error")
def test_a_traced_fit_gives_the_eager_numbers_and_every_step_the_same_noise():
    histories = []
    for mode in ("off", "trace"):
        torch.manual_seed(0)
        program = common_noise(Latent())
        optimizer = torch.optim.SGD(as_program(program).parameters(), lr=0.0)
        fitted = ppl.fit(
            program, X, steps=4, batch_size=3, num_particles=4, compile=mode, progress=False, optimizer=optimizer
        )
        histories.append(fitted.history["objective"].tolist())
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)
    assert histories[0] == pytest.approx(4 * [histories[0][0]], rel=1e-5)
