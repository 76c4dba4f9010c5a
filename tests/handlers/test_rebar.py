"""REBAR and RELAX beyond the contract: the law of the relaxed draws, what is learned, what is refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn

from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.handlers.conditional import conditional_draw, log_mass, unconditional
from ppl_genmodels.inference import compile_step

ROWS, CALLS = 4, 400


class Bits(nn.Module):
    """Bits whose cost is exactly known: that of each value of two bits is listed."""

    def __init__(self, later=None):
        super().__init__()
        self.logits, self.later = nn.Parameter(torch.tensor([0.4, -0.3]).repeat(ROWS, 1)), later

    def guide(self, x):
        with pyro.plate("data", ROWS):
            b = pyro.sample("b", dist.Bernoulli(logits=self.logits).to_event(1))
            if self.later is not None:
                pyro.sample("later", self.later(b[..., 0]))

    def model(self, x):
        with pyro.plate("data", ROWS):
            b = pyro.sample("b", dist.Bernoulli(0.5).expand([2]).to_event(1))
            if self.later is not None:
                pyro.sample("later", self.later(torch.ones(ROWS)))
            pyro.factor("cost", self.cost(b))

    @staticmethod
    def cost(b):
        return 5.0 + (b[..., 0] - 0.45).square() * 4 + b[..., 0] * b[..., 1]

    def exact(self):
        probs = self.logits.sigmoid()
        total = 0.0
        for first in (0.0, 1.0):
            for second in (0.0, 1.0):
                bits = torch.tensor([first, second])
                weight = torch.where(bits > 0, probs, 1 - probs).prod(-1)
                total = total + weight * self.cost(bits)
        return torch.autograd.grad(total.mean(), self.logits)[0]


class Classes(nn.Module):
    """One class for each datum, at a cost that no derivative passes."""

    def __init__(self):
        super().__init__()
        self.logits, self.costs = nn.Parameter(torch.randn(ROWS, 3)), torch.tensor([9.0, 2.0, 4.0])

    def guide(self, x):
        with pyro.plate("data", ROWS):
            pyro.sample("k", dist.Categorical(logits=self.logits))

    def model(self, x):
        with pyro.plate("data", ROWS):
            k = pyro.sample("k", dist.Categorical(torch.ones(3) / 3))
            pyro.factor("cost", self.costs[k])

    def exact(self):
        return torch.autograd.grad((self.logits.softmax(-1) * self.costs).sum(-1).mean(), self.logits)[0]


def gradients(program, wrapped):
    losses = (obj.log_lik().loss(wrapped, torch.zeros(ROWS)) for _ in range(CALLS))
    return torch.stack([-torch.autograd.grad(loss, program.logits)[0] for loss in losses])


@pytest.mark.parametrize("logit", [-3.0, 0.2, 4.0])
def test_draws_of_bits_given_their_values_are_logistic_together(logit):
    torch.manual_seed(0)
    fn = dist.Bernoulli(logits=torch.full((20000,), logit))
    bits = fn.sample()
    z = conditional_draw(fn, fn.logits, bits)
    assert torch.equal((z > 0).float(), bits)
    assert stats.kstest(z.double().numpy(), stats.logistic(loc=logit).cdf).pvalue > 1e-3


@pytest.mark.parametrize("kind", [dist.Categorical, dist.OneHotCategorical])
def test_draws_of_classes_given_their_values_are_gumbel_together(kind):
    torch.manual_seed(0)
    logits = torch.tensor([0.3, -1.5, 1.0]).log_softmax(-1)
    fn = kind(logits=logits.expand(20000, 3))
    value = fn.sample()
    z = conditional_draw(fn, fn.logits, value)
    assert torch.equal(z.argmax(-1), value if kind is dist.Categorical else value.argmax(-1))
    for k in range(3):
        assert stats.kstest(z[:, k].double().numpy(), stats.gumbel_r(loc=logits[k].item()).cdf).pvalue > 1e-3


def test_the_gradient_of_draws_given_their_values_is_that_of_the_law():
    """E[z | b = 1] by quadrature over the noise, differentiated."""
    torch.manual_seed(0)
    logit = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    fn = dist.Bernoulli(logits=logit.expand(40000))
    slopes = torch.autograd.grad(conditional_draw(fn, fn.logits, torch.ones(40000, dtype=torch.float64)).mean(), logit)
    u = (torch.arange(200000, dtype=torch.float64) + 0.5) / 200000 * logit.detach().sigmoid()

    def mean(at):
        scaled = u / logit.detach().sigmoid() * at.sigmoid()
        return (at - scaled.logit()).mean()

    exact = torch.autograd.functional.jacobian(mean, logit.detach())
    assert slopes[0].item() == pytest.approx(exact.item(), abs=4 * 0.5 / 40000**0.5)  # slopes lie in (0, 1)


def test_the_same_draw_has_another_gradient_when_the_noise_is_held():
    logits = torch.randn(5, requires_grad=True)
    fn = dist.Bernoulli(logits=logits)
    value = fn.sample()
    given = conditional_draw(fn, logits, value)
    assert torch.allclose(unconditional(logits, given), given)
    assert torch.allclose(log_mass(fn, logits, value), fn.log_prob(value))


@pytest.mark.parametrize(
    ("make", "estimator"), [(Bits, handlers.Rebar), (Bits, handlers.Relax), (Classes, handlers.Relax)]
)
def test_learning_lowers_the_variance_and_leaves_no_bias(make, estimator):
    torch.manual_seed(1)
    program, chosen = make(), estimator()
    wrapped = as_program(program).wrap(chosen)
    obj.log_lik().loss(wrapped, torch.zeros(ROWS))
    before = gradients(program, wrapped)
    step = compile_step(obj.log_lik(), wrapped, torch.optim.Adam(chosen.state.parameters(), 0.02), "off")
    for _ in range(400):
        step(torch.zeros(ROWS))
    after, exact = gradients(program, wrapped), program.exact()
    assert after.var(0).sum() < 0.8 * before.var(0).sum()
    errors = after.std(0) / CALLS**0.5
    assert ((after.mean(0) - exact).abs() / (errors + 1e-6)).max() < 4.5


def test_relaxed_costs_lower_the_variance():
    torch.manual_seed(1)
    program = Bits()
    plain = gradients(program, as_program(program).wrap(handlers.ScoreFunction(baseline="none")))
    relaxed = gradients(program, as_program(program).wrap(handlers.Rebar()))
    assert relaxed.var(0).sum() < 0.2 * plain.var(0).sum()


class Uncoupled(handlers.Rebar):
    """Wrong: the slope of the draw given the bit is left out."""

    def _control(self, site, z):
        control, slope = super()._control(site, z)
        return control, 0.0 * slope


def test_a_missing_slope_is_caught():
    torch.manual_seed(1)
    program = Bits()
    found = gradients(program, as_program(program).wrap(Uncoupled()))
    errors = found.std(0) / CALLS**0.5
    assert ((found.mean(0) - program.exact()).abs() / errors).max() > 6


@pytest.mark.parametrize("estimator", [handlers.Rebar, handlers.Relax])
def test_a_traced_step_is_the_eager_one(estimator):
    found = []
    for mode in ("off", "trace"):
        torch.manual_seed(2)
        program = as_program(Bits(later=lambda b: dist.Normal(b, 1.0))).wrap(estimator())
        obj.elbo().loss(program, torch.zeros(ROWS))
        step = compile_step(obj.elbo(), program, torch.optim.SGD(program.parameters(), 0.1), mode)
        torch.manual_seed(3)
        steps = [step(torch.zeros(ROWS)) for _ in range(4)]
        found.append(torch.stack([*steps, *(p.detach().sum() for p in program.parameters())]))
    torch.testing.assert_close(*found)


def test_a_later_site_that_cannot_be_relaxed_is_refused():
    program = as_program(Bits(later=lambda b: dist.Poisson(1.0 + b))).wrap(handlers.Rebar("b"))
    with pytest.raises(ProgramError, match=r"'later': Poisson has no relaxation.*ScoreFunction"):
        obj.elbo().loss(program, torch.zeros(ROWS))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperatures_are_positive(temperature):
    with pytest.raises(OptionError, match="temperature must be positive and finite, got"):
        handlers.rebar(temperature=temperature)
