"""Quasi-random particles: even in every dim, uniform each by itself, unbiased, and of a variance that falls fast."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn
from torch.quasirandom import SobolEngine

import ppl_genmodels as ppl
from ppl_genmodels import as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.handlers import quasi_random

X = torch.tensor([0.4, -0.8, 1.5])


class Latent(nn.Module):
    """A Normal for all rows, a pair of Normals for each, and one in a plate inside that of the data."""

    def __init__(self):
        super().__init__()
        self.parameter = nn.Parameter(torch.tensor([0.3, -0.5, 0.9]))

    def guide(self, x):
        pyro.sample("w", dist.Normal(self.parameter[0], 0.7))
        with pyro.plate("data", len(x)):
            loc = self.parameter[1] * torch.stack([x, 1 - x], -1)
            pyro.sample("z", dist.Normal(loc, self.parameter[2]).to_event(1))
            with pyro.plate("inner", 4):
                pyro.sample("v", dist.Normal(0.0, self.parameter[2]))

    def model(self, x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            with pyro.plate("inner", 4):
                v = pyro.sample("v", dist.Normal(0.0, 1.0))
            mean = (z.sum(-1) + w).sin() + v.mean(-2, keepdim=True)
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def uniforms(particles, program=None):
    """The uniforms behind the draws of a run, one column for each scalar of noise of the first datum; and all."""
    guide = obj.Run(quasi_random(program or Latent()), (X,), {}, particles).guide
    found = {
        name: node["fn"].base_dist.cdf(node["value"]) if name == "z" else node["fn"].cdf(node["value"])
        for name, node in guide.nodes.items()
    }
    datum = torch.cat(
        [
            found["w"][..., :1].reshape(particles, 1),
            found["z"][..., 0, :].reshape(particles, 2),
            found["v"][..., 0].reshape(particles, 4),
        ],
        1,
    )
    return datum, found


@pytest.mark.parametrize("particles", [8, 64])
def test_every_dim_of_a_datum_has_one_particle_in_each_interval(particles):
    torch.manual_seed(0)
    datum, _ = uniforms(particles)
    order = (datum * particles).floor().sort(0).values
    assert torch.equal(order, torch.arange(particles).float().unsqueeze(-1).expand(-1, 7))


def test_the_dims_of_a_datum_are_those_of_one_shifted_sequence():
    """Without carry: the first bits of any two points differ as those of the sequence do, in all dims together."""
    torch.manual_seed(0)
    datum, _ = uniforms(16)
    bits = (datum.double() * 2**8).long()
    points = (SobolEngine(7).draw(16, dtype=torch.float64) * 2**8).long()
    assert torch.equal(bits[1:] ^ bits[:1], points[1:] ^ points[:1])


def test_each_datum_and_each_run_has_a_randomisation_of_its_own():
    torch.manual_seed(0)
    (_, one), (_, other) = uniforms(8), uniforms(8)
    for name, value in one.items():
        assert value.unique().numel() == value.numel()
        assert not torch.isin(value, other[name]).any()


@pytest.mark.parametrize("particle", [0, 3])
def test_each_particle_has_the_law_by_itself(particle):
    torch.manual_seed(0)
    program = Latent()
    wrapped = quasi_random(program)
    values = torch.stack(
        [obj.Run(wrapped, (X,), {}, 4).guide.nodes["z"]["value"][particle, 0, 0, 0] for _ in range(800)]
    )
    fn = stats.norm((program.parameter[1] * X[0]).item(), program.parameter[2].item())
    assert stats.kstest(values.detach().numpy(), fn.cdf).pvalue > 1e-4


def gradients(program, calls, particles):
    losses = (obj.elbo().loss(program, X, num_particles=particles) for _ in range(calls))
    return torch.stack([torch.autograd.grad(-loss, as_program(program).source.parameter)[0] for loss in losses])


def test_the_gradient_is_unbiased_and_varies_less():
    torch.manual_seed(0)
    program = Latent()
    plain, even = (gradients(one, 200, 64) for one in (program, quasi_random(program)))
    error = (plain.var(0) / 200 + even.var(0) / 200).sqrt()
    assert ((plain.mean(0) - even.mean(0)).abs() < 4.5 * error).all()
    assert even.var(0).sum() < 0.5 * plain.var(0).sum()


def smooth(fn):
    """E[sin z + z^2 / 4] of one site, and as a program."""

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        pyro.factor("smooth", (z.sum(-1) / 2).sin() + z.square().sum(-1) / 4 + z.prod(-1) / 5)

    def guide(x):
        pyro.sample("z", fn)

    return model, guide


def test_the_variance_of_a_smooth_integrand_falls_faster_than_with_independent_particles():
    """The slope in logarithms is below -1.3 where independent particles have -1; and the mean is the integral."""
    torch.manual_seed(0)
    program = quasi_random(smooth(dist.Normal(torch.tensor([0.3, -0.2]), 1.0).to_event(1)))
    counts = [4, 8, 16, 32, 64, 128, 256]
    exact = math.sin(0.05) * math.exp(-0.25) + (2 + 0.09 + 0.04) / 4 - 0.06 / 5
    variances = []
    for particles in counts:
        losses = torch.stack([-obj.log_lik().loss(program, X, num_particles=particles) for _ in range(100)])
        assert abs(losses.mean() - exact) < 4.5 * losses.std() / 10
        variances.append(losses.var().item())
    slope = stats.linregress([math.log(n) for n in counts], [math.log(v) for v in variances]).slope
    assert slope < -1.3


def test_gamma_and_angles_are_even_too():
    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("g", dist.Gamma(torch.tensor(2.0), 1.0))
            pyro.sample("d", dist.Dirichlet(torch.ones(3)))
            pyro.sample("a", dist.VonMises(torch.tensor(0.0), torch.tensor(2.0)))

    guide = obj.Run(quasi_random(handlers.reparameterize((program, program))), (X,), {}, 16).guide
    probability = torch.special.gammainc(torch.tensor(2.0), guide.nodes["g"]["value"])
    assert torch.equal((probability * 16).floor().sort(0).values[:, 0], torch.arange(16.0))
    assert guide.nodes["d"]["value"].shape == (16, 3, 3)
    assert stats.vonmises(2.0).cdf(guide.nodes["a"]["value"].numpy(force=True)[:, 0]).max() > 15 / 16


def test_relaxed_sites_are_even_too():
    def program(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(torch.full((3,), 0.5)))

    for wrapped in (
        quasi_random(handlers.gumbel_softmax((program, program))),
        handlers.gumbel_softmax(quasi_random((program, program))),
    ):
        value = obj.Run(wrapped, (X,), {}, 16).guide.nodes["y"]["value"]
        assert ((value > 0.5).sum(0) == 8).all()


def test_one_particle_is_a_plain_draw():
    torch.manual_seed(0)
    expected = obj.Run(as_program(Latent()), (X,), {}).guide.nodes["z"]["value"]
    torch.manual_seed(0)
    assert torch.equal(obj.Run(quasi_random(Latent()), (X,), {}).guide.nodes["z"]["value"], expected)


def test_seeds_hold():
    found = []
    for _ in range(2):
        torch.manual_seed(4)
        found.append(uniforms(8)[0])
    assert torch.equal(*found)


def test_too_many_dims_are_refused():
    def program(x):
        pyro.sample("a", dist.Normal(torch.zeros(20_000), 1.0).to_event(1))
        pyro.sample("b", dist.Normal(torch.zeros(2_000), 1.0).to_event(1))

    with pytest.raises(OptionError, match=r"site 'b' a datum has 22000 scalars.*21201 dims. Remedy: name"):
        obj.Run(quasi_random((program, program)), (X,), {}, 2).guide  # noqa: B018


def test_what_cannot_be_served_is_refused_by_name():
    def program(x):
        pyro.sample("b", dist.Bernoulli(0.3))

    with pytest.raises(ProgramError, match=r"'b': QuasiRandom makes particles depend"):
        obj.Run(quasi_random((program, program), sites="b"), (X,), {}, 2).guide  # noqa: B018
    with pytest.raises(UnknownNameError, match="'zz'"):
        obj.elbo().loss(quasi_random(Latent(), sites="zz"), X)


def test_where_no_gradient_is_taken_nothing_changes():
    program, drawn = Latent(), []
    for one in (as_program(program), quasi_random(program)):
        torch.manual_seed(0)
        with torch.no_grad():
            drawn.append(obj.Run(one, (X,), {}, 3).guide.nodes["z"]["value"])
    assert torch.equal(*drawn)


@pytest.mark.own_compile
@pytest.mark.filterwarnings("error")
def test_a_traced_fit_gives_the_eager_numbers():
    norms = []
    for mode in ("off", "trace"):
        fitted = ppl.fit(
            quasi_random(Latent()), X, steps=6, batch_size=3, num_particles=4, compile=mode, progress=False
        )
        norms.append(fitted.history["gradient_norm"].tolist())
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert len(set(norms[0])) == 6
