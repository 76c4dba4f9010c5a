"""The diffusion of bits against everything that can be enumerated on three of them."""

import math
from itertools import product

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels.errors import DataError, OptionError, ProgramError
from ppl_genmodels.inference import binomial_posterior
from ppl_genmodels.models import VAE, BinomialChain, BinomialDiffusion
from ppl_genmodels.networks import BitDenoiser
from ppl_genmodels.objectives import binomial_denoising, elbo, iwae
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.objectives.surrogate import surrogate
from ppl_genmodels.program import as_program

BITS = 3
STATES = torch.tensor(list(product([0.0, 1.0], repeat=BITS)), dtype=torch.float64)
RATES = [0.5, torch.tensor(0.2).item()]  # as programs keep it, in single precision


class ExactDenoiser(BitDenoiser):
    """The probabilities of bits under a known distribution of all states."""

    def __init__(self, probabilities, rate):
        super().__init__(nn.Identity(), rate)
        self.probabilities = probabilities

    def forward(self, noisy, time):
        kept = (1 - time).reshape(*time.shape, 1, 1)
        ones = kept * STATES + (1 - kept) * self.rate
        given = torch.where(noisy.unsqueeze(-2) == 1, ones, 1 - ones).prod(-1) * self.probabilities
        return ((given / given.sum(-1, keepdim=True)) @ STATES).logit()


def untrained(rate, steps=4):
    torch.manual_seed(0)
    return BinomialDiffusion((BITS,), width=16, blocks=1, rate=rate, steps=steps).double()


def some_program(rate, steps=4):
    """Of a network that says something about every bit."""
    program = untrained(rate, steps)
    nn.init.normal_(program.denoiser.network.leave.weight, std=0.3)
    nn.init.normal_(program.denoiser.network.leave.bias)
    return program


def exact_program(rate, steps):
    probabilities = torch.tensor([6.0, 1, 2, 1, 0.5, 3, 1, 4], dtype=torch.float64)
    denoiser = ExactDenoiser(probabilities / probabilities.sum(), rate).double()
    return BinomialChain(denoiser, (BITS,), steps)


def time_of(number, steps):
    return torch.tensor(number / steps, dtype=torch.float64)


def table(log_odds):
    """Probabilities of all states, shape (given, state), of independent bits with log-odds of shape (given, bits)."""
    return dist.Bernoulli(logits=log_odds.unsqueeze(1)).to_event(1).log_prob(STATES).exp()


def forward_step(number, steps, rate):
    """The paper's kernel by its definition, shape (from state, to state)."""
    beta = 1 / (steps - number + 1)
    ones = STATES * (1 - beta) + rate * beta
    return torch.where(STATES.unsqueeze(0) == 1, ones.unsqueeze(1), 1 - ones.unsqueeze(1)).prod(-1)


def forward_marginals(steps, rate):
    """q(z_i | x) for i = 0 to T, each of shape (data state, noisy state)."""
    found = [torch.eye(len(STATES), dtype=torch.float64)]
    for number in range(1, steps + 1):
        found.append(found[-1] @ forward_step(number, steps, rate))
    return found


def reverse_steps(program):
    """p(z_{i-1} | z_i) for i = 1 to T, each of shape (noisy state, less noisy state)."""
    denoiser, steps = program.denoiser, program.steps
    found = []
    for number in range(1, steps + 1):
        time = time_of(number, steps)
        log_odds = denoiser(STATES, time)
        if number > 1:
            log_odds = denoiser.step(STATES, log_odds, time, time_of(number - 1, steps))
        found.append(table(log_odds))
    return found


def noise(rate):
    return torch.where(STATES == 1, rate, 1 - rate).prod(-1)


def exact_evidence(program):
    """log p(x) of every state."""
    law = noise(program.denoiser.rate)
    for step in reversed(reverse_steps(program)):
        law = law @ step
    return law.log()


def exact_bound(program):
    """Equation 12 of the paper for every state: the log of the paths' ratio, averaged over forward paths."""
    steps, rate = program.steps, program.denoiser.rate
    marginals = forward_marginals(steps, rate)
    total = marginals[-1] @ noise(rate).log()
    for number, reverse in enumerate(reverse_steps(program), 1):
        forward = forward_step(number, steps, rate)
        ratio = reverse.mT.log() - forward.clamp(min=1e-300).log()
        total = total + marginals[number - 1] @ (forward * ratio).sum(-1)
    return total


def bound_of(objective, program, x, draws):
    found = torch.stack([sum_of(objective.evaluate(program, x)) for _ in range(draws)])
    return found.mean(0), found.std(0) / draws**0.5


def sum_of(terms):
    return terms["log_lik"] - terms["kl"] if "kl" in terms else next(iter(terms.values()))


