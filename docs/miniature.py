"""The whole mechanism in one file: effect handlers, a run, terms, an objective, a step.

A probabilistic program is a function that calls `sample`. The handlers open around it decide what
such a call does: so one program can be drawn from, recorded, run at given values, and repeated.
"""

import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

HANDLERS = []  # Those that are open now, the outermost first.


class Handler:
    """Sees every `sample` inside it: may change the site before the draw, and read it after."""

    def __enter__(self):
        HANDLERS.append(self)
        return self

    def __exit__(self, *error):
        HANDLERS.pop()

    def before(self, site): ...
    def after(self, site): ...


def sample(name, fn, obs=None):
    """The only statement of the language: a value of the distribution `fn`, or the observation."""
    site = {"name": name, "fn": fn, "value": obs, "observed": obs is not None}
    for handler in reversed(HANDLERS):  # The innermost first.
        handler.before(site)
    if site["value"] is None:
        site["value"] = site["fn"].rsample()  # Noise, then a map: the draw has a gradient.
    for handler in HANDLERS:
        handler.after(site)
    return site["value"]


class Plate(Handler):
    """Independent repetitions: every site inside has `size` entries along the batch dim `dim`."""

    def __init__(self, size, dim):
        self.shape = (size, *[1] * (-dim - 1))

    def before(self, site):
        site["fn"] = site["fn"].expand(torch.broadcast_shapes(site["fn"].batch_shape, self.shape))


class Trace(Handler):
    """Records the sites by name. A site that is in `given` takes its value from there."""

    def __init__(self, sites, given=()):
        self.sites, self.given = sites, given

    def before(self, site):
        if site["name"] in self.given:
            site["value"] = self.given[site["name"]]["value"]

    def after(self, site):
        self.sites[site["name"]] = site


class Run:
    """One evaluation of one batch: the guide once, and the model once at the guide's draws."""

    def __init__(self, program, x, particles):
        self.guide, self.model, self.particles = {}, {}, particles
        with Plate(particles, dim=-2):  # Particles are one more plate, to the left of the data.
            with Trace(self.guide):
                program.guide(x)
            with Trace(self.model, given=self.guide):
                program.model(x)


class Objective(tuple):
    """A weighted sum of terms: (weight, formula, function from a run to a value for each datum)."""

    def __sub__(self, other):
        return Objective((*self, *((-weight, *term) for weight, *term in other)))

    def __str__(self):
        return " ".join(f"{weight:+g} {formula}" for weight, formula, _ in self)

    def value(self, program, x, particles=1):
        run = Run(program, x, particles)  # One run, read by all terms.
        return sum(weight * values(run).mean() for weight, _, values in self)


def log_prob(sites):
    return sum(site["fn"].log_prob(site["value"]) for site in sites)  # (particles, data)


def likelihood(run):
    return log_prob(site for site in run.model.values() if site["observed"])


def divergence(run):  # In closed form.
    return sum(kl_divergence(site["fn"], run.model[z]["fn"]) for z, site in run.guide.items())


def importance_weighted(run):
    weight = log_prob(run.model.values()) - log_prob(run.guide.values())
    return weight.logsumexp(0) - math.log(run.particles)


log_lik = Objective([(1.0, "E_q[log p(x|z)]", likelihood)])
kl = Objective([(1.0, "KL[q(z|x) || p(z)]", divergence)])
iwae = Objective([(1.0, "E_q[log mean_k p(x,z_k) / q(z_k|x)]", importance_weighted)])


class PPCA(nn.Module):
    """Probabilistic PCA, z ~ N(0, I) and x ~ N(Wz, s^2 I): its evidence is known exactly."""

    def __init__(self):
        super().__init__()
        self.decoder, self.noise = nn.Linear(2, 5, bias=False), nn.Parameter(torch.ones(()))
        self.encoder, self.scale = nn.Linear(5, 2), nn.Parameter(torch.eye(2))

    def model(self, x=None):  # Without data it draws one datum.
        with Plate(1 if x is None else len(x), dim=-1):
            z = sample("z", MultivariateNormal(torch.zeros(2), torch.eye(2)))
            covariance = self.noise**2 * torch.eye(5)
            return sample("x", MultivariateNormal(self.decoder(z), covariance), obs=x)

    def guide(self, x):
        with Plate(len(x), dim=-1):
            return sample("z", MultivariateNormal(self.encoder(x), scale_tril=self.scale.tril()))

    def evidence(self, x):
        covariance = self.decoder.weight @ self.decoder.weight.T + self.noise**2 * torch.eye(5)
        return MultivariateNormal(torch.zeros(5), covariance).log_prob(x).mean()


if __name__ == "__main__":
    torch.manual_seed(0)
    x = torch.randn(500, 2) @ torch.randn(2, 5) + 0.5 * torch.randn(500, 5)
    program, elbo = PPCA(), log_lik - kl
    optimizer = torch.optim.Adam(program.parameters(), lr=0.02)
    print(f"maximise {elbo}\n step      ELBO IWAE_1000  evidence   (nats per datum)")
    for step in range(501):
        if step % 100 == 0:
            bounds = [bound.value(program, x, particles=1000) for bound in (elbo, iwae)]
            print(f"{step:5d}" + "".join(f"{b:10.4f}" for b in (*bounds, program.evidence(x))))
        optimizer.zero_grad()
        (-elbo.value(program, x, particles=10)).backward()
        optimizer.step()
