"""Draws made from noise: their law beside SciPy's, their gradients beside closed forms, their shapes and extremes."""

import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from ppl_genmodels.distributions.noise import from_noise, has_noise, noise_of
from ppl_genmodels.distributions.relaxed import Relaxed, RelaxedMass

DRAWS = 20_000
LEAST_P = 1e-4
"""Of a test of law; the seeds are fixed."""


def t(value, **options):
    return torch.tensor(value, dtype=torch.float64, **options)


def drawn(fn, count=DRAWS, seed=0):
    torch.manual_seed(seed)
    return from_noise(fn, noise_of(fn).sample((count,)))


LAWS = {
    "gamma 0.05": (dist.Gamma(t(0.05), t(1.0)), stats.gamma(0.05)),
    "gamma 2.5": (dist.Gamma(t(2.5), t(3.0)), stats.gamma(2.5, scale=1 / 3)),
    "gamma 1000": (dist.Gamma(t(1000.0), t(1.0)), stats.gamma(1000.0)),
    "chi-square": (dist.Chi2(t(3.0)), stats.chi2(3.0)),
    "inverse gamma": (dist.InverseGamma(t(3.0), t(2.0)), stats.invgamma(3.0, scale=2.0)),
    "beta 0.3": (dist.Beta(t(0.3), t(0.4)), stats.beta(0.3, 0.4)),
    "beta 500": (dist.Beta(t(500.0), t(1000.0)), stats.beta(500.0, 1000.0)),
    "student 1": (dist.StudentT(t(1.0), t(2.0), t(3.0)), stats.t(1.0, 2.0, 3.0)),
    "student 30": (dist.StudentT(t(30.0), t(0.0), t(1.0)), stats.t(30.0)),
    "von mises 0.01": (dist.VonMises(t(0.0), t(0.01)), stats.vonmises(0.01)),
    "von mises 2": (dist.VonMises(t(0.0), t(2.0)), stats.vonmises(2.0)),
    "von mises 1000": (dist.VonMises(t(0.0), t(1000.0)), stats.vonmises(1000.0)),
    "normal": (dist.Normal(t(1.0), t(2.0)), stats.norm(1.0, 2.0)),
    "log-normal": (dist.LogNormal(t(0.5), t(0.7)), stats.lognorm(0.7, scale=torch.e**0.5)),
    "laplace": (dist.Laplace(t(1.0), t(2.0)), stats.laplace(1.0, 2.0)),
    "cauchy": (dist.Cauchy(t(1.0), t(2.0)), stats.cauchy(1.0, 2.0)),
    "half-normal": (dist.HalfNormal(t(2.0)), stats.halfnorm(scale=2.0)),
    "half-cauchy": (dist.HalfCauchy(t(2.0)), stats.halfcauchy(scale=2.0)),
    "weibull": (dist.Weibull(t(2.0), t(1.5)), stats.weibull_min(1.5, scale=2.0)),
    "gumbel": (dist.Gumbel(t(1.0), t(2.0)), stats.gumbel_r(1.0, 2.0)),
    "pareto": (dist.Pareto(t(1.0), t(3.0)), stats.pareto(3.0)),
    "logistic": (dist.Logistic(t(1.0), t(2.0)), stats.logistic(1.0, 2.0)),
}
COUNTS = {
    "poisson": (dist.Poisson(t(3.7)), stats.poisson(3.7)),
    "binomial": (dist.Binomial(7, t(0.3)), stats.binom(7, 0.3)),
    "bernoulli": (dist.Bernoulli(t(0.3)), stats.bernoulli(0.3)),
    "categorical": (dist.Categorical(t([0.2, 0.5, 0.3])), stats.rv_discrete(values=([0, 1, 2], [0.2, 0.5, 0.3]))),
}


@pytest.mark.parametrize("name", LAWS)
def test_continuous_draws_have_the_law(name):
    fn, expected = LAWS[name]
    assert stats.kstest(drawn(fn).numpy(), expected.cdf).pvalue > LEAST_P


