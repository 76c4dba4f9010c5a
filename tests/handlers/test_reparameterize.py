"""Reparameterization: pathwise gradients beside exact ones, and the non-centred model that it makes of a model."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.reparam import LocScaleReparam, TransformReparam
from torch import nn
from torch.distributions import AffineTransform, SigmoidTransform

import ppl_genmodels as ppl
from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.handlers import NoiseReparam, Reparameterize, reparameterize
from ppl_genmodels.inference.mcmc import nuts
from ppl_genmodels.models.eight_schools import EIGHT_SCHOOLS
from ppl_genmodels.objectives.surrogate import estimator_of
from ppl_genmodels.probe import probe_model

X = torch.tensor([0.4, -0.8, 1.5], dtype=torch.float64)
CALLS, PARTICLES = 40, 500


def on_circle(p):
    return dist.VonMises(p[0], p[1].exp())


def on_half_line(p):
    return dist.Gamma(p[0].exp(), p[1].exp())


def on_line(p):
    return dist.StudentT(5.0 + p[0].exp(), p[1], torch.tensor(0.5).double())


def on_unit_interval(p):
    return dist.Beta(p[0].exp(), p[1].exp())


def transformed(p):
    return dist.TransformedDistribution(dist.Normal(p[0], p[1].exp()), [SigmoidTransform(), AffineTransform(1.0, 2.0)])


def grid(low, high, count=40_001):
    return torch.linspace(low, high, count, dtype=torch.float64)


FAMILIES = {
    "von mises": (on_circle, dist.VonMises(0.0, 0.7), torch.cos, grid(-math.pi, math.pi)),
    "gamma": (on_half_line, dist.Gamma(2.0, 1.0), torch.log1p, grid(1e-9, 80.0, 400_001)),
    "student": (on_line, dist.Normal(0.0, 1.0), torch.tanh, grid(-60.0, 60.0)),
    "beta": (on_unit_interval, dist.Beta(2.0, 2.0), lambda z: 2 * z, grid(1e-9, 1 - 1e-9)),
    "transformed": (transformed, dist.Uniform(1.0, 3.0), torch.sin, grid(1 + 1e-9, 3 - 1e-9)),
}


class Small(nn.Module):
    """One site for all rows; its exact objective is an integral over a grid."""

    def __init__(self, family, mask=None):
        super().__init__()
        self.make, self.prior, self.function, self.points = FAMILIES[family]
        self.parameter = nn.Parameter(torch.tensor([0.9, 0.6], dtype=torch.float64))

    def guide(self, x):
        pyro.sample("z", self.make(self.parameter))

    def model(self, x):
        z = pyro.sample("z", self.prior)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.function(z), 1.0), obs=x)

    def exact(self):
        q, z = self.make(self.parameter), self.points
        log_q = q.log_prob(z)
        log_p = self.prior.log_prob(z) + dist.Normal(self.function(z).unsqueeze(-1), 1.0).log_prob(X).sum(-1)
        return torch.trapezoid(log_q.exp() * (log_p - log_q), z) / len(X)


def gradients(program, wrapped, particles=PARTICLES, calls=CALLS):
    losses = (obj.elbo("monte_carlo").loss(wrapped, X, num_particles=particles) for _ in range(calls))
    return torch.stack([torch.autograd.grad(-loss, program.parameter)[0] for loss in losses])


@pytest.fixture
def no_score(monkeypatch):
    def refuse(self, site):
        raise AssertionError(f"site {site.name} got the score function")

    monkeypatch.setattr(handlers.ScoreFunction, "surrogate", refuse)


@pytest.mark.usefixtures("no_score")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_is_pathwise_and_exact(family):
    torch.manual_seed(0)
    program = Small(family)
    found = gradients(program, reparameterize(program))
    (exact,) = torch.autograd.grad(program.exact(), program.parameter)
    assert ((found.mean(0) - exact).abs() < 4.5 * found.std(0) / CALLS**0.5).all()
    assert (found.std(0) / CALLS**0.5 < 0.05 * exact.norm()).all()


@pytest.mark.usefixtures("no_score")
def test_the_gradient_of_a_multivariate_normal_is_pathwise_and_exact():
    """For a likelihood that is linear in the site the objective is closed-form but for the draw's expectation."""
    torch.manual_seed(0)
    parameter, weights = torch.randn(3, requires_grad=True), torch.tensor([[1.0, 0.5, -1.0], [0.3, -0.2, 0.8]])
    x = torch.tensor([0.5, -1.0, 2.0])

    def posterior():
        scale = torch.stack([torch.stack([parameter[0].exp(), 0 * parameter[0]]), parameter[1:].exp()])
        return dist.MultivariateNormal(parameter[:2], scale_tril=scale)

    def guide(x):
        pyro.sample("z", posterior())

    def model(x):
        z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
        with pyro.plate("data", 3):
            pyro.sample("x", dist.Normal(z[..., 0] * weights[0] + z[..., 1] * weights[1], 1.0), obs=x)

    q = posterior()
    spread = (weights * (q.covariance_matrix @ weights)).sum(0)
    log_lik = dist.Normal(q.loc @ weights, 1.0).log_prob(x) - spread / 2
    exact = log_lik.sum() - torch.distributions.kl_divergence(q, dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
    (expected,) = torch.autograd.grad(exact / 3, parameter)
    program = reparameterize((model, guide))
    losses = (obj.elbo().loss(program, x, num_particles=PARTICLES) for _ in range(CALLS))
    found = torch.stack([torch.autograd.grad(-loss, parameter)[0] for loss in losses])
    assert ((found.mean(0) - expected).abs() < 4.5 * found.std(0) / CALLS**0.5).all()


def test_without_it_an_angle_gets_the_score_function():
    node = obj.Run(as_program(Small("von mises")), (X,), {}).guide.nodes["z"]
    assert type(estimator_of(node)) is handlers.ScoreFunction


def test_the_site_keeps_its_name_distribution_and_density():
    program = reparameterize(Small("von mises"))
    run = obj.Run(as_program(program), (X,), {}, num_particles=3)
    node = run.guide.nodes["z"]
    assert set(run.guide.nodes) == {"z"}
    assert type(node["fn"]) is dist.VonMises
    assert type(estimator_of(node)) is Reparameterize
    torch.testing.assert_close(run.site_log_prob(node), on_circle(program.source.parameter).log_prob(node["value"]))
    assert run.model.nodes["z"]["value"] is node["value"]


def forms():
    program = Small("von mises")

    class Named(Small):
        def guide(self, x):
            pyro.sample("z", self.make(self.parameter), infer={"gradient": Reparameterize()})

    return {
        "whole": reparameterize(program),
        "guide alone": (program.model, Reparameterize("z")(program.guide)),
        "predicate": reparameterize(program, sites=lambda msg: msg["name"] == "z"),
        "list": as_program(program).wrap(Reparameterize(["z"])),
        "named at the site": Named("von mises"),
    }


def test_all_forms_give_the_same_value_and_gradient():
    found = []
    for program in forms().values():
        torch.manual_seed(3)
        loss = obj.elbo().loss(program, X, num_particles=3)
        found.append((loss, *torch.autograd.grad(loss, list(as_program(program).parameters()))))
    torch.manual_seed(3)
    with Reparameterize("z"):
        found.append((obj.elbo().loss(Small("von mises"), X, num_particles=3),))
    for one in found[1:]:
        assert all(map(torch.equal, one, found[0]))


class Chain(nn.Module):
    """An angle about one of two directions, which a bit chooses."""

    def __init__(self):
        super().__init__()
        self.parameter = nn.Parameter(torch.tensor([0.4, -0.6, 0.3], dtype=torch.float64))

    def angle(self, bit):
        return dist.VonMises(self.parameter[1] * (1 + bit), self.parameter[2].exp())

    def guide(self, x):
        bit = pyro.sample("bit", dist.Bernoulli(logits=self.parameter[0]))
        pyro.sample("z", self.angle(bit))

    def model(self, x):
        bit = pyro.sample("bit", dist.Bernoulli(torch.tensor(0.4).double()))
        z = pyro.sample("z", dist.VonMises(torch.tensor(0.2).double(), torch.tensor(1.0).double()))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(2 * z.cos() + bit, 1.0), obs=x)

    def exact(self):
        total, points = 0.0, grid(-math.pi, math.pi, 4001)
        for bit in (0.0, 1.0):
            log_bit = dist.Bernoulli(logits=self.parameter[0]).log_prob(torch.tensor(bit).double())
            log_z = self.angle(bit).log_prob(points)
            log_p = dist.Bernoulli(torch.tensor(0.4).double()).log_prob(torch.tensor(bit).double())
            log_p = log_p + dist.VonMises(torch.tensor(0.2).double(), torch.tensor(1.0).double()).log_prob(points)
            log_p = log_p + dist.Normal((2 * points.cos() + bit).unsqueeze(-1), 1.0).log_prob(X).sum(-1)
            total = total + torch.trapezoid((log_bit + log_z).exp() * (log_p - log_bit - log_z), points)
        return total / len(X)


