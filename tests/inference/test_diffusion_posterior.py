"""The posterior of a diffusion's site against closed forms, with exact denoisers of normal data and of mixtures.

The places of a plate have the same data and are independent runs, whose spread gives the standard errors.
"""

import sys

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily

from ppl_genmodels import diagnostics
from ppl_genmodels.distributions import Diffusion, Flow
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.inference import diffusion_posterior
from ppl_genmodels.inference.site_factor import SiteFactor
from ppl_genmodels.inference.twist import Twist, information_grid, remaining_variance
from ppl_genmodels.networks import CosineNoising, Denoised, Denoiser, EDMNoising, LinearNoising, TimeMLP
from ppl_genmodels.transforms import ProbabilityFlow

NOISINGS = [LinearNoising, CosineNoising, EDMNoising]
RUNS, PARTICLES = 40, 400
MODULE = sys.modules["ppl_genmodels.inference.diffusion_posterior"]


class MixtureDenoiser(Denoiser):
    """The exact denoiser of a mixture of normal distributions, whose means a context may shift."""

    widening = None

    def __init__(self, weights, locs, covariances, noising):
        super().__init__(nn.Identity(), noising.double())
        self.weights, self.locs, self.covariances = weights.double(), locs.double(), covariances.double()

    def forward(self, noisy, time, context=None):
        alpha, sigma = self.scales(time)
        locs = self.locs if context is None else self.locs + context.unsqueeze(-2)
        spread = alpha**2 * self.covariances + sigma**2 * torch.eye(self.locs.shape[-1], dtype=torch.float64)
        away = noisy.unsqueeze(-2) - alpha * locs
        log_density = dist.MultivariateNormal(torch.zeros_like(locs), spread).log_prob(away)
        responsible = (log_density + self.weights.log()).softmax(-1).unsqueeze(-1)
        gain = alpha * self.covariances @ torch.linalg.inv(spread)
        data = (responsible * (locs + (gain @ away.unsqueeze(-1)).squeeze(-1))).sum(-2)
        widening = None if self.widening is None else torch.full_like(noisy, self.widening)
        return Denoised(data, (noisy - alpha * data) / sigma, alpha, sigma, widening)

    def prior(self):
        return MixtureSameFamily(Categorical(self.weights), dist.MultivariateNormal(self.locs, self.covariances))


def normal_denoiser(dim, noising):
    generator = torch.Generator().manual_seed(dim)
    factor = torch.randn(dim, dim, dtype=torch.float64, generator=generator)
    covariance = factor @ factor.mT / dim + 0.1 * torch.eye(dim, dtype=torch.float64)
    loc = torch.randn(dim, dtype=torch.float64, generator=generator)
    return MixtureDenoiser(torch.ones(1), loc[None], covariance[None], noising)


def chain_prior(denoiser, steps):
    """Mean and covariance of what the chain of a normal denoiser draws: every step is linear."""
    times = information_grid(denoiser, steps, torch.zeros((), dtype=torch.float64))
    values, vectors = torch.linalg.eigh(denoiser.covariances[0])
    scales = list(zip(*(noise(times) for noise in (denoiser.noising.alpha, denoiser.noising.sigma)), strict=True))
    mean, variance = torch.zeros_like(values), scales[0][1] ** 2 * torch.ones_like(values)
    center = denoiser.locs[0] @ vectors

    def denoised(mean, variance, alpha, sigma):
        gain = alpha * values / (alpha**2 * values + sigma**2)
        return gain, center + gain * (mean - alpha * center)

    for number in range(steps):
        (alpha, sigma), (next_alpha, next_sigma) = scales[number : number + 2]
        share = 1 - (alpha * next_sigma / (next_alpha * sigma)) ** 2
        kept = alpha * next_sigma**2 / (next_alpha * sigma**2)
        gain, data = denoised(mean, variance, alpha, sigma)
        mean = kept * mean + next_alpha * share * data
        if denoiser.widening is None:
            added = share * next_sigma**2 + (next_alpha * share) ** 2 * remaining_variance(denoiser, times[number])
        else:
            added = share * next_sigma**2 * (sigma / next_sigma) ** (2 * denoiser.widening)
        variance = (kept + next_alpha * share * gain) ** 2 * variance + added
    gain, data = denoised(mean, variance, *scales[-1])
    return dist.MultivariateNormal(data @ vectors.mT, (vectors * (gain**2 * variance)) @ vectors.mT)


