"""Diffusion given labels, and guidance without a classifier."""

import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels import inference, models
from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.networks import ClassifierFree, CosineNoising, Denoiser, LabelEmbedding
from ppl_genmodels.objectives import denoising

CENTRES = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
SPREAD = 0.5


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    y = torch.randint(0, 2, (4000,))
    x = CENTRES[y] + SPREAD * torch.randn(4000, 2)
    program = models.ConditionalDiffusion((2,), classes=2, width=32, blocks=2)
    return ppl.fit(
        program,
        {"x": x, "y": y},
        objective=denoising("x", weight="simple"),
        steps=1200,
        batch_size=256,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3),
        callbacks=[inference.EMA(0.99)],
        progress=False,
    ).program


def test_draws_are_of_the_class_asked_for(fitted):
    torch.manual_seed(1)
    for label in (0, 1):
        drawn = fitted.generate(torch.full((2000,), label), steps=30)
        torch.testing.assert_close(drawn.mean(0), CENTRES[label], atol=0.1, rtol=0)
        torch.testing.assert_close(drawn.std(0), torch.full((2,), SPREAD), atol=0.08, rtol=0)


def test_without_a_label_it_draws_from_all(fitted):
    torch.manual_seed(1)
    none = fitted.embedding.none().expand(4000, -1)
    drawn = ppl.distributions.generate(fitted.flow.denoiser, torch.randn(4000, 2), steps=30, context=none)
    share = (drawn[:, 0] > 0).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.06)
    assert drawn[:, 0].var().item() == pytest.approx(1 + SPREAD**2, abs=0.2)


def test_guidance_moves_draws_away_from_the_other_class(fitted):
    means = []
    for guidance in (0.0, 1.0, 3.0):
        torch.manual_seed(1)
        means.append(fitted.generate(torch.ones(1000, dtype=torch.int64), guidance)[:, 0].mean().item())
    assert means[0] < means[1] < means[2]


def test_labels_are_left_out_in_training_only():
    torch.manual_seed(0)
    embedding, labels = LabelEmbedding(3, 4, dropped=0.25), torch.zeros(4000, dtype=torch.int64)
    left_out = (embedding(labels) == embedding.none()).all(-1).float().mean().item()
    assert left_out == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)
    assert not (embedding.eval()(labels) == embedding.none()).all(-1).any()


def test_guided_noise_is_the_papers(gaussian_free):
    denoiser, none, context = gaussian_free
    noisy, time = torch.randn(5, 2), torch.rand(5)
    found = ClassifierFree(denoiser, none, 2.0)(noisy, time, context)
    given, free = denoiser(noisy, time, context).noise, denoiser(noisy, time, none.expand(5, -1)).noise
    torch.testing.assert_close(found.noise, 3 * given - 2 * free)
    torch.testing.assert_close(found.alpha * found.data + found.sigma * found.noise, noisy)


@pytest.fixture
def gaussian_free():
    class Affine(torch.nn.Module):
        def forward(self, x, time, context):
            return x * time.unsqueeze(-1) + context

    return Denoiser(Affine(), CosineNoising()), torch.zeros(2), torch.randn(5, 2)


def test_bad_labels_are_refused():
    program = models.ConditionalDiffusion((2,), classes=3, width=8)
    with pytest.raises(DataError, match=r"'y' has values from 0 to 3, expected 0 to 2 \(classes=3\)"):
        program.model(torch.zeros(2, 2), torch.tensor([0, 3]))
    with pytest.raises(DataError, match=r"'y' has shape \(3,\), expected \(2,\)"):
        program.model(torch.zeros(2, 2), torch.tensor([0, 1, 2]))
    with pytest.raises(OptionError, match="dropped is a probability below 1, got 1"):
        models.ConditionalDiffusion((2,), classes=3, dropped=1.0)
