"""What a program is fitted by unless its user says otherwise."""

import torch

import ppl_genmodels as ppl
from ppl_genmodels import models
from ppl_genmodels.objectives import default_objective, denoising, elbo


def test_most_programs_have_the_evidence_bound():
    assert str(default_objective(models.VAE(4, 2))) == str(elbo())
    assert str(default_objective((lambda x: x, None))) == str(elbo())


def test_a_program_may_have_its_own_and_fit_takes_it():
    program = models.Diffusion((2,), width=8, blocks=1)
    fitted = ppl.fit(program, torch.randn(20, 2), steps=2, progress=False)
    assert "denoising" in fitted.history.columns
    assert str(default_objective(program)) == str(denoising(weight="snr"))


def test_diffusions_whose_noising_or_variance_is_learned_are_fitted_by_the_bound():
    x = torch.rand(6, 1, 4, 4).round()
    options = {"levels": 2, "width": 8, "scales": 1}
    for learned in ({"noising": "learned"}, {"noising": "cosine", "learned_variance": True}):
        program = models.ImageDiffusion((1, 4, 4), **options, **learned)
        fitted = ppl.fit(program, x, steps=2, progress=False)
        assert "denoising[v]" in fitted.history.columns


def test_an_output_that_is_no_noise_learns_where_there_is_much_of_it():
    """Where all is noise, the expected data are their mean."""
    torch.manual_seed(0)
    program = models.Diffusion((2,), width=16, blocks=1)
    x = torch.tensor([1.0, -2.0]) + 0.1 * torch.randn(512, 2)
    adam = lambda parameters: torch.optim.Adam(parameters, lr=1e-2)  # noqa: E731
    fitted = ppl.fit(program, x, steps=200, optimizer=adam, progress=False).program
    with torch.no_grad():
        found = fitted.denoiser(torch.randn(200, 2), torch.ones(200)).data
    torch.testing.assert_close(found.mean(0), torch.tensor([1.0, -2.0]), atol=0.2, rtol=0)
    assert found.std(0).max() < 0.3
