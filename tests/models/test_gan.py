"""Generative adversarial networks of the catalogue: what they learn, how they are fitted, and what they refuse."""

import copy
from functools import partial

import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels import inference
from ppl_genmodels.errors import DataError, OptionError, ProgramError, UnknownNameError
from ppl_genmodels.models import GAN

MEAN, SCALE = 2.0, 0.5
ADAM = partial(torch.optim.Adam, lr=2e-3, betas=(0.0, 0.9), fused=True)
PLAYERS = {
    "spectral": {"spectral": True, "divergence": "hinge"},
    "wasserstein": {"divergence": "wasserstein", "classes": 3},
    "slopes": {"divergence": "least_squares", "gradient_penalty": 1.0},
    "images": {"event_shape": (1, 4, 4), "channels": (3,), "divergence": "minimax"},
}


def normal(rows=2048, seed=0):
    return MEAN + SCALE * torch.randn(rows, 1, generator=torch.Generator().manual_seed(seed))


def fitted(name, steps, compile="off", seed=0, **options):
    """A small game with data of the shape that it asks for."""
    torch.manual_seed(seed)
    program = GAN(**({"event_shape": (2,), "latent_dim": 2, "hidden": (8,)} | PLAYERS[name]))
    x = torch.rand(64, *program.event_shape, generator=torch.Generator().manual_seed(1))
    data = {"x": x} if program.classes is None else {"x": x, "y": torch.arange(64) % 3}
    return ppl.fit(program, data, steps=steps, batch_size=16, compile=compile, progress=False, **options)


def weights(found):
    return {**found.program.state_dict(), **{f"critic.{k}": v for k, v in found.program.critic.state_dict().items()}}


@pytest.mark.parametrize(
    "options",
    [{"gradient_penalty": 1.0}, {"divergence": "wasserstein", "gradient_penalty": 0.1, "critic_steps": 2}],
    ids=["nonsaturating", "wasserstein"],
)
def test_moments_of_normal_data_are_learned(options):
    torch.manual_seed(0)
    program = GAN(event_shape=(1,), latent_dim=2, hidden=(16,), critic_rate=4e-3, **options)
    before = program.generate(4000)
    found = ppl.fit(
        program,
        normal(),
        steps=600,
        optimizer=ADAM,
        compile="trace",
        progress=False,
        callbacks=[inference.EMA(0.98)],
    )
    drawn = found.sample(4000, seed=1)["x"]
    assert abs(before.mean().item() - MEAN) > 1.0
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.15)
    assert drawn.std().item() == pytest.approx(SCALE, rel=0.25)


def test_each_label_has_its_data():
    means, y = torch.tensor([-2.0, 0.0, 2.0]), torch.arange(1536) % 3
    x = means[y].unsqueeze(-1) + 0.3 * torch.randn(1536, 1, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    program = GAN(event_shape=(1,), latent_dim=2, hidden=(16,), classes=3, critic_rate=4e-3, gradient_penalty=1.0)
    ppl.fit(program, {"x": x, "y": y}, steps=400, optimizer=ADAM, compile="trace", progress=False)
    found = torch.stack([program.generate(torch.full((1000,), label)).mean() for label in range(3)])
    torch.testing.assert_close(found, means, atol=0.5, rtol=0)


@pytest.mark.parametrize("name", PLAYERS)
def test_the_traced_step_has_the_numbers_of_the_eager_one(name, recwarn):
    eager, traced = fitted(name, 4), fitted(name, 4, compile="trace")
    assert not [each for each in recwarn if issubclass(each.category, UserWarning)]
    for key, value in weights(eager).items():
        torch.testing.assert_close(value, weights(traced)[key], rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", PLAYERS)
def test_both_players_go_on_from_a_checkpoint_exactly(name, tmp_path):
    whole = fitted(name, 6)
    fitted(name, 3, out=tmp_path / "run")
    resumed = fitted(name, 6, out=tmp_path / "run", resume=True, seed=5)
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[key]), key


@pytest.mark.parametrize("name", ["wasserstein", "images"])
def test_a_saved_one_samples_as_before_and_holds_no_critic(name, tmp_path):
    found = fitted(name, 2)
    found.save(tmp_path)
    again = ppl.load(tmp_path)
    assert {key: value.tolist() for key, value in found.sample(3, seed=0).items()} == {
        key: value.tolist() for key, value in again.sample(3, seed=0).items()
    }
    assert not any("critic" in key for key in found.program.state_dict())


def test_the_report_shows_samples_beside_the_data(tmp_path):
    found = fitted("wasserstein", 2)
    page = found.report(tmp_path / "report", {"x": torch.rand(40, 2), "y": torch.arange(40) % 3})
    pictures = {path.stem for path in page.parent.glob("*.png")}
    assert {"samples", "samples_and_data", "training"} <= pictures
    assert not pictures & {"latent_map", "k_hat", "reconstructions"}
    assert "Not shown" not in page.read_text()


@pytest.mark.parametrize("ask", ["infer", "reconstruct", "log_evidence"])
def test_without_a_guide_nothing_is_inferred(ask):
    with pytest.raises(ProgramError, match="has no guide that would infer 'z'"):
        getattr(fitted("slopes", 1), ask)(torch.rand(3, 2))


def test_the_critic_is_no_part_of_the_program_and_goes_along_with_it():
    program = GAN(event_shape=(2,), hidden=(8,)).double()
    mine, critics = set(map(id, program.parameters())), set(map(id, program.critic.parameters()))
    assert not mine & critics
    assert {parameter.dtype for parameter in program.critic.parameters()} == {torch.float64}
    assert copy.deepcopy(program).critic is not program.critic


def test_what_cannot_be_is_refused():
    with pytest.raises(UnknownNameError, match="no divergence 'hing' of GAN"):
        GAN(event_shape=(2,), divergence="hing")
    with pytest.raises(OptionError, match="gradient_penalty=-1, expected 0 or more"):
        GAN(event_shape=(2,), gradient_penalty=-1)
    with pytest.raises(OptionError, match="critic_rate=0, expected a positive number"):
        GAN(event_shape=(2,), critic_rate=0)
    with pytest.raises(OptionError, match="expected \\(features,\\) or \\(channels, height, width\\)"):
        GAN(event_shape=(2, 3))
    with pytest.raises(OptionError, match="there are labels 'y', and the program has no classes"):
        GAN(event_shape=(2,)).model(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long))
    with pytest.raises(DataError, match="'x' has shape \\(3, 4\\), expected"):
        GAN(event_shape=(2,)).model(torch.zeros(3, 4))


def test_values_between_0_and_1_bound_what_is_generated():
    grey = torch.rand(20, 1, 4, 4)
    assert GAN.options_for({"x": grey.numpy()})["bounded"]
    assert not GAN.options_for({"x": 2 * grey.numpy() - 1})["bounded"]
    torch.manual_seed(0)
    program = GAN(event_shape=(1, 4, 4), channels=(3,), bounded=True)
    with torch.no_grad():
        program.generator[0].layers[-1].bias.fill_(-20.0)
    made = program.generate(100)
    assert made.min() >= 0
    assert made.max() < 0.01
