"""The probability flow with the exact denoiser of normal data gives their exact density."""

import pyro.distributions as dist
import pytest
import torch

from ppl_genmodels.distributions import Flow
from ppl_genmodels.distributions.diffusion import Diffusion
from ppl_genmodels.networks import (
    CosineNoising,
    Denoised,
    Denoiser,
    EDMNoising,
    LinearNoising,
    TimeMLP,
    VarianceExploding,
)
from ppl_genmodels.transforms import ProbabilityFlow

NOISINGS = [LinearNoising, CosineNoising, EDMNoising, VarianceExploding]
ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("dim", [2, 16])
@pytest.mark.parametrize("noising", NOISINGS)
def test_the_density_is_exact(gaussian, noising, dim):
    """Between the exact marginals at both ends: a thousandth of a nat is asked, as the data's own density shows."""
    torch.manual_seed(0)
    denoiser = gaussian(dim, noising())
    least, noisiest = (denoiser.marginal(time) for time in ENDS)
    x = denoiser.target.sample((6,))
    flow = ProbabilityFlow(denoiser, (dim,), rtol=1e-7, atol=1e-7)
    found = Flow(noisiest, [flow]).log_prob(x)
    torch.testing.assert_close(found, least.log_prob(x), rtol=0, atol=1e-3)


def test_a_diffusion_over_images_is_one_over_their_numbers(gaussian):
    denoiser = gaussian(4, EDMNoising())
    flat = ProbabilityFlow(denoiser, (4,), rtol=1e-6, atol=1e-6).double()

    class OfImages(torch.nn.Module):
        noising, scales = denoiser.noising, lambda self, time: denoiser.scales(time.reshape(*time.shape, 1, 1))

        def forward(self, noisy, time):
            found = denoiser(noisy.flatten(-3), time)
            data, noise = (part.reshape(*part.shape[:-1], 1, 2, 2) for part in (found.data, found.noise))
            return Denoised(data, noise, found.alpha[..., None, None], found.sigma[..., None, None])

    images = ProbabilityFlow(OfImages(), (1, 2, 2), rtol=1e-6, atol=1e-6).double()
    x = denoiser.target.sample((3,))
    torch.testing.assert_close(Diffusion(images).log_prob(x.reshape(3, 1, 2, 2)), Diffusion(flat).log_prob(x))
    assert Diffusion(images).expand((5,)).rsample().shape == (5, 1, 2, 2)


def test_draws_price_themselves_and_have_gradients():
    torch.manual_seed(0)
    denoiser = Denoiser(TimeMLP(2, width=16), LinearNoising()).double()
    torch.nn.init.normal_(denoiser.network.leave.weight, std=0.1)
    diffusion = Diffusion(ProbabilityFlow(denoiser, (2,), rtol=1e-6, atol=1e-6).double())
    drawn = diffusion.rsample((5,))
    torch.testing.assert_close(diffusion.log_prob(drawn), diffusion.log_prob(drawn.clone()), rtol=1e-4, atol=1e-4)
    (drawn.sum() + diffusion.log_prob(drawn).sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in denoiser.parameters())


def test_a_context_is_passed_on():
    denoiser = Denoiser(TimeMLP(2, width=16, context_features=3), LinearNoising())
    torch.nn.init.normal_(denoiser.network.leave.weight, std=0.1)
    flow = ProbabilityFlow(denoiser, (2,), context_features=3, solver="rk4", steps=5)
    diffusion = Diffusion(flow, torch.randn(4, 3))
    assert diffusion.batch_shape == (4,)
    assert diffusion.log_prob(torch.zeros(4, 2)).unique().numel() == 4
    assert isinstance(diffusion, dist.TransformedDistribution)