@pytest.mark.parametrize("reparameterized", [True, False])
@pytest.mark.parametrize("estimator", ["marginalize", "reparameterize_and_marginalize", "local_expectation"])
def test_an_angle_after_a_site_that_is_summed_over_has_one_gradient(estimator, reparameterized):
    """By its own estimator: the sums redraw it from noise, whether or not its gradient passes that."""
    torch.manual_seed(0)
    program = Chain()
    wrapped = getattr(handlers, estimator)(program, sites="bit")
    wrapped = reparameterize(wrapped, sites="z") if reparameterized else wrapped
    found = gradients(program, wrapped, particles=50, calls=150)
    (exact,) = torch.autograd.grad(program.exact(), program.parameter)
    assert ((found.mean(0) - exact).abs() < 4.5 * found.std(0) / 150**0.5).all()


def test_where_no_gradient_is_taken_the_draw_is_the_programs_own():
    drawn = []
    for program in (Small("gamma"), reparameterize(Small("gamma"))):
        torch.manual_seed(0)
        with torch.no_grad():
            drawn.append(obj.Run(as_program(program), (X,), {}, 4).guide.nodes["z"]["value"])
    assert torch.equal(*drawn)


class Local(nn.Module):
    """An angle and a spread for each row, in the data plate, and gammas in a plate inside it."""

    def __init__(self):
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(2))

    def guide(self, x):
        local = self.parameter * x.tanh()
        with pyro.plate("data", len(x)):
            pyro.sample("angle", dist.VonMises(local[:, 0], local[:, 1].exp()))
            with pyro.plate("inner", 2):
                pyro.sample("g", dist.Gamma(local.T.exp().unsqueeze(-1).expand(2, len(x), 3), 1.0).to_event(1))

    def model(self, x):
        with pyro.plate("data", len(x)):
            angle = pyro.sample("angle", dist.VonMises(torch.tensor(0.0), torch.tensor(1.0)))
            with pyro.plate("inner", 2):
                g = pyro.sample("g", dist.Gamma(torch.ones(3), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(angle.cos() + g.sum(-1), 1.0), obs=x.T)


@pytest.mark.own_compile
@pytest.mark.filterwarnings("error")
def test_a_traced_fit_gives_the_eager_numbers():
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    norms = []
    for mode in ("off", "trace"):
        program = reparameterize(Local())
        fitted = ppl.fit(program, x, steps=6, batch_size=5, num_particles=2, compile=mode, progress=False)
        norms.append(fitted.history["gradient_norm"].tolist())
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert len(set(norms[0])) == 6


def test_a_relaxed_site_is_left_to_its_own_estimator():
    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(torch.full((3,), 0.5)))

    both = reparameterize(handlers.gumbel_softmax((program, program), sites="y"))
    node = obj.Run(as_program(both), (X,), {}).guide.nodes["y"]
    assert type(node["infer"]["gradient"]) is handlers.GumbelSoftmax


