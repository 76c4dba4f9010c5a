"""Gumbel-Softmax: its draws and densities beside Pyro's, its bias beside the enumerated gradient, its extremes."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.reparam import GumbelSoftmaxReparam
from torch import nn
from torch.distributions import kl_divergence
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

import ppl_genmodels as ppl
from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.handlers import GumbelSoftmax, gumbel_softmax
from ppl_genmodels.inference.compiled import CompiledGradient

CLASSES, ROWS = 3, 4
LOGITS = torch.tensor([[0.3, -1.0, 0.8], [2.0, 0.0, -2.0], [0.0, 0.1, 0.2], [-1.0, 1.0, 0.5]], dtype=torch.float64)
SINGLE = LOGITS.float()
X = torch.tensor([0.3, -1.0, 1.2, 0.5])


def one_hot(logits):
    return dist.OneHotCategorical(logits=logits)


def bits(logits):
    return dist.Bernoulli(logits=logits).to_event(1)


class Small(nn.Module):
    """One site for each row, one-hot or three bits, and a likelihood that is not linear in it."""

    def __init__(self, family, logits=SINGLE, prior=(0.5, -0.5, 0.0)):
        super().__init__()
        self.family, self.logits = family, nn.Parameter(logits.clone())
        self.register_buffer("prior", torch.tensor(prior).to(logits.dtype))
        self.register_buffer("means", torch.tensor([-1.0, 0.5, 2.0]).to(logits.dtype))

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", self.family(self.logits[: len(x)]))

    def model(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", self.family(self.prior))
            pyro.sample("x", dist.Normal((y * self.means).sum(-1), 1.0), obs=x)

    def exact(self):
        """The objective, by enumeration."""
        fn, prior = self.family(self.logits), self.family(self.prior)
        support = torch.eye(3) if self.family is one_hot else torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        total = 0.0
        for y in support:
            log_q, log_prior = fn.log_prob(y.expand(ROWS, 3)), prior.log_prob(y)
            log_likelihood = dist.Normal((y * self.means).sum(-1), 1.0).log_prob(X)
            total = total + log_q.exp() * (log_likelihood + log_prior - log_q)
        return total.mean()


def traces(program, particles=1, step=0):
    run = obj.Run(as_program(program), (X,), {}, particles, step)
    return run, run.guide.nodes["y"], run.model.nodes["y"]


@pytest.mark.parametrize("temperature", [0.5, torch.tensor(1.7, dtype=torch.float64)])
def test_one_hot_draws_and_densities_are_those_of_pyros_relaxation(temperature):
    program = gumbel_softmax(Small(one_hot, LOGITS), temperature=temperature)
    torch.manual_seed(0)
    run, guide, model = traces(program, particles=5)
    scalar = torch.as_tensor(temperature, dtype=torch.float64)
    posterior = dist.RelaxedOneHotCategorical(scalar, logits=LOGITS)
    prior = dist.RelaxedOneHotCategorical(scalar, logits=program.source.prior)
    torch.manual_seed(0)
    expected = posterior.rsample((5,))
    torch.testing.assert_close(guide["value"], expected)
    torch.testing.assert_close(run.site_log_prob(guide), posterior.log_prob(expected))
    torch.testing.assert_close(run.site_log_prob(model), prior.log_prob(expected))


def test_binary_draws_and_densities_are_those_of_pyros_relaxation():
    program = gumbel_softmax(Small(bits, LOGITS), temperature=0.5)
    torch.manual_seed(0)
    run, guide, model = traces(program, particles=5)
    half = torch.tensor(0.5, dtype=torch.float64)
    posterior = dist.RelaxedBernoulli(half, logits=LOGITS).to_event(1)
    prior = dist.RelaxedBernoulli(half, logits=program.source.prior).to_event(1)
    torch.manual_seed(0)
    expected = posterior.rsample((5,))
    torch.testing.assert_close(guide["value"], expected)
    torch.testing.assert_close(run.site_log_prob(guide), posterior.log_prob(expected))
    torch.testing.assert_close(run.site_log_prob(model), prior.log_prob(expected))


def test_draws_are_those_of_pyros_reparameterizer():
    def relaxed():
        return pyro.sample("y", dist.RelaxedOneHotCategorical(torch.tensor(0.7).double(), logits=LOGITS))

    torch.manual_seed(0)
    expected = pyro.poutine.reparam(relaxed, {"y": GumbelSoftmaxReparam()})()
    torch.manual_seed(0)
    with GumbelSoftmax("y", temperature=0.7):
        found = pyro.sample("y", one_hot(LOGITS))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("family", [one_hot, bits])
@pytest.mark.parametrize("density", ["relaxed", "categorical"])
def test_a_hard_draw_is_a_vertex_with_the_gradient_of_the_soft_draw(family, density):
    weights, found = torch.randn(ROWS, CLASSES, dtype=torch.float64), []
    for hard in (False, True):
        torch.manual_seed(0)
        logits = LOGITS.clone().requires_grad_()
        with GumbelSoftmax("y", temperature=0.7, hard=hard, density=density):
            value = pyro.sample("y", family(logits))
        found.append((value.detach(), *torch.autograd.grad((value * weights).sum(), logits)))
    (soft, gradient), (hard, hard_gradient) = found
    nearest = nn.functional.one_hot(soft.argmax(-1), CLASSES) if family is one_hot else soft.round()
    assert torch.equal(hard, nearest.double())
    torch.testing.assert_close(hard_gradient, gradient)


@pytest.mark.parametrize("family", [one_hot, bits])
def test_hard_draws_have_the_discrete_frequencies(family):
    torch.manual_seed(0)
    draws = 100_000
    with GumbelSoftmax("y", temperature=0.3, hard=True), pyro.plate("draws", draws, dim=-2):
        frequency = pyro.sample("y", family(LOGITS)).mean(0)
    probability = LOGITS.softmax(-1) if family is one_hot else LOGITS.sigmoid()
    standard_error = (probability * (1 - probability) / draws).sqrt()
    assert ((frequency - probability).abs() < 4 * standard_error).all()


EXTREME = 50 * torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.9, -1.0]])


@pytest.mark.parametrize("family", [one_hot, bits])
@pytest.mark.parametrize("density", ["relaxed", "categorical"])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("method", ["auto", "monte_carlo"])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 5.0])
def test_nothing_overflows_at_extremes(family, density, hard, method, temperature):
    """In single precision, validated, replayed in the model, with particles, the prior at the other extreme."""
    torch.manual_seed(0)
    program = Small(family, EXTREME, prior=(-50.0, 50.0, -50.0))
    wrapped = gumbel_softmax(program, temperature=temperature, hard=hard, density=density)
    with pyro.validation_enabled(True):
        loss = obj.elbo(method).loss(wrapped, X, num_particles=200)
        loss.backward()
    assert loss.isfinite()
    assert program.logits.grad.isfinite().all()


def test_the_density_is_exact_where_the_draw_is_rounded_onto_the_border():
    """Against double precision on the logarithm of the draw; eight roundings of terms up to 6000 to 24 bits."""
    torch.manual_seed(0)
    run, guide, model = traces(gumbel_softmax(Small(one_hot, EXTREME), temperature=0.05), particles=100)
    assert (guide["value"] == 0).any()
    u = guide["value"].before_rounding.double()
    for node, logits in ((guide, EXTREME.double()), (model, torch.tensor([0.5, -0.5, 0.0]).double())):
        exp_relaxed = ExpRelaxedCategorical(torch.tensor(0.05).double(), logits=logits)
        expected = exp_relaxed.log_prob(u) - u.sum(-1)
        torch.testing.assert_close(run.site_log_prob(node).double(), expected, rtol=0, atol=8 * 6000 * 2**-24)


def error_of(program, estimator, calls=100, particles=500):
    """The mean gradient less the enumerated one, and its standard error."""
    wrapped = as_program(program).wrap(estimator)
    gradients = torch.stack(
        [
            torch.autograd.grad(-obj.elbo().loss(wrapped, X, num_particles=particles), program.logits)[0]
            for _ in range(calls)
        ]
    )
    (exact,) = torch.autograd.grad(program.exact(), program.logits)
    return gradients.mean(0) - exact, gradients.std(0) / calls**0.5


@pytest.mark.parametrize("family", [one_hot, bits])
@pytest.mark.parametrize("density", ["relaxed", "categorical"])
@pytest.mark.parametrize("hard", [False, True])
def test_the_bias_is_detected(family, density, hard):
    torch.manual_seed(0)
    error, standard_error = error_of(Small(family), GumbelSoftmax(temperature=1.0, hard=hard, density=density))
    assert (error.abs() / standard_error).max() > 6
    assert GumbelSoftmax.biased


@pytest.mark.parametrize("family", [one_hot, bits])
def test_the_bias_falls_with_the_temperature(family):
    """By more than four standard errors, then, where it drowns in the noise, at all."""
    torch.manual_seed(0)
    found = [error_of(Small(family), GumbelSoftmax(temperature=t, density="categorical")) for t in (2.0, 0.5, 0.1)]
    sizes = [error.norm() for error, _ in found]
    noise = [standard_error.norm() for _, standard_error in found]
    assert sizes[0] - sizes[1] > 4 * (noise[0] + noise[1])
    assert sizes[1] - sizes[2] > noise[1] + noise[2]


@pytest.mark.parametrize("family", [one_hot, bits])
def test_the_divergence_of_relaxations_is_that_of_their_noise_at_every_temperature(family):
    """Log and logit of the draw, times the temperature, are the noise moved by the logits, whatever the temperature.

    It is above that of the discrete distributions, which are functions of the relaxed ones.
    """
    found = []
    program = Small(family, LOGITS)
    for temperature in (2.0, 0.1):
        torch.manual_seed(0)
        run, *_ = traces(gumbel_softmax(program, temperature=temperature), particles=20_000)
        found.append(obj.kl().values(run)["kl"])
    torch.testing.assert_close(*found)
    discrete = kl_divergence(family(program.logits), family(program.prior).expand((ROWS,)))
    excess = found[0].mean(0) - discrete
    assert (excess > 4 * found[0].std(0) / 20_000**0.5).all()


@pytest.mark.parametrize("family", [one_hot, bits])
@pytest.mark.parametrize("hard", [False, True])
def test_the_divergence_of_the_discrete_distributions_is_the_closed_form(family, hard):
    program = Small(family, LOGITS)
    run, *_ = traces(gumbel_softmax(program, hard=hard, density="categorical"), particles=2)
    expected = kl_divergence(family(program.logits), family(program.prior).expand((ROWS,)))
    torch.testing.assert_close(obj.kl().values(run)["kl"], expected.expand(2, ROWS))
    assert run.divergences == {"y": "closed form"}
    entropy = obj.entropy().values(run)["entropy"]
    torch.testing.assert_close(entropy, family(program.logits).entropy().expand(2, ROWS))


def test_the_divergence_is_finite_between_extremes():
    """From 3 bits at logit -50, which are 0, to a prior at 50, where that has the log-probability -50."""
    program = Small(bits, torch.full((ROWS, 3), -50.0), prior=(50.0, 50.0, 50.0))
    run, *_ = traces(gumbel_softmax(program, density="categorical"))
    torch.testing.assert_close(obj.kl().values(run)["kl"], torch.full((1, ROWS), 150.0))


@pytest.mark.parametrize("family", [one_hot, bits])
def test_the_mass_is_linear_in_the_value(family):
    _, guide, _ = traces(gumbel_softmax(Small(family, LOGITS), density="categorical"))
    log_mass = guide["fn"].log_prob
    one, other = (family(LOGITS).sample() for _ in range(2))
    torch.testing.assert_close(log_mass(one), family(LOGITS).log_prob(one))
    torch.testing.assert_close(log_mass(0.3 * one + 0.7 * other), 0.3 * log_mass(one) + 0.7 * log_mass(other))


def test_shapes_are_those_of_the_program_in_nested_plates_and_event_dims():
    def program(x=None):
        with pyro.plate("outer", 2, dim=-2), pyro.plate("inner", 5, dim=-1):
            pyro.sample("y", dist.OneHotCategorical(logits=torch.zeros(3)).expand([2, 5, 4]).to_event(1))
            pyro.sample("b", dist.Bernoulli(0.3))

    with pyro.plate("particles", 7, dim=-3):
        plain = pyro.poutine.trace(program).get_trace()
        relaxed = pyro.poutine.trace(gumbel_softmax(program)).get_trace()
    for name in ("y", "b"):
        one, other = plain.nodes[name], relaxed.nodes[name]
        assert other["value"].shape == one["value"].shape
        assert other["fn"].log_prob(other["value"]).shape == one["fn"].log_prob(one["value"]).shape
        assert (other["fn"].batch_shape, other["fn"].event_shape) == (one["fn"].batch_shape, one["fn"].event_shape)


def test_half_precision_draws_are_made_in_single_precision():
    with GumbelSoftmax("y", temperature=0.05):
        value = pyro.sample("y", one_hot(LOGITS.bfloat16()))
    assert (value.dtype, value.before_rounding.dtype) == (torch.bfloat16, torch.float32)


def test_where_no_gradient_is_taken_the_site_is_discrete():
    program, drawn = Small(one_hot), []
    for one in (program, gumbel_softmax(program)):
        torch.manual_seed(0)
        with torch.no_grad():
            _, guide, _ = traces(one, particles=3)
        drawn.append(guide["value"])
        assert type(guide["fn"]).__name__ == "OneHotCategorical"
    assert torch.equal(*drawn)


@pytest.mark.parametrize("step", [0, 5, 20])
def test_a_schedule_is_asked_with_the_step_of_the_run(step):
    schedule, losses = obj.Exponential(1.0, 0.25, steps=10), []
    for temperature in (schedule, float(schedule(step))):
        torch.manual_seed(0)
        losses.append(obj.elbo().loss(gumbel_softmax(Small(one_hot), temperature=temperature), X, step=step))
    torch.testing.assert_close(*losses)


def fit(temperature, compile="off", family=one_hot, **options):
    program = gumbel_softmax(Small(family), temperature=temperature, **options)
    return ppl.fit(program, X, steps=12, batch_size=ROWS, compile=compile, progress=False)


@pytest.mark.own_compile
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("family", [one_hot, bits])
@pytest.mark.parametrize("density", ["relaxed", "categorical"])
@pytest.mark.parametrize("hard", [False, True])
def test_a_traced_fit_gives_the_eager_numbers_and_sees_the_schedule(family, density, hard):
    schedule, options = obj.Exponential(1.0, 0.1, steps=10), {"family": family, "density": density, "hard": hard}
    eager, traced = (fit(schedule, mode, **options).history["gradient_norm"].tolist() for mode in ("off", "trace"))
    constant = fit(1.0, "trace", **options).history["gradient_norm"].tolist()
    assert traced == pytest.approx(eager, rel=1e-5)
    assert constant[0] == pytest.approx(traced[0], rel=1e-5)
    assert constant[-1] != pytest.approx(traced[-1], rel=1e-5)


def test_a_traced_step_sees_a_temperature_changed_in_place():
    temperature, values = torch.tensor(1.0), []
    program = gumbel_softmax(Small(one_hot), temperature=temperature)
    gradient = CompiledGradient(obj.elbo(), program)
    for value in (1.0, 0.3):
        temperature.fill_(value)
        torch.manual_seed(0)
        found = gradient((X,), {}, step=0)
        torch.manual_seed(0)
        values.append((found[0], obj.elbo().loss(program, X).detach()))
    assert gradient.traces == 1
    for traced, eager in values:
        torch.testing.assert_close(traced, eager)


def test_named_at_the_guides_site_it_serves_the_model_too():
    class Named(Small):
        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("y", self.family(self.logits), infer={"gradient": GumbelSoftmax(temperature=0.7)})

    losses = []
    for program in (Named(one_hot), gumbel_softmax(Small(one_hot), temperature=0.7)):
        torch.manual_seed(0)
        losses.append(obj.elbo().loss(program, X, num_particles=3))
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    "temperature", [0.0, -1.0, float("nan"), float("inf"), torch.tensor(0.0), obj.Linear(1.0, 0.0, steps=5)]
)
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(OptionError, match=r"temperature must be positive and finite, got .*Remedy"):
        GumbelSoftmax(temperature=temperature)


@pytest.mark.parametrize("temperature", ["hot", torch.ones(2), None])
def test_a_temperature_that_is_no_scalar_is_refused(temperature):
    with pytest.raises(OptionError, match="a number, a scalar tensor or a schedule"):
        GumbelSoftmax(temperature=temperature)


def test_an_unknown_density_is_refused():
    with pytest.raises(OptionError, match="'relaxed', 'categorical'; got 'soft'"):
        GumbelSoftmax(density="soft")


@pytest.mark.parametrize("estimator", [GumbelSoftmax, handlers.StraightThrough])
def test_integer_classes_are_refused_with_the_remedy(estimator):
    with pytest.raises(ProgramError, match=r"'k'.*got Categorical.*Remedy: sample one-hot vectors"), estimator("k"):
        pyro.sample("k", dist.Categorical(logits=LOGITS))


def test_other_sites_are_refused_by_name_and_left_alone_otherwise():
    with pytest.raises(ProgramError, match=r"'n'.*serves Bernoulli and OneHotCategorical.*Poisson"), GumbelSoftmax("n"):
        pyro.sample("n", dist.Poisson(3.0))
    with GumbelSoftmax(), pyro.poutine.trace() as traced:
        pyro.sample("k", dist.Categorical(logits=LOGITS))
    assert "gradient" not in traced.trace.nodes["k"]["infer"]
    with pytest.raises(UnknownNameError, match="'yy'"):
        obj.elbo().loss(gumbel_softmax(Small(one_hot), sites="yy"), X)


def test_a_hard_draw_whose_relaxed_draw_is_lost_has_no_relaxed_density():
    _, guide, _ = traces(gumbel_softmax(Small(one_hot), hard=True))
    with pytest.raises(ProgramError, match=r"lost.*Remedy: density='categorical'"):
        guide["fn"].log_prob(guide["value"].clone())


def test_around_the_guide_alone_it_serves_the_model_too():
    program, losses = Small(one_hot), []
    for each in ((program.model, GumbelSoftmax("y", 0.7)(program.guide)), gumbel_softmax(program, temperature=0.7)):
        torch.manual_seed(0)
        losses.append(obj.elbo().loss(each, X, num_particles=3))
    assert torch.equal(*losses)


class Chain(Small):
    """A bit whose estimator tries alternatives, and the relaxed site after it."""

    def guide(self, x):
        with pyro.plate("data", len(x)):
            bit = pyro.sample("bit", dist.Bernoulli(logits=self.logits[: len(x), 0]))
            pyro.sample("y", self.family(self.logits[: len(x)] * (1 + bit).unsqueeze(-1)))

    def model(self, x):
        with pyro.plate("data", len(x)):
            bit = pyro.sample("bit", dist.Bernoulli(0.5))
            y = pyro.sample("y", self.family(self.prior))
            pyro.sample("x", dist.Normal((y * self.means).sum(-1) + bit, 1.0), obs=x)


LEG, RAM = handlers.LocalExpectation, handlers.ReparameterizeAndMarginalize


@pytest.mark.parametrize(
    ("estimator", "options"),
    [
        (LEG, {"density": "relaxed"}),
        (LEG, {"density": "categorical", "hard": True}),
        (RAM, {"density": "relaxed"}),
        (RAM, {"density": "categorical"}),
        (RAM, {"density": "categorical", "hard": True}),
    ],
)
def test_an_estimator_before_it_has_the_gradient_of_the_score_function(estimator, options):
    """Both are unbiased for the objective in which the later site is relaxed, and have the same expectation.

    Local expectation weighs by the density of the later draw, which a soft draw priced as a category does not give.
    """
    torch.manual_seed(0)
    program, means, errors = Chain(one_hot), [], []
    relaxed = gumbel_softmax(program, sites="y", temperature=0.5, **options)
    for before in (estimator("bit"), handlers.ScoreFunction("bit")):
        losses = (obj.elbo().loss(relaxed.wrap(before), X, num_particles=200) for _ in range(60))
        found = torch.stack([torch.autograd.grad(-loss, program.logits)[0] for loss in losses])
        means.append(found.mean(0))
        errors.append(found.std(0) / 60**0.5)
    assert ((means[0] - means[1]).abs() < 4.5 * (errors[0].square() + errors[1].square()).sqrt()).all()
