"""The health of games whose sites are inferred: which side learns, and what the history has."""

import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels.inference import GameHealth
from ppl_genmodels.inference.game_measures import critic_measures
from ppl_genmodels.models import AdversarialAutoencoder, BiGAN
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.program import as_program

ROWS = 400
FAR = 9.0


def data():
    """Rows about 3."""
    return 3 + 0.1 * torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(0))


def shifted(program):
    """Codes that the guide puts far from the prior's, and data that the model puts far from the data."""
    with torch.no_grad():
        program.encoder.layers[-1].bias[: len(program.prior_loc)].fill_(FAR)
        decoder = program.decoder
        decoder.layers[-1].bias.fill_(-FAR)
    return program


PROGRAMS = {
    "z": lambda: AdversarialAutoencoder(event_shape=(2,), latent_dim=1, hidden=(4,), likelihood="gaussian"),
    "x,z": lambda: BiGAN(event_shape=(2,), latent_dim=1, hidden=(4,)),
}


def sides(sites):
    """Measures, and samples of the side that learns and of the other."""
    torch.manual_seed(0)
    program = shifted(PROGRAMS[sites]())
    (game,) = program.default_objective().games
    return critic_measures(game.player, Run(as_program(program), (data(),), {}))


def test_of_an_autoencoder_the_codes_learn_from_the_prior():
    found, samples, others = sides("z")
    assert samples.mean() == pytest.approx(FAR, abs=3.0)
    # of 400 draws of the prior
    assert others.mean() == pytest.approx(0.0, abs=4 / ROWS**0.5)
    assert others.std() == pytest.approx(1.0, abs=4 / (2 * ROWS) ** 0.5)
    assert found["push"] > 0


def test_of_pairs_the_generated_data_learn_from_the_data():
    found, samples, others = sides("x,z")
    assert samples.mean() == pytest.approx(-FAR, abs=3.0)
    assert torch.equal(others, data())
    assert found["push"] > 0


@pytest.mark.parametrize("sites", PROGRAMS)
def test_the_history_has_the_columns_of_the_game(sites):
    torch.manual_seed(0)
    health = GameHealth(every=2, rows=100)
    found = ppl.fit(PROGRAMS[sites](), data(), steps=4, callbacks=[health], compile="off", progress=False).history
    measured = found[found["step"] % 2 == 0]
    for name in ("accuracy", "push", "spread", "duplicates", "precision", "coverage", "course"):
        assert measured[f"game[{sites}] {name}"].notna().all()
        assert found[f"game[{sites}] {name}"].notna().sum() == 2
    assert found[[f"adversarial[{sites}]", f"critic[{sites}] gradient", "gradient_norm"]].notna().all().all()