def conditioned(prior, matrix, scale, y):
    """Posterior and log evidence of a normal prior and a normal likelihood."""
    noise = scale**2 * torch.eye(len(matrix), dtype=torch.float64)
    evidence = dist.MultivariateNormal(prior.mean @ matrix.mT, matrix @ prior.covariance_matrix @ matrix.mT + noise)
    gain = prior.covariance_matrix @ matrix.mT @ evidence.precision_matrix
    covariance = prior.covariance_matrix - gain @ matrix @ prior.covariance_matrix
    mean = prior.mean + (y - prior.mean @ matrix.mT) @ gain.mT
    return dist.MultivariateNormal(mean, (covariance + covariance.mT) / 2), evidence.log_prob(y)


def linear(denoiser, matrix, scale):
    """Places with a diffusion each, of which a linear map is measured."""
    flow = ProbabilityFlow(denoiser, (denoiser.locs.shape[-1],)).double()

    def model(y):
        with pyro.plate("data", len(y)):
            x = pyro.sample("x", Diffusion(flow))
            pyro.sample("y", dist.Normal(x @ matrix.mT, scale).to_event(1), obs=y)

    return model


def matrix_of(rows, columns):
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def check_moments(found, exact, evidence):
    """Over independent runs, within four standard errors and what is of the order of one over the particles."""
    per_run = found.samples.mean(0)
    error = per_run.std(0) / RUNS**0.5
    deviation = exact.variance.sqrt()
    assert ((per_run.mean(0) - exact.mean).abs() < 4 * error + 5 / PARTICLES * deviation).all()
    away = found.samples - exact.mean
    products = (away.unsqueeze(-1) * away.unsqueeze(-2)).mean(0)
    error, size = products.std(0) / RUNS**0.5, deviation.outer(deviation)
    assert ((products.mean(0) - exact.covariance_matrix).abs() < 4 * error + 10 / PARTICLES * size).all()
    ratio = (found.log_evidence - evidence).exp()  # unbiased whatever the number of particles
    assert abs(ratio.mean().item() - 1) < 4 * (ratio.std() / RUNS**0.5).item()


@pytest.mark.parametrize(("noising", "widening"), [(LinearNoising, None), (CosineNoising, None), (EDMNoising, 0.3)])
def test_it_is_exact_for_the_chain_however_few_its_steps(noising, widening):
    """Whether the variance of its steps is the library's or the denoiser's."""
    denoiser, matrix = normal_denoiser(3, noising()), matrix_of(2, 3)
    denoiser.widening = widening
    y = torch.tensor([0.5, -1.0], dtype=torch.float64)
    exact, evidence = conditioned(chain_prior(denoiser, 8), matrix, 0.4, y)
    found = diffusion_posterior(linear(denoiser, matrix, 0.4), y.expand(RUNS, 2), particles=PARTICLES, steps=8)
    check_moments(found, exact, evidence)


def test_it_is_exact_whatever_the_twist(monkeypatch):
    """A curvature judged too flat by two fifths, or thirty times too steep, costs particles and nothing else."""
    denoiser, matrix = normal_denoiser(3, CosineNoising()), matrix_of(2, 3)
    y = torch.tensor([0.5, -1.0], dtype=torch.float64)
    exact, evidence = conditioned(chain_prior(denoiser, 16), matrix, 0.7, y)
    steepest, find = (torch.linalg.matrix_norm(matrix, 2) / 0.7) ** 2, MODULE.Twist.of
    for wrong in (0.6, 30.0):

        def misjudged(factor, particles, wrong=wrong):
            found = find(factor, particles).steepest
            assert ((found > 0.9 * steepest) & (found < 1.001 * steepest)).all()
            return Twist(factor, wrong * found)

        monkeypatch.setattr(MODULE.Twist, "of", misjudged)
        found = diffusion_posterior(linear(denoiser, matrix, 0.7), y.expand(RUNS, 2), particles=PARTICLES, steps=16)
        check_moments(found, exact, evidence)


@pytest.mark.parametrize("noising", NOISINGS)
def test_the_chain_tends_to_the_data(noising):
    """The divergence of a chain's prior from the data falls at least as one over the steps, to that of the ends."""
    denoiser = normal_denoiser(3, noising())
    data = denoiser.prior().component_distribution
    data = dist.MultivariateNormal(data.mean[0], data.covariance_matrix[0])
    away = [torch.distributions.kl_divergence(chain_prior(denoiser, steps), data).item() for steps in (10, 40, 160)]
    assert away[1] < away[0] / 3
    assert away[2] < away[1] / 2 < 0.005


def test_what_is_known_exactly_is_filled_in():
    """Half of the numbers known to the diffusion's least noise, of sixteen that hang together."""
    denoiser, known = normal_denoiser(16, CosineNoising()), torch.eye(16, dtype=torch.float64)[:8]
    torch.manual_seed(2)
    y = denoiser.prior().sample() @ known.mT
    exact, evidence = conditioned(chain_prior(denoiser, 40), known, 0.01, y)
    found = diffusion_posterior(linear(denoiser, known, 0.01), y.expand(RUNS, 8), particles=PARTICLES, steps=40)
    check_moments(found, exact, evidence)
    assert (found.samples[..., :8] - y).abs().max() < 0.06
    assert found.effective_size.min() > 20