@pytest.mark.parametrize("name", COUNTS)
def test_discrete_draws_have_the_law(name):
    fn, expected = COUNTS[name]
    found = torch.bincount(drawn(fn).long()).numpy()
    probability = expected.pmf(range(len(found)))
    kept = probability * DRAWS >= 5
    rest = [found[~kept].sum()], [DRAWS * (1 - probability[kept].sum())]
    frequencies = ([*found[kept], *rest[0]], [*(DRAWS * probability[kept]), *rest[1]])
    if rest[1][0] < 1e-6:
        frequencies = [each[:-1] for each in frequencies]
    assert stats.chisquare(*frequencies, sum_check=False).pvalue > LEAST_P


@pytest.mark.parametrize("scale", [0.5, 1.0, 100.0])
def test_dirichlet_draws_have_the_law(scale):
    """Each component, and each share of one in two of them, is a beta."""
    a = scale * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    value = drawn(dist.Dirichlet(a))
    torch.testing.assert_close(value.sum(-1), torch.ones(DRAWS, dtype=torch.float64))
    for one, rest in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1))):
        other = rest[0]
        whole = stats.beta(a[one], a[list(rest)].sum())
        assert stats.kstest(value[:, one].numpy(), whole.cdf).pvalue > LEAST_P
        share = value[:, one] / (value[:, one] + value[:, other])
        assert stats.kstest(share.numpy(), stats.beta(a[one], a[other]).cdf).pvalue > LEAST_P


def test_multivariate_normal_draws_have_its_moments():
    covariance = t([[2.0, 0.6], [0.6, 1.0]])
    for fn in (
        dist.MultivariateNormal(t([1.0, -1.0]), covariance),
        dist.LowRankMultivariateNormal(t([1.0, -1.0]), t([[1.0], [0.6]]), t([1.0, 0.64])),
    ):
        value = drawn(fn) - fn.mean
        product = value.unsqueeze(-1) * value.unsqueeze(-2)
        assert (value.mean(0).abs() < 4.5 * value.std(0) / DRAWS**0.5).all()
        assert ((product.mean(0) - fn.covariance_matrix).abs() < 4.5 * product.std(0) / DRAWS**0.5).all()


LOGITS = torch.tensor([0.3, -1.0, 0.8])
RELAXATIONS = {
    "one-hot": dist.RelaxedOneHotCategorical(torch.tensor(0.5), logits=LOGITS),
    "bits": dist.RelaxedBernoulli(torch.tensor(0.5), logits=LOGITS),
    "own one-hot": Relaxed(dist.OneHotCategorical(logits=LOGITS), torch.tensor(0.5)),
    "own bits": RelaxedMass(dist.Bernoulli(logits=LOGITS), torch.tensor(0.5)),
}


@pytest.mark.parametrize("name", RELAXATIONS)
def test_relaxed_draws_have_the_law_of_their_own_draws(name):
    fn = RELAXATIONS[name]
    found, torchs = drawn(fn), fn.rsample((DRAWS,))
    for one, other in zip(found.T, torchs.T, strict=True):
        assert stats.ks_2samp(one.numpy(), other.numpy()).pvalue > LEAST_P


def mean_cosine(kappa):
    return torch.special.i1e(kappa) / torch.special.i0e(kappa)


EXPECTATIONS = {
    "gamma, log": (lambda a: dist.Gamma(a, t(2.0)), lambda z: z.log(), lambda a: a.digamma(), 0.7),
    "gamma, square": (lambda a: dist.Gamma(a, t(1.0)), lambda z: z**2, lambda a: a * (a + 1), 3.0),
    "gamma, rate": (lambda b: dist.Gamma(t(3.0), b), lambda z: z**2, lambda b: 12 / b**2, 2.0),
    "chi-square": (dist.Chi2, lambda z: z**2, lambda df: df * (df + 2), 5.0),
    "inverse gamma": (lambda a: dist.InverseGamma(a, t(1.0)), lambda z: z.log(), lambda a: -a.digamma(), 2.0),
    "beta, log": (lambda a: dist.Beta(a, t(2.0)), lambda z: z.log(), lambda a: a.digamma() - (a + 2).digamma(), 0.5),
    "beta, mean": (lambda b: dist.Beta(t(2.0), b), lambda z: z, lambda b: 2 / (2 + b), 3.0),
    "dirichlet": (
        lambda a: dist.Dirichlet(torch.stack([a, 0 * a + 2.0, 0 * a + 0.5], -1)),
        lambda z: z[..., 1].log(),
        lambda a: t(2.0).digamma() - (a + 2.5).digamma(),
        1.5,
    ),
    "student, degrees": (lambda df: dist.StudentT(df), lambda z: z**2, lambda df: df / (df - 2), 20.0),
    "student, scale": (lambda s: dist.StudentT(t(20.0), t(0.0), s), lambda z: z**2, lambda s: s**2 * 20 / 18, 0.7),
    "von mises, concentration": (lambda k: dist.VonMises(t(0.4), k), lambda z: (z - 0.4).cos(), mean_cosine, 2.0),
    "von mises, mean": (lambda m: dist.VonMises(m, t(2.0)), torch.cos, lambda m: mean_cosine(t(2.0)) * m.cos(), 3.0),
}


