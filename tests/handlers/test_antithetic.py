"""Antithetic particles: what is odd cancels, nothing else changes, and the gradient stays unbiased."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions.noise import noise_of
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.handlers import Antithetic, antithetic
from ppl_genmodels.handlers.antithetic import mirrored

X = torch.tensor([0.4, -0.8, 1.5])


class Latent(nn.Module):
    """A Normal for each row and one for all; ``function`` of both is the mean of what is observed."""

    def __init__(self, function=torch.sin):
        super().__init__()
        self.function = function
        self.parameter = nn.Parameter(torch.tensor([[0.3, -0.5, 0.9], [0.1, 0.2, -0.3]]))

    def guide(self, x):
        pyro.sample("w", dist.Normal(self.parameter[0, 0], 0.7))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(*(self.parameter[0, : len(x)], self.parameter[1, : len(x)].exp())))

    def model(self, x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(self.function(z + w), 1.0), obs=x)


def gradients(program, calls, particles=4):
    losses = (obj.elbo().loss(program, X, num_particles=particles) for _ in range(calls))
    return torch.stack([torch.autograd.grad(-loss, as_program(program).source.parameter)[0] for loss in losses])


@pytest.mark.parametrize("particles", [2, 6])
def test_pairs_are_mirror_images(particles):
    program = Latent()
    guide = obj.Run(antithetic(program), (X,), {}, particles).guide
    half = particles // 2
    for name, loc in (("w", program.parameter[0, 0]), ("z", program.parameter[0])):
        value = guide.nodes[name]["value"]
        torch.testing.assert_close(value[:half] + value[half:], (2 * loc).expand_as(value[:half]))
        assert value[:half].unique().numel() == value[:half].numel()


def test_a_linear_integrand_has_no_variance():
    """The log-density of a Normal with respect to its mean: linear in what is drawn but for the square, left out."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("linear", 3.0 * z - 1.0)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 2.0))

    losses = torch.stack([obj.log_lik().loss(antithetic((model, guide)), X, num_particles=2) for _ in range(20)])
    expected = -(3.0 * X.mean() - 1.0)
    torch.testing.assert_close(losses, expected.expand(20), rtol=0, atol=8 * 2**-24 * 30)  # terms up to 30


def test_the_gradient_is_unbiased_and_varies_less():
    """Beside the mean of independent particles."""
    torch.manual_seed(0)
    program = Latent()
    plain, paired = (gradients(one, 300) for one in (program, antithetic(program)))
    error = (plain.var(0) / 300 + paired.var(0) / 300).sqrt()
    assert ((plain.mean(0) - paired.mean(0)).abs() < 4.5 * error).all()
    assert paired.var(0).sum() < 0.7 * plain.var(0).sum()


class Wrong(Antithetic):
    """Repeats the noise instead of mirroring it, and moves it."""

    def noise(self, fn, msg, draw):
        return super().noise(fn, msg, draw).abs()


def test_a_mirror_image_with_another_law_is_caught():
    torch.manual_seed(0)
    program = Latent()
    plain, wrong = (gradients(one, 300) for one in (program, as_program(program).wrap(Wrong())))
    error = (plain.var(0) / 300 + wrong.var(0) / 300).sqrt()
    assert ((plain.mean(0) - wrong.mean(0)).abs() / error).max() > 6


@pytest.mark.parametrize("fn", [dist.Normal(torch.zeros(5000), 1.0), dist.Uniform(torch.zeros(5000), 1.0)])
def test_mirror_images_are_their_own_inverse_and_have_the_law(fn):
    torch.manual_seed(0)
    noise = fn.sample()
    torch.testing.assert_close(mirrored(fn, mirrored(fn, noise)), noise)
    torch.testing.assert_close(fn.cdf(mirrored(fn, noise)), 1 - fn.cdf(noise), atol=1e-6, rtol=0)


def test_the_mirror_image_of_a_gumbel_is_that_of_its_uniform():
    fn = noise_of(dist.Categorical(logits=torch.zeros(20_000, 2, dtype=torch.float64)))
    torch.manual_seed(0)
    noise = fn.sample()
    image = mirrored(fn, noise)
    torch.testing.assert_close((-(-image).exp()).exp(), 1 - (-(-noise).exp()).exp(), rtol=0, atol=1e-12)
    assert stats.kstest(image.flatten().numpy(), stats.gumbel_r.cdf).pvalue > 1e-4
    ends = mirrored(fn, torch.tensor([-3.0, 15.0]))
    assert ends.isfinite().all()


