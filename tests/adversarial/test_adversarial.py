"""The adversarial term, its two sides, and its training beside the program."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import handlers, inference
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.objectives.two_sides import two_sides
from ppl_genmodels.program import as_program

MEAN, SCALE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 1.5])


class Generator(nn.Module):
    """A GAN whose generator holds the data's distribution."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.deterministic("x", self.layer(z), event_dim=1)


class Inferring(Generator):
    """The same with an inference network."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2, 2)

    def guide(self, x=None):
        with pyro.plate("data", len(x)):
            return pyro.sample("z", dist.Normal(self.encoder(x), 0.3).to_event(1))


class Pair(nn.Module):
    """A critic of two values."""

    def __init__(self):
        super().__init__()
        self.layers = network(4)

    def forward(self, x, z):
        return self.layers(torch.cat([x, z], -1))


def network(inputs):
    return nn.Sequential(nn.Linear(inputs, 32), nn.SiLU(), nn.Linear(32, 1))


def data(rows=400):
    generator = torch.Generator().manual_seed(3)
    return MEAN + SCALE * torch.randn(rows, 2, generator=generator)


ADAM = partial(torch.optim.Adam, lr=5e-3, betas=(0.5, 0.9), fused=True)


def fitted(compile="trace", steps=200, program=Generator, sites=("x",), critic=None, **options):
    torch.manual_seed(0)
    critic = network(2) if critic is None else critic()
    term = obj.adversarial(
        *sites, critic, divergence=obj.Wasserstein(gradient_penalty=1.0), critic_steps=2, optimizer=ADAM
    )
    made = program()
    return ppl.fit(
        made, data(), objective=-term, steps=steps, optimizer=ADAM, compile=compile, progress=False, **options
    ), critic


def test_a_generator_learns_the_data():
    found, _ = fitted(steps=600)
    drawn = found.sample(4000, seed=1)["x"]
    torch.testing.assert_close(drawn.mean(0), data().mean(0), atol=0.15, rtol=0)
    torch.testing.assert_close(drawn.std(0), data().std(0), atol=0.25, rtol=0)


def test_the_traced_step_has_the_numbers_of_the_eager_one():
    (eager, one), (traced, other) = fitted("off", steps=5), fitted("trace", steps=5)
    difference = (eager.history - traced.history).drop(columns=["time", "validation"])
    assert difference.abs().max().max() < 1e-5
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_resumed_game_goes_on_as_if_it_had_not_stopped(tmp_path):
    whole, critic = fitted("off", steps=12)
    fitted("off", steps=7, out=tmp_path / "run")
    resumed, again = fitted("off", steps=12, out=tmp_path / "run", resume=True)
    for mine, theirs in zip(whole.program.parameters(), resumed.program.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(critic.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    saved = ppl.inference.state.read_tensors(next((tmp_path / "run").glob("*.safetensors")))
    assert not any("critic" in name for name in saved)


def test_the_history_has_both_players():
    found, _ = fitted(steps=3)
    assert {"adversarial[x]", "critic[x]", "critic[x] gradient", "gradient_norm"} <= set(found.history.columns)


def test_a_distance_is_not_called_nats():
    found, _ = fitted(steps=3)
    assert "in training" in repr(found)
    assert "nats" not in repr(found)


def test_sides_of_joint_sites_are_inference_and_generation():
    program = as_program(Inferring())
    x = data(50)
    run = obj.Run(program, (x,), {}, num_particles=3)
    sides = two_sides(run, ("x", "z"), "here")
    assert [value.shape for value in (*sides.first, *sides.second)] == [(150, 2)] * 4
    torch.testing.assert_close(sides.first[0], x.expand(3, 50, 2).flatten(0, 1))
    torch.testing.assert_close(sides.second[0], program.source.layer(sides.second[1]))
    assert torch.equal(sides.first[1], run.guide.nodes["z"]["value"].flatten(0, 1))
    assert obj.adversarial("x", "z", Pair()).evaluate(program, x, num_particles=3)["adversarial[x,z]"].shape == (50,)


def test_the_program_moves_both_sides_and_the_critic_neither():
    critic, program = Pair(), Inferring()
    term = obj.adversarial("x", "z", critic)
    term.loss(program, data(20)).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in program.parameters())
    program.zero_grad()
    critic.zero_grad()
    (game,) = term.games
    game.objective.loss(as_program(program), data(20)).backward()
    assert all(parameter.grad is None for parameter in program.parameters())
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_an_inference_network_is_learned_by_the_game():
    found, _ = fitted(steps=1500, program=Inferring, sites=("x", "z"), critic=Pair, callbacks=[inference.EMA(0.99)])
    with torch.no_grad():
        x = data(2000)
        z = found.program.encoder(x)
        back = found.program.layer(z)
    assert (back - x).square().mean() < 0.5 * (x - x.mean(0)).square().mean()


def test_a_critic_is_trained_alone_where_there_is_no_optimizer():
    torch.manual_seed(0)
    critic, program = network(2), Generator()
    before = [parameter.detach().clone() for parameter in (*program.parameters(), *critic.parameters())]
    step = inference.compile_step(-obj.adversarial("x", critic, optimizer=ADAM), program, optimizer=[])
    first = step(data(100))
    for _ in range(30):
        last = step(data(100))
    assert last < first  # the divergence, which the objective has with a minus, is told better
    kept = [torch.equal(*pair) for pair in zip(before, (*program.parameters(), *critic.parameters()), strict=True)]
    assert kept == [True] * 2 + [False] * 4
    with pytest.raises(OptionError, match=r"there is no optimizer, and the objective .* has no critic"):
        inference.compile_step(obj.log_lik(), program, optimizer=[])


def test_weights_are_clipped():
    critic = network(2)
    term = obj.adversarial("x", critic, divergence=obj.Wasserstein(largest_weight=0.01))
    program = Generator()
    step = inference.compile_step(-term, program, ADAM(program.parameters()), mode="trace")
    step(data(64))
    assert max(parameter.abs().max().item() for parameter in critic.parameters()) <= 0.01


def test_a_step_of_ones_own_trains_both():
    torch.manual_seed(0)
    program, critic = Generator(), network(2)
    before = [parameter.clone() for parameter in (*program.parameters(), *critic.parameters())]
    term = -obj.adversarial("x", critic, optimizer=ADAM)
    step = inference.compile_step(term, program, ADAM(program.parameters()), mode="trace")
    for _ in range(3):
        step(data(64))
    after = [*program.parameters(), *critic.parameters()]
    assert all(not torch.equal(mine, theirs) for mine, theirs in zip(before, after, strict=True))


def test_what_cannot_be_is_refused():
    with pytest.raises(OptionError, match=r"expected names of sites and then a critic, an nn.Module; got \('x',\)"):
        obj.adversarial("x")
    with pytest.raises(OptionError, match="divergence='js', expected a Divergence"):
        obj.adversarial("x", network(2), divergence="js")
    with pytest.raises(OptionError, match="critic_steps=0, expected a positive integer"):
        obj.adversarial("x", network(2), critic_steps=0)
    with pytest.raises(UnknownNameError, match=r"no site 'y' of the model, in adversarial\('y'\)"):
        obj.adversarial("y", network(2)).loss(Generator(), data(5))
    wide = nn.Linear(2, 3)
    with pytest.raises(ProgramError, match=r"the critic gave scores of shape \(10, 3\) for 10 values"):
        obj.adversarial("x", wide).loss(Generator(), data(5))


class Kinds(nn.Module):
    """A program that draws one of three kinds for each row."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(3))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            return pyro.sample("x", dist.OneHotCategorical(logits=self.logits))


def test_both_players_see_relaxed_draws():
    seen = []

    class Watching(nn.Linear):
        def forward(self, x):
            seen.append(x.detach())
            return super().forward(x)

    program = handlers.gumbel_softmax(Kinds(), temperature=0.5)
    term = obj.adversarial("x", Watching(3, 1))
    x = torch.eye(3)[torch.arange(60) % 3]
    (game,) = term.games
    (-term).loss(program, x).backward()
    game.objective.loss(program, x).backward()
    of_program, of_critic = (((values[60:] > 0.01) & (values[60:] < 0.99)).any() for values in seen)
    assert of_program
    assert of_critic
    assert all(torch.equal(values[:60], x) for values in seen)