def test_a_mixture_stays_a_mixture():
    """Two of three components explain what was seen: the posterior is a mixture, known in closed form."""
    locs = torch.tensor([[-1.5, 0.0], [1.0, 1.2], [1.0, -1.2]])
    denoiser = MixtureDenoiser(
        torch.tensor([0.5, 0.3, 0.2]), locs, 0.06 * torch.eye(2).expand(3, 2, 2), LinearNoising()
    )
    matrix, scale, y = torch.tensor([[1.0, 0.1]]).double(), 0.5, torch.tensor([0.9]).double()
    parts = [
        conditioned(dist.MultivariateNormal(loc, covariance), matrix, scale, y)
        for loc, covariance in zip(denoiser.locs, denoiser.covariances, strict=True)
    ]
    evidences = torch.stack([evidence for _, evidence in parts]) + denoiser.weights.log()
    means, covariances = (torch.stack([getattr(p, n) for p, _ in parts]) for n in ("mean", "covariance_matrix"))
    exact = MixtureSameFamily(Categorical(logits=evidences), dist.MultivariateNormal(means, covariances))
    found = diffusion_posterior(linear(denoiser, matrix, scale), y.expand(10, 1), particles=200, steps=80)
    torch.manual_seed(0)
    told = diagnostics.classifier_two_sample(found.samples.flatten(0, 1), exact.sample((2000,)))
    assert told.accuracy < 0.6
    error = found.log_evidence.std() / 10**0.5
    assert abs(found.log_evidence.mean() - evidences.logsumexp(0)) < 4 * error + 0.05
    above = (found.samples[..., 1] > 0).double().mean(0)
    share = evidences.softmax(0)[1].item()  # of the left component nothing is left
    assert abs(above.mean() - share) < 4 * above.std() / 10**0.5 + 0.02


def test_each_place_has_its_own_data_and_its_own_context():
    denoiser = normal_denoiser(2, CosineNoising())
    shifts = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, -5.0]], dtype=torch.float64)
    flow = ProbabilityFlow(denoiser, (2,), context_features=2).double()

    def model(context, y):
        with pyro.plate("data", len(y)):
            x = pyro.sample("x", Diffusion(flow, context))
            pyro.sample("y", dist.Normal(x, 0.3).to_event(1), obs=y)

    y = shifts + torch.tensor([[0.2, 0.1], [-0.3, 0.4], [0.5, 0.0]], dtype=torch.float64)
    found = diffusion_posterior(model, shifts, y=y, particles=1000, steps=100)
    prior = dist.MultivariateNormal(denoiser.locs[0], denoiser.covariances[0])
    for place, (shift, seen) in enumerate(zip(shifts, y, strict=True)):
        exact, evidence = conditioned(prior, torch.eye(2, dtype=torch.float64), 0.3, seen - shift)
        error = (exact.variance / 300).sqrt()  # there were at least so many
        assert ((found.samples[:, place].mean(0) - shift - exact.mean).abs() < 4 * error).all()
        assert found.log_evidence[place].item() == pytest.approx(evidence.item(), abs=0.15)


def image_model(y, z, mask):
    """One image without a plate, measured by an inner plate, a masked site and a factor, and another by itself."""
    x = pyro.sample("x", image_model.distribution)
    total = pyro.deterministic("total", x.sum((-3, -2, -1)))
    with pyro.plate("measures", len(y)):
        pyro.sample("y", dist.StudentT(3.0, total, 0.5), obs=y)
        with pyro.poutine.mask(mask=mask):
            pyro.sample("z", dist.Normal(x[..., 0, 0, 0], 1.0), obs=z)
    pyro.factor("dark", -x.square().sum((-3, -2, -1)))


