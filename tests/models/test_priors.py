"""Learned priors of latent vectors: densities, pseudo-inputs, options, and runs saved before they were there."""

import json
import math

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import fit, load
from ppl_genmodels.distributions import Flow, build_likelihood
from ppl_genmodels.errors import UnknownNameError
from ppl_genmodels.models import VAE, Autoencoder, ConvVAE
from ppl_genmodels.models.priors import PRIORS, FlowPrior, VampPrior
from ppl_genmodels.objectives import elbo

X = torch.rand(20, 6, generator=torch.Generator().manual_seed(0))
OPTIONS = {"data_dim": 6, "latent_dim": 2, "hidden": (5,), "likelihood": "gaussian"}


def test_the_normal_prior_is_what_a_program_without_the_option_has():
    """The same parameters and, with the divergence in closed form, the same bound from the same noise."""
    found = []
    for options in ({}, {"prior": "normal"}):
        torch.manual_seed(0)
        program = VAE(**OPTIONS, **options)
        assert program.prior is None
        found.append(elbo().loss(program, X))
        encoded = program.encoder(X)
        loc, raw_scale = encoded.chunk(2, -1)
        guide = dist.Normal(loc, nn.functional.softplus(raw_scale) + 1e-5)
        kl = torch.distributions.kl_divergence(guide, dist.Normal(torch.zeros(2), 1.0)).sum(-1)
        torch.testing.assert_close(elbo().evaluate(program, X)["kl"], kl)
    assert found[0] == found[1]


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("prior", PRIORS)
def test_densities_of_latents_integrate_to_one(prior, latent_dim):
    torch.manual_seed(0)
    program = VAE(**(OPTIONS | {"latent_dim": latent_dim}), prior=prior).double()
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    axis = torch.linspace(-12, 12, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(*(axis for _ in range(latent_dim))).reshape(-1, latent_dim)
    density = program.latents().log_prob(grid).exp().reshape(*(301 for _ in range(latent_dim)))
    for _ in range(latent_dim):
        density = torch.trapezoid(density, axis)
    assert density.item() == pytest.approx(1.0, abs=1e-3)


def test_a_flow_prior_starts_as_a_standard_normal():
    flow = FlowPrior(3)(None)
    z = torch.randn(7, 3)
    torch.testing.assert_close(flow.log_prob(z), dist.Normal(torch.zeros(3), 1.0).to_event(1).log_prob(z))
    assert isinstance(flow, Flow)


def test_a_vamp_prior_is_the_mean_of_the_posteriors_at_its_pseudo_inputs():
    torch.manual_seed(0)
    program = VAE(**OPTIONS, prior="vamp")
    with torch.no_grad():
        program.prior.pseudo_inputs.copy_(torch.randn(100, 6))
    z = torch.randn(7, 2)
    loc, raw_scale = program.encoder(program.prior.pseudo_inputs).chunk(2, -1)
    each = dist.Normal(loc, nn.functional.softplus(raw_scale) + 1e-5).to_event(1).log_prob(z.unsqueeze(1))
    torch.testing.assert_close(program.latents().log_prob(z), each.logsumexp(1) - math.log(100))


@pytest.mark.parametrize("prior", PRIORS[1:])
def test_every_parameter_of_a_prior_has_a_gradient(prior):
    torch.manual_seed(0)
    program = VAE(**OPTIONS, prior=prior)
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    elbo().loss(program, X, num_particles=3).backward()
    slopes = [each.grad for each in program.prior.parameters()]
    assert slopes
    assert all(slope.isfinite().all() and slope.abs().sum() > 0 for slope in slopes)


def test_images_and_ones_own_networks_take_priors():
    images = ConvVAE((1, 4, 4), 2, channels=(3,), likelihood="gaussian", prior="vamp")
    assert images.prior.pseudo_inputs.shape == (100, 1, 4, 4)
    assert images.model().shape == (1, 1, 4, 4)
    likelihood = build_likelihood("gaussian", (6,))
    own = Autoencoder(2, nn.Linear(6, 4), nn.Linear(2, 6), likelihood, VampPrior((6,), pseudo_inputs=3))
    assert own.model().shape == (1, 6)


def test_an_unknown_prior_is_refused():
    with pytest.raises(UnknownNameError, match="prior"):
        VAE(**OPTIONS, prior="gaussian")


@pytest.mark.parametrize("prior", PRIORS)
def test_a_saved_run_comes_back(prior, tmp_path):
    fitted = fit(VAE(**OPTIONS, prior=prior), X, steps=2, batch_size=10, progress=False)
    fitted.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.program.options["prior"] == prior
    assert torch.equal(loaded.log_evidence(X, 5), fitted.log_evidence(X, 5))


def test_a_run_saved_before_priors_were_an_option_comes_back(tmp_path):
    fitted = fit(VAE(**OPTIONS), X, steps=2, batch_size=10, progress=False)
    fitted.save(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    del card["program"]["options"]["prior"]
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert torch.equal(load(tmp_path).log_evidence(X, 5), fitted.log_evidence(X, 5))