@pytest.mark.parametrize("outside", [True, False])
def test_relaxed_sites_are_paired_however_the_handlers_are_nested(outside):
    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.OneHotCategorical(logits=torch.tensor([0.3, -0.5, 1.0])))

    relaxed = (handlers.gumbel_softmax, antithetic) if outside else (antithetic, handlers.gumbel_softmax)
    wrapped = (program, program)
    for each in relaxed:
        wrapped = each(wrapped)
    value = obj.Run(wrapped, (X,), {}, 2).guide.nodes["y"]["value"]
    gumbel = (0.5 * value.before_rounding - torch.tensor([0.3, -0.5, 1.0])).double()
    shift = torch.linspace(-20, 20, 400_001, dtype=torch.float64)  # softmax leaves a common shift of the noise open
    for row in range(3):
        one, other = gumbel[0, row], gumbel[1, row]
        candidates = one + shift.unsqueeze(-1)
        differences = mirrored(dist.Gumbel(0.0, 1.0), candidates) - other
        assert (differences.max(-1).values - differences.min(-1).values).nan_to_num(9.0).min() < 1e-2


def test_quantile_sites_are_paired_under_reparameterize():
    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.VonMises(torch.tensor(0.0), torch.tensor(2.0)))

    for wrapped in (
        antithetic(handlers.reparameterize((program, program))),
        handlers.reparameterize(antithetic((program, program))),
    ):
        value = obj.Run(wrapped, (X,), {}, 2).guide.nodes["z"]["value"]
        torch.testing.assert_close(value[0], -value[1], atol=1e-5, rtol=0)


def test_a_draw_is_known_to_detach_score_as_its_own():
    program = handlers.detach_score(Latent(), sites="z")
    node = obj.Run(antithetic(program), (X,), {}, 2).guide.nodes["z"]
    assert node["value"].drawn_from is node["fn"]
    loc = as_program(program).source.parameter[0]
    torch.testing.assert_close(node["value"].sum(0), 2 * loc)


def test_densities_and_estimators_are_as_they_were():
    run = obj.Run(antithetic(Latent()), (X,), {}, 2)
    node = run.guide.nodes["z"]
    assert type(node["fn"]) is dist.Normal
    assert "gradient" not in node["infer"]
    torch.testing.assert_close(run.raw_log_prob(node), node["fn"].log_prob(node["value"]))


def test_sites_with_a_score_function_are_left_alone_or_refused():
    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(0.3))
            pyro.sample("z", dist.Normal(0.0, 1.0))

    guide = obj.Run(antithetic((program, program)), (X,), {}, 2).guide
    torch.testing.assert_close(guide.nodes["z"]["value"].sum(0), torch.zeros(3))
    with pytest.raises(ProgramError, match=r"'b': Antithetic makes particles depend.*Bernoulli.*gumbel_softmax"):
        obj.elbo().loss(antithetic((program, program), sites="b"), X, num_particles=2)


def test_an_odd_number_of_particles_is_refused():
    for particles in (1, 3):
        with pytest.raises(OptionError, match=rf"in pairs, got num_particles={particles}. Remedy: .*{particles + 1}"):
            obj.elbo().loss(antithetic(Latent()), X, num_particles=particles)


def test_a_site_that_never_appears_or_has_no_noise_is_refused():
    with pytest.raises(UnknownNameError, match="'zz'"):
        obj.elbo().loss(antithetic(Latent(), sites="zz"), X, num_particles=2)

    def program(x):
        pyro.sample("l", dist.LKJCholesky(2, torch.tensor(1.0)))

    with pytest.raises(ProgramError, match=r"'l': Antithetic serves distributions.*noise.*got LKJCholesky"):
        obj.Run(antithetic((program, program), sites="l"), (X,), {}, 2).guide  # noqa: B018


def test_where_no_gradient_is_taken_nothing_changes():
    program, drawn = Latent(), []
    for one in (as_program(program), antithetic(program)):
        torch.manual_seed(0)
        with torch.no_grad():
            drawn.append(obj.Run(one, (X,), {}, 3).guide.nodes["z"]["value"])
    assert torch.equal(*drawn)


@pytest.mark.own_compile
@pytest.mark.filterwarnings("error")
def test_a_traced_fit_gives_the_eager_numbers():
    norms = []
    for mode in ("off", "trace"):
        fitted = ppl.fit(antithetic(Latent()), X, steps=6, batch_size=3, num_particles=4, compile=mode, progress=False)
        norms.append(fitted.history["gradient_norm"].tolist())
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert len(set(norms[0])) == 6
