"""The variational autoencoder: against probabilistic PCA, and on bad input."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import LowRankMultivariateNormal

from ppl_genmodels.errors import DataError, OptionError, ProgramError, UnknownNameError
from ppl_genmodels.models import VAE
from ppl_genmodels.models.vae import SMALLEST_SCALE, likelihood_options


def log_weights(program, x, particles):
    """log p(x, z) - log q(z | x) at draws of the guide, of shape (particles, rows)."""
    plate = pyro.plate("_particles", particles, dim=-2)
    guide = poutine.trace(plate(program.guide)).get_trace(x)
    model = poutine.trace(poutine.replay(plate(program.model), trace=guide)).get_trace(x)
    model.compute_log_prob()
    guide.compute_log_prob()
    nodes, proposal = model.nodes, guide.nodes
    return nodes["x"]["log_prob"] + nodes["z"]["log_prob"] - proposal["z"]["log_prob"]


def probabilistic_pca(data_dim=5, latent_dim=2, noise=0.7):
    """An affine VAE whose guide is its exact posterior, and the exact distribution of its data.

    The columns of the loading are orthogonal, which makes the posterior's covariance diagonal.
    """
    torch.manual_seed(0)
    orthogonal = torch.linalg.qr(torch.randn(data_dim, latent_dim, dtype=torch.float64)).Q
    loading = orthogonal * torch.tensor([2.0, 0.5])
    mean = torch.randn(data_dim, dtype=torch.float64)
    precision = loading.T @ loading + noise**2 * torch.eye(latent_dim)
    gain = torch.linalg.solve(precision, loading.T)
    scale = noise / precision.diagonal().sqrt() - SMALLEST_SCALE
    program = VAE(data_dim, latent_dim, hidden=(), likelihood="gaussian").to(torch.float64)
    with torch.no_grad():
        program.likelihood.log_scale.fill_(math.log(noise))
        program.decoder.layers[0].weight.copy_(loading)
        program.decoder.layers[0].bias.copy_(mean)
        program.encoder.layers[0].weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
        program.encoder.layers[0].bias.copy_(torch.cat([-gain @ mean, scale.expm1().log()]))
    variance = torch.full((data_dim,), noise**2, dtype=torch.float64)
    return program, LowRankMultivariateNormal(mean, loading, variance)


def test_with_its_exact_posterior_every_weight_is_the_exact_evidence():
    program, exact = probabilistic_pca()
    x = exact.sample((6,))
    with torch.no_grad():
        weights = log_weights(program, x, particles=4)
    torch.testing.assert_close(weights, exact.log_prob(x).expand(4, 6), rtol=1e-8, atol=1e-8)


def test_prior_draws_have_the_moments_of_probabilistic_pca():
    program, exact = probabilistic_pca()
    draws = 40_000
    with torch.no_grad(), pyro.plate("draws", draws, dim=-2):
        x = program.model().squeeze(-2)
    deviation = x - exact.mean
    standard_error = exact.variance.sqrt() / draws**0.5
    assert (deviation.mean(0).abs() < 4 * standard_error).all()
    products = deviation[:, :, None] * deviation[:, None, :]
    standard_error = products.std(0) / draws**0.5
    assert ((products.mean(0) - exact.covariance_matrix).abs() < 4 * standard_error).all()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "categorical"])
def test_the_decoder_mirrors_the_encoder(likelihood):
    program = VAE(6, 2, hidden=(5, 4), likelihood=likelihood, levels=3)
    outputs = program.likelihood.output_shape[0]
    assert [layer.out_features for layer in program.encoder.layers[::2]] == [5, 4, 4]
    assert [layer.out_features for layer in program.decoder.layers[::2]] == [4, 5, outputs]


def test_the_guide_reads_categorical_pixels_of_any_dtype():
    program = VAE(6, 2, likelihood="categorical", levels=17)
    x = torch.randint(0, 17, (5, 6))
    traces = [poutine.trace(program.guide).get_trace(value) for value in (x, x.float(), x.byte())]
    means = [trace.nodes["z"]["fn"].mean for trace in traces]
    assert torch.equal(means[0], means[1])
    assert torch.equal(means[0], means[2])


def test_the_scale_of_the_guide_stays_positive():
    program = VAE(6, 2, hidden=(), likelihood="gaussian")
    with torch.no_grad():
        program.encoder.layers[0].bias.fill_(-1e4)
    assert program.guide(torch.zeros(5, 6)).isfinite().all()


def test_a_guide_without_data_is_refused():
    with pytest.raises(ProgramError, match=r"VAE.guide needs data: 'x' is None.*model\(\)"):
        VAE(6, 2).guide()


@pytest.mark.parametrize("role", ["model", "guide"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(5, 7), r"'x' has shape \(5, 7\), expected \(rows, 6\).*build VAE"),
        (torch.zeros(5, 2, 3), r"shape \(5, 2, 3\).*Remedy: x.reshape\(-1, 6\)"),
        (torch.zeros(6), r"shape \(6,\).*Remedy: x.unsqueeze\(0\)"),
        (torch.zeros(0, 6), r"shape \(0, 6\).*at least one row"),
        (torch.zeros(5, 6, dtype=torch.float64), r"dtype torch.float64.*x.to\(torch.float32\)"),
        (np.zeros((5, 6)), r"type ndarray, expected a tensor.*as_tensor\(x\)"),
        (torch.full((5, 6), math.inf), "'x' has 30 values that GaussianLikelihood cannot"),
    ],
)
def test_data_of_the_wrong_kind_are_refused(role, x, message):
    program = VAE(6, 2, likelihood="gaussian")
    with pytest.raises(DataError, match=rf"VAE: .*{message}"):
        getattr(program, role)(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_dim": 0}, "VAE: data_dim=0"),
        ({"latent_dim": 0}, "VAE: latent_dim=0, expected a positive integer"),
        ({"hidden": 500}, r"VAE: hidden=500.*hidden=\(500,\)"),
        ({"hidden": (500, 0)}, r"VAE: hidden\[1\]=0"),
        ({"likelihood": "categorical", "levels": 0}, "levels=0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        VAE(**({"data_dim": 6, "latent_dim": 2} | options))


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(UnknownNameError, match="no likelihood 'poisson'"):
        VAE(6, 2, likelihood="poisson")


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (np.array([[0.0, 1.0, np.nan]]), {"likelihood": "bernoulli"}),
        (np.array([[False, True]]), {"likelihood": "bernoulli"}),
        (np.array([[0.0, 0.5, np.nan]]), {"likelihood": "gaussian"}),
        (np.array([[0, 255]], dtype=np.uint8), {"likelihood": "gaussian", "levels": 256}),
        (np.array([[-1.0, 3.0]]), {"likelihood": "gaussian"}),
    ],
)
def test_the_likelihood_is_read_off_the_values(x, options):
    assert likelihood_options(x) == options
    assert VAE.options_for({"x": x}) == {"data_dim": x.shape[1], **options}


def test_images_are_no_flat_rows():
    with pytest.raises(DataError, match=r"VAE: array 'x' has shape \(5, 2, 3\).*ConvVAE"):
        VAE.options_for({"x": np.zeros((5, 2, 3))})