def test_the_factor_is_the_density_of_all_other_sites():
    class OfImages(nn.Module):
        event_dim, data_scale, noising = 3, 1.0, LinearNoising()
        scales = Denoiser.scales

        def forward(self, noisy, time, context=None):
            alpha, sigma = self.scales(time)
            data = alpha / (alpha**2 + sigma**2) * noisy
            return Denoised(data, (noisy - alpha * data) / sigma, alpha, sigma)

    diffusion = Diffusion(ProbabilityFlow(OfImages(), (1, 2, 2)))
    double = torch.distributions.AffineTransform(1.0, 2.0)
    image_model.distribution = Flow(diffusion.base_dist, [*diffusion.transforms, double])
    y, z, mask = torch.randn(5), torch.randn(5), torch.tensor([True, False, True, True, False])
    data = torch.randn(7, 1, 1, 2, 2)
    x = (1 + 2 * data).squeeze(1)
    expected = dist.StudentT(3.0, x.sum((-3, -2, -1)), 0.5).log_prob(y.unsqueeze(-1)).sum(0)
    expected += (dist.Normal(x[:, 0, 0, 0], 1.0).log_prob(z.unsqueeze(-1)) * mask.unsqueeze(-1)).sum(0)
    expected -= x.square().sum((-3, -2, -1))
    factor = SiteFactor.of(image_model, (y, z, mask), {}, None)
    torch.testing.assert_close(factor(data), expected.unsqueeze(-1))
    found = diffusion_posterior(image_model, y, z, mask, particles=20, steps=5)
    assert found.samples.shape == (20, 1, 2, 2)
    assert found.log_evidence.shape == ()


def test_draws_have_the_names_of_plates_and_the_seed_decides():
    denoiser, matrix = normal_denoiser(2, LinearNoising()), matrix_of(1, 2)
    y, before = torch.zeros(3, 1, dtype=torch.float64), torch.get_rng_state()
    found, again, other = (
        diffusion_posterior(linear(denoiser, matrix, 1.0), y, particles=10, steps=4, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found.samples, again.samples)
    assert not torch.equal(found.samples, other.samples)
    assert found.effective_size.shape == (5, 3)
    idata = diagnostics.to_inference_data(found.draws())
    assert dict(idata.posterior["x"].sizes) == {"chain": 1, "draw": 10, "data": 3, "x_dim_0": 2}


def test_few_particles_are_warned_of():
    denoiser = normal_denoiser(8, CosineNoising())
    model = linear(denoiser, torch.eye(8, dtype=torch.float64), 0.01)
    y = torch.stack([denoiser.locs[0], denoiser.locs[0] + 30])
    with pytest.warns(UserWarning, match=r"only 1\.\d of 100 particles of site 'x' counted \(. of 2 places"):
        diffusion_posterior(model, y, particles=100, steps=3)


FLOW = ProbabilityFlow(Denoiser(TimeMLP(2, width=8, blocks=1), LinearNoising()), (2,))


def unknown_scale(y):
    x = pyro.sample("x", Diffusion(FLOW))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x, scale).to_event(1), obs=y)


def no_diffusion(y):
    pyro.sample("y", dist.Normal(pyro.sample("x", dist.Normal(0.0, 1.0)), 1.0).expand([2]).to_event(1), obs=y)


def shared(y):
    with pyro.plate("data", 3):
        x = pyro.sample("x", Diffusion(FLOW))
    pyro.sample("y", dist.Normal(x.mean(-2), 1.0).to_event(1), obs=y)


def from_the_left(y):
    x = pyro.sample("x", Diffusion(FLOW))
    pyro.sample("y", dist.Normal(x[0], 1.0), obs=y[0])


def outside_its_support(y):
    x = pyro.sample("x", Diffusion(FLOW))
    pyro.sample("y", dist.Poisson(x).to_event(1), obs=y.abs().round() + 1)


def impossible(y):
    x = pyro.sample("x", Diffusion(FLOW))
    pyro.factor("never", x[..., 0] - torch.inf)


def without_a_plate(y):
    x = pyro.sample("x", Diffusion(FLOW).expand((3,)))
    pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y.expand(3, 2))


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (unknown_scale, {}, ProgramError, "beside 'x' the model has latent sites 'scale'.*Remedy: observe them"),
        (no_diffusion, {}, ProgramError, "no latent site has a diffusion"),
        (unknown_scale, {"site": "scale"}, ProgramError, "site 'scale' has not a diffusion"),
        (unknown_scale, {"site": "z"}, UnknownNameError, "no latent site 'z' of the model"),
        (shared, {}, ProgramError, "site 'y' is outside plate 'data'"),
        (from_the_left, {}, ProgramError, "does not broadcast over particles.*count the dims of 'x' from the right"),
        (outside_its_support, {}, ProgramError, "density is NaN at a value of site 'x'.*inside their constraints"),
        (impossible, {}, ProgramError, "density is zero, or infinite, at every value"),
        (without_a_plate, {}, ProgramError, r"batch shape \(3,\), not all of it in plates"),
        (shared, {"particles": 0}, OptionError, "particles=0, expected a positive integer"),
        (shared, {"steps": 0.5}, OptionError, "steps=0.5, expected a positive integer"),
    ],
)
def test_what_cannot_be_is_refused(model, options, error, message):
    with pytest.raises(error, match=message):
        diffusion_posterior(model, torch.tensor([0.3, -0.3]), **{"particles": 20, "steps": 3} | options)