def test_what_cannot_be_served_is_refused_by_name():
    def bit(x):
        pyro.sample("z", dist.Bernoulli(0.5))

    with pytest.raises(ProgramError, match=r"'z'.*Reparameterize serves continuous.*got Bernoulli.*DisARM"):
        obj.elbo().loss(reparameterize((bit, bit), sites="z"), X)
    with pytest.raises(UnknownNameError, match="'zz'"):
        obj.elbo().loss(reparameterize(Small("gamma"), sites="zz"), X)
    with pytest.raises(OptionError, match=r"'z' is claimed by two"):
        obj.elbo().loss(reparameterize(handlers.score_function(Small("gamma"), sites="z"), sites="z"), X)


def schools(y, sigma):
    """Centred: its posterior is a funnel."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


DATA = {name: torch.tensor(values) for name, values in EIGHT_SCHOOLS.items()}


def test_a_model_alone_gets_noise_sites_and_deterministic_ones():
    structure = probe_model(reparameterize(schools, sites="theta"), (), DATA)
    kinds = {site.name: site.kind for site in structure.sites}
    assert kinds == {
        "mu": "latent",
        "tau": "latent",
        "theta_noise": "latent",
        "theta": "deterministic",
        "y": "observed",
    }
    assert structure.site("theta").plates == ("schools",)


def test_the_prior_of_the_model_is_as_it_was():
    """Of the whole hierarchy, by the quantiles of the last site."""
    found = []
    for one in (schools, reparameterize(schools)):
        torch.manual_seed(0)
        with pyro.plate("draws", 20_000, dim=-2):
            found.append(pyro.poutine.trace(one).get_trace(None, DATA["sigma"]).nodes["y"]["value"][:, 0])
    levels = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    below = (found[1].unsqueeze(-1) < found[0].quantile(levels)).float().mean(0)
    assert ((below - levels).abs() < 4.5 * (2 * levels * (1 - levels) / 20_000).sqrt()).all()


def summary(draws, name):
    """Mean and its standard error, from the means of twenty stretches of each chain, and the variance of the draws."""
    values = torch.from_numpy(draws.posterior[name]).double().reshape(draws.posterior[name].shape[0], -1)
    stretches = values.reshape(-1, values.shape[1] // 20).mean(1)
    return stretches.mean(), stretches.std() / len(stretches) ** 0.5


def exact_schools():
    """Posterior means of mu and tau on a grid, the effects integrated out: y ~ N(mu, tau^2 + sigma^2)."""
    mu, tau = torch.linspace(-40, 50, 901), torch.linspace(1e-3, 150, 3001)
    spread = (tau.square().unsqueeze(-1) + DATA["sigma"].square()).sqrt()
    log_lik = dist.Normal(mu.reshape(-1, 1, 1), spread).log_prob(DATA["y"]).sum(-1)
    log_joint = log_lik + dist.Normal(0.0, 5.0).log_prob(mu).unsqueeze(-1) + dist.HalfCauchy(5.0).log_prob(tau)
    weight = log_joint.flatten().softmax(0).reshape(log_joint.shape)
    return {"mu": (weight.sum(1) * mu).sum(), "tau": (weight.sum(0) * tau).sum()}


def test_nuts_on_it_has_the_posterior_of_the_centred_model():
    draws = nuts(reparameterize(schools, sites="theta"), **DATA, num_samples=400, warmup=200, chains=1)
    assert draws.posterior["theta"].shape == (1, 400, 8)
    for name, exact in exact_schools().items():
        mean, error = summary(draws, name)
        assert abs(mean - exact) < 4.5 * error


@pytest.mark.parametrize("strategy", [NoiseReparam(), LocScaleReparam(0.0)])
def test_nuts_takes_strategies_of_pyros_reparam(strategy):
    model = pyro.poutine.reparam(schools, config={"theta": strategy})
    draws = nuts(model, **DATA, num_samples=5, warmup=5, chains=1)
    assert draws.posterior["theta"].shape == (1, 5, 8)
    assert set(draws.log_likelihood) == {"y"}


def test_a_chain_on_quantiles_follows_their_gradient():
    """Gamma noise with Poisson counts: the posterior is a Gamma again."""

    def model(x):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Poisson(rate), obs=x)

    x = torch.tensor([3.0, 5.0, 4.0])
    draws = nuts(reparameterize(model), x, num_samples=400, warmup=100, chains=1)
    exact = dist.Gamma(2.0 + x.sum(), 1.0 + len(x))
    mean, error = summary(draws, "rate")
    assert abs(mean - exact.mean) < 4.5 * error
    assert abs(draws.posterior["rate"].var() / exact.variance - 1) < 4.5 * (2 / 100) ** 0.5  # of 100 free draws or more
    assert draws.posterior["rate_noise"].min() > 0


def test_it_composes_with_pyros_strategies():
    def model():
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        return pyro.sample("z", dist.Normal(1.0, scale))

    inner = pyro.poutine.reparam(model, {"z": LocScaleReparam(0.0), "scale": TransformReparam()})
    nodes = pyro.poutine.trace(reparameterize(inner)).get_trace().nodes
    latent = [name for name, node in nodes.items() if node["type"] == "sample" and not node["is_observed"]]
    assert latent == ["scale_base_noise", "z_decentered_noise"]
    z = nodes["scale_base_noise"]["value"].exp() * nodes["z_decentered_noise"]["value"] + 1.0
    torch.testing.assert_close(nodes["z"]["value"], z)


def test_the_strategy_refuses_what_it_cannot_serve():
    def model():
        pyro.sample("y", dist.Bernoulli(0.5))

    with pytest.raises(ProgramError, match=r"'y': NoiseReparam serves latent.*got Bernoulli"):
        reparameterize(model, sites="y")()

    def observed():
        pyro.sample("z", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))

    with pytest.raises(ProgramError, match=r"'z': NoiseReparam.*got an observed site"):
        pyro.poutine.reparam(observed, {"z": NoiseReparam()})()
    with pytest.raises(UnknownNameError, match=r"'yy'"):
        reparameterize(model, sites="yy")()