@pytest.mark.parametrize("name", EXPECTATIONS)
def test_gradients_of_expectations_are_those_of_the_closed_form(name):
    """Within 4.5 standard errors, and the 5e-4 by which torch's derivative of a Gamma draw may be off."""
    make, function, exact, at = EXPECTATIONS[name]
    parameters = torch.full((DRAWS,), at, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    noise = noise_of(make(parameters)).sample()
    values = function(from_noise(make(parameters), noise))
    (samples,) = torch.autograd.grad(values.sum(), parameters)
    of_exact = t(at, requires_grad=True)
    (expected,) = torch.autograd.grad(exact(of_exact), of_exact)
    error = 4.5 * samples.std() / DRAWS**0.5 + 5e-4 * samples.abs().mean()
    assert (samples.mean() - expected).abs() < error
    assert samples.std() / DRAWS**0.5 < 0.05 * expected.abs()


FAMILIES = {
    "gamma": lambda p: dist.Gamma(p, 1.0),
    "beta": lambda p: dist.Beta(p, p),
    "dirichlet": lambda p: dist.Dirichlet(p.unsqueeze(-1).expand(*p.shape, 3)),
    "student": lambda p: dist.StudentT(p),
    "von mises": lambda p: dist.VonMises(0.0, p),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("parameter", [0.01, 0.05, 1.0, 1000.0])
def test_single_precision_draws_and_gradients_are_finite(family, parameter):
    """Also at the ends of what a generator of uniforms gives."""
    parameters = torch.full((1000,), parameter, requires_grad=True)
    if family == "student" and parameter < 0.5:
        pytest.skip("its draws exceed single precision, in torch too")
    fn = FAMILIES[family](parameters)
    torch.manual_seed(0)
    noise = noise_of(fn).sample()
    noise[0], noise[1] = 0.0, 1 - 2**-24
    value = from_noise(fn, noise)
    log_prob = fn.log_prob(value)
    (slopes,) = torch.autograd.grad(log_prob.sum(), parameters)
    assert all(each.isfinite().all() for each in (value, log_prob, slopes))


@pytest.mark.parametrize("name", [*LAWS, *COUNTS])
def test_shapes_are_those_of_the_distribution(name):
    fn = {**LAWS, **COUNTS}[name][0].expand((3, 2)).to_event(1)
    noise = noise_of(fn)
    assert noise.batch_shape == fn.batch_shape
    assert from_noise(fn, noise.sample((5,))).shape == fn.sample((5,)).shape


def test_noise_knows_no_parameters():
    for one, other in (
        (dist.Gamma(0.1, 1.0), dist.Gamma(9.0, 2.0)),
        (dist.VonMises(0.0, 1.0), dist.VonMises(1.0, 9.0)),
    ):
        assert [(n.low.item(), n.high.item()) for n in map(noise_of, (one, other))] == [(0.0, 1.0)] * 2


def test_where_there_is_no_map_there_is_none():
    for fn in (dist.LKJCholesky(3, 1.0), dist.Delta(torch.zeros(2)), dist.LKJCholesky(3, 1.0).to_event(0)):
        assert not has_noise(fn)
    with pytest.raises(NotImplementedError, match="LKJCholesky"):
        from_noise(dist.LKJCholesky(3, 1.0), torch.zeros(3))