@pytest.mark.parametrize("rate", RATES)
def test_noisy_bits_follow_the_papers_rates(rate):
    denoiser = untrained(rate).denoiser
    for number, exact in enumerate(forward_marginals(4, rate)):
        if number:
            found = table(denoiser.noisy(STATES, time_of(number, 4)))
            torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_way_back_is_by_bayes_rule(rate, number):
    denoiser, before = untrained(rate).denoiser, forward_marginals(4, rate)[number - 1]
    joint = before.unsqueeze(-1) * forward_step(number, 4, rate)  # (x, z_s, z_t)
    exact = joint / joint.sum(1, keepdim=True)
    for noisy, column in zip(STATES, exact.unbind(-1), strict=True):
        found = denoiser.posterior(noisy.expand_as(STATES), STATES, time_of(number, 4), time_of(number - 1, 4))
        torch.testing.assert_close(table(found), column, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_step_of_the_exact_denoiser_has_the_bits_of_the_forward_process(rate, number):
    program = exact_program(rate, 4)
    before = program.denoiser.probabilities @ forward_marginals(4, rate)[number - 1]
    joint = before.unsqueeze(-1) * forward_step(number, 4, rate)
    bits = (joint / joint.sum(0)).mT @ STATES  # (z_t, bit of z_s)
    found = reverse_steps(program)[number - 1] @ STATES
    torch.testing.assert_close(found, bits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rate", RATES)
def test_the_evidence_bound_is_that_of_the_paths_and_below_the_evidence(rate):
    torch.manual_seed(0)
    program = some_program(rate)
    exact, evidence = exact_bound(program), exact_evidence(program)
    assert (exact < evidence).all()
    assert evidence.exp().sum().item() == pytest.approx(1.0, abs=1e-9)
    for objective in (elbo(), elbo(method="monte_carlo")):
        found, error = bound_of(objective, program, STATES.repeat(50, 1), draws=20)
        found, error = found.reshape(50, -1).mean(0), error.reshape(50, -1).square().mean(0).sqrt() / 50**0.5
        assert ((found - exact).abs() < 4.5 * error).all()


@pytest.mark.parametrize("steps", [1, 4, 50])
@pytest.mark.parametrize("rate", RATES)
def test_one_step_stands_for_all(rate, steps):
    torch.manual_seed(0)
    program = some_program(rate)
    exact = exact_bound(program.chain(steps))
    found, error = bound_of(binomial_denoising(steps), program, STATES.repeat(500, 1), draws=20)
    found, error = found.reshape(500, -1).mean(0), error.reshape(500, -1).square().mean(0).sqrt() / 500**0.5
    assert ((found - exact).abs() < 4.5 * error + 1e-6).all()


@pytest.mark.parametrize("objective", [elbo(), binomial_denoising(4)])
def test_gradients_are_those_of_the_exact_bound(objective):
    """The draws need no surrogate: none is made, and nothing is missing."""
    torch.manual_seed(0)
    program, draws = some_program(0.5), 40
    bias = program.denoiser.network.leave.bias
    (exact,) = torch.autograd.grad(-exact_bound(program).mean(), bias)
    losses = (objective.loss(program, STATES.repeat(100, 1)) for _ in range(draws))
    found = torch.stack([torch.autograd.grad(loss, bias)[0] for loss in losses])
    assert ((found.mean(0) - exact).abs() < 4.5 * found.std(0) / draws**0.5).all()
    run = Run(as_program(program), (STATES,), {})
    assert surrogate(run, lambda: objective._parts(run, objective.values(run)), objective._parts_of) == 0


@pytest.mark.parametrize("rate", RATES)
def test_with_the_exact_denoiser_the_bound_tends_to_the_evidence(rate):
    gaps = []
    for steps in (8, 32, 128):
        program = exact_program(rate, steps)
        law = program.denoiser.probabilities
        gaps.append((law @ (law.log() - exact_bound(program))).item())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0  # as one over the number of steps
    assert gaps[2] < 0.01


def test_the_bound_is_equation_14_where_the_last_step_is_the_first_one_backwards():
    program = some_program(0.5)
    learned = program.denoiser.network

    class SilentAtTheEnd(nn.Module):
        def forward(self, noisy, time):
            return learned(noisy, time) * (time > 1 / program.steps).unsqueeze(-1)

    program.denoiser.network = SilentAtTheEnd()
    marginals, steps, total = forward_marginals(4, 0.5), reverse_steps(program), 0.0
    for number in range(2, 5):
        joint = marginals[number - 1].unsqueeze(-1) * forward_step(number, 4, 0.5)  # (x, z_s, z_t)
        noisy = joint.sum(1)
        back = (joint / noisy.unsqueeze(1)).mT
        divergence = (back * (back.log() - steps[number - 1].log())).sum(-1)
        total = total - (noisy * divergence).sum(-1)
    last, first = (-(marginals[number] * marginals[number].log()).sum(-1) for number in (4, 1))
    total = total + last - first - BITS * math.log(2)
    torch.testing.assert_close(total, exact_bound(program), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rate", RATES)
def test_an_untrained_program_is_noise_whatever_the_path(rate):
    program = untrained(rate, steps=7)
    exact = noise(program.denoiser.rate).log()
    torch.testing.assert_close(exact_evidence(program), exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(exact_bound(program), exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(iwae().evaluate(program, STATES)["iwae"], exact, rtol=0, atol=1e-9)


def test_draws_have_the_law_of_the_chain():
    torch.manual_seed(0)
    program, rows = some_program(0.2), 20_000
    exact = exact_evidence(program).exp()
    drawn = program.generate(rows)
    found = (drawn.unsqueeze(1) == STATES).all(-1).double().mean(0)
    assert ((found - exact).abs() < 4.5 * (exact * (1 - exact) / rows).sqrt()).all()
    with torch.no_grad(), pyro.plate("rows", rows, dim=-2):
        drawn = program.model().squeeze(1)
    found = (drawn.unsqueeze(1) == STATES).all(-1).double().mean(0)
    assert ((found - exact).abs() < 4.5 * (exact * (1 - exact) / rows).sqrt()).all()


@pytest.mark.parametrize("rate", RATES)
def test_a_factor_multiplies_the_chain(rate):
    """A known bit, one of which nothing is known, and one seen through a noisy channel."""
    torch.manual_seed(0)
    program, particles = some_program(rate, steps=5), 20_000
    log_odds = torch.tensor([[torch.inf, 0.0, -1.5], [0.0, -torch.inf, torch.inf]], dtype=torch.float64)
    factor = torch.where(STATES == 1, log_odds.unsqueeze(1), -log_odds.unsqueeze(1)).clamp(max=0).exp().prod(-1)
    joint = exact_evidence(program).exp() * factor
    exact = joint / joint.sum(-1, keepdim=True)
    found = binomial_posterior(program, log_odds, particles)
    shares = (found.samples.unsqueeze(2) == STATES).all(-1).double().mean(0)
    # Twice the error of independent draws, as draws of one ancestor are alike.
    assert ((shares - exact).abs() < 8 * (exact * (1 - exact) / particles).sqrt() + 1e-12).all()
    torch.testing.assert_close(found.log_evidence, joint.sum(-1).log(), rtol=0, atol=0.03)


def test_a_fit_finds_a_heartbeat():
    beats = torch.eye(4).repeat(1, 2)
    torch.manual_seed(0)
    program = BinomialDiffusion((8,), width=48, blocks=1, rate=0.25, steps=1)
    fitted = ppl.fit(
        program,
        beats.repeat(64, 1),
        objective=binomial_denoising(steps=200),
        epochs=250,
        batch_size=256,
        optimizer=lambda parameters: torch.optim.Adam(parameters, 5e-3),
        progress=False,
    )
    chain = fitted.program.chain(200)
    found = sum_of(elbo(method="monte_carlo").evaluate(chain, beats.repeat(100, 1)))
    assert found.mean().item() == pytest.approx(-math.log(4), abs=0.1)
    drawn = chain.generate(400)
    assert (drawn.unsqueeze(1) == beats).all(-1).any(-1).float().mean() > 0.97


def test_images_of_bits_are_served():
    program = BinomialDiffusion((1, 4, 4), width=8, blocks=1, steps=3)
    x = torch.randint(2, (5, 1, 4, 4)).float()
    assert iwae().evaluate(program, x)["iwae"].tolist() == pytest.approx([-16 * math.log(2)] * 5, rel=1e-4)
    assert binomial_denoising(10).evaluate(program, x, num_particles=3)["binomial_denoising"].shape == (5,)
    assert program.generate(2).shape == (2, 1, 4, 4)


def test_what_cannot_be_is_refused():
    program = BinomialDiffusion((BITS,), width=8)
    with pytest.raises(OptionError, match="expected a probability between 0 and 1"):
        BinomialDiffusion((BITS,), rate=1.0)
    with pytest.raises(OptionError, match=r"event_shape=\(2, 2\), expected"):
        BinomialDiffusion((2, 2))
    with pytest.raises(DataError, match="has dtype"):
        program.guide(torch.ones(5, BITS, dtype=torch.int64))
    with pytest.raises(ProgramError, match="site 'x' cannot price its value"):
        elbo().loss(program, torch.full((5, BITS), 0.3))
    with pytest.raises(DataError, match=r"log_odds of shape \(3,\), expected \(rows, 3\)"):
        binomial_posterior(program, torch.zeros(BITS))
    with pytest.raises(ProgramError, match="the program has no denoisers of bits"):
        binomial_denoising(10).loss(VAE(BITS, 2, (4,)), torch.ones(5, BITS))
