"""The health of games: measures against closed forms, failures that were planted, and games that are well."""

import functools
import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference import GameHealth, GameWarning
from ppl_genmodels.inference.game_failures import game_failures
from ppl_genmodels.inference.game_measures import critic_measures, sample_measures
from ppl_genmodels.networks import MLP
from ppl_genmodels.objectives.run import Run
from ppl_genmodels.program import as_program

ROWS = 512


class Affine(nn.Module):
    """x = loc + scale z."""

    def __init__(self, loc=(0.0, 0.0), scale=1.0):
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(loc))
        self.scale = nn.Parameter(torch.full((len(loc),), scale))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(self.loc), 1.0).to_event(1))
            pyro.deterministic("x", self.loc + self.scale * z, event_dim=1)


def normal(loc=(0.0, 0.0), rows=2000, seed=0):
    return torch.tensor(loc) + torch.randn(rows, len(loc), generator=torch.Generator().manual_seed(seed))


def fit(program, data, critic, health=None, **settings):
    divergence = settings.pop("divergence", None)
    steps = {name: settings.pop(name) for name in ("critic_steps", "regularizers") if name in settings}
    game = obj.adversarial(
        "x", critic, divergence=divergence, **steps, optimizer=settings.pop("critic_optimizer", None)
    )
    settings = {"batch_size": 64, "compile": "off", "progress": False} | settings
    callbacks = [] if health is None else [health]
    return ppl.fit(program, data, objective=-game, callbacks=callbacks, **settings)


def descent(rate):
    return functools.partial(torch.optim.SGD, lr=rate)


class Slope(nn.Module):
    """T(x) = scale * the log-ratio of N(-1, 1) to N(1, 1)."""

    def __init__(self, scale):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        return -2 * self.scale * x


def measured(critic, divergence, rows=40_000):
    torch.manual_seed(0)
    program, x = as_program(Affine((1.0,))), normal((-1.0,), rows, seed=5)
    player = obj.adversarial("x", critic, divergence=divergence).games[0].objective.weighted[0].term.values.__self__
    return critic_measures(player, Run(program, (x,), {}))


def test_accuracy_and_calibration_of_the_best_critic_are_the_closed_forms():
    exact = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    found, samples, data = measured(Slope(1.0), obj.JensenShannon())
    assert found["accuracy"] == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 80_000))
    assert found["calibration"] < 0.01
    assert samples.mean() > 0 > data.mean()
    bold = measured(Slope(5.0), obj.JensenShannon())[0]
    assert bold["accuracy"] == found["accuracy"]
    assert bold["calibration"] > 0.05


def test_a_critic_that_tells_no_ratio_is_judged_by_the_middle_and_its_push_is_its_slope():
    found, _, _ = measured(Slope(1.0), obj.Wasserstein())
    exact = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert found["accuracy"] == pytest.approx(exact, abs=0.01)
    assert math.isnan(found["calibration"])
    # slope 2, rows apart by N(2, 2), an estimate of 4
    assert found["push"] == pytest.approx(2 * math.sqrt(6) / 4, rel=0.03)


def test_the_measures_of_samples_are_those_counted_by_hand():
    data = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [13.0]])
    samples = torch.tensor([[0.0], [0.0], [0.5], [100.0]])
    found = sample_measures(samples, data, modes=lambda values: len((values > 5).unique()))
    assert found["duplicates"] == 0.5
    assert found["precision"] == 0.75
    assert found["spread"] == pytest.approx(samples.var().item() / data.var().item(), rel=1e-6)
    assert found["modes"] == found["data modes"] == 2
    assert abs(found["course"]) == pytest.approx(abs(samples.mean() - data.mean()).item() / data.std().item(), rel=1e-6)


def test_a_program_that_stands_still_is_told():
    health, data = GameHealth(every=5, patience=5), normal((6.0, 6.0))
    quick = functools.partial(torch.optim.Adam, lr=1e-2)
    with pytest.warns(
        GameWarning, match="critic wins: it tells .* the program stands still. Remedy: look at its learn"
    ):
        fit(Affine(), data, MLP(2, 1, (32,)), health, steps=100, optimizer=descent(0.0), critic_optimizer=quick)
    assert list(health.warned) == ["game[x] critic wins"]
    assert health.present == ("game[x] critic wins",)


def test_a_critic_that_is_far_too_strong_is_told():
    health, data = GameHealth(every=5, patience=5), normal((8.0, 8.0))
    strong = functools.partial(torch.optim.Adam, lr=1e-2)
    with pytest.warns(GameWarning, match=r"critic wins: it tells 100 % .* the gradient it gives is .* NonSaturating"):
        fit(
            Affine(), data, MLP(2, 1, (64,)), health, steps=80, divergence=obj.Minimax(), critic_steps=5,
            critic_optimizer=strong, optimizer=descent(0.01),
        )  # fmt: skip


def test_samples_without_variance_are_told():
    health, data = GameHealth(every=5, patience=5), normal()
    with pytest.warns(GameWarning, match="collapse: their variance is .* of the data's. Remedy: Wasserstein"):
        fit(Affine(scale=0.01), data, MLP(2, 1, (32,)), health, steps=60, optimizer=descent(1e-4))


class Ring(nn.Module):
    """Samples at some of eight centres."""

    def __init__(self, covered):
        super().__init__()
        angle = torch.arange(8) * math.pi / 4
        self.register_buffer("centres", 2 * torch.stack([angle.cos(), angle.sin()], -1))
        self.shift, self.covered = nn.Parameter(torch.zeros(2)), covered

    def sample(self, rows):
        return self.centres[torch.arange(rows) % self.covered] + 0.02 * torch.randn(rows, 2)

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)) as rows:
            pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.deterministic("x", self.shift + self.sample(len(rows)), event_dim=1)


@pytest.mark.parametrize("known", [True, False], ids=["by their centres", "by the data alone"])
def test_modes_that_are_missed_are_told(known):
    torch.manual_seed(0)
    ring = Ring(covered=2)
    told = {"modes": ring.centres, "radius": 0.06} if known else {}
    health, data = GameHealth(every=5, patience=5, **told), Ring(covered=8).sample(2000)
    match = "they are of 2 of the 8 modes" if known else "of the data have one near them"
    with pytest.warns(GameWarning, match=match):
        fitted = fit(ring, data, MLP(2, 1, (32,)), health, steps=40, optimizer=descent(1e-5))
    if known:
        assert fitted.history["game[x] modes"].dropna().eq(2).all()


def test_a_classifier_counts_classes():
    health = GameHealth(every=10, modes=lambda values: values @ torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
    history = fit(Affine(), normal(), MLP(2, 1, (8,)), health, steps=10).history
    assert history["game[x] modes"].iloc[-1] == history["game[x] data modes"].iloc[-1] == 2


def test_a_bilinear_game_that_rotates_is_told():
    health = GameHealth(every=10, patience=10, rows=128)
    data = normal((2.0, -2.0), rows=4000)
    settings = {"critic_optimizer": descent(0.05), "optimizer": descent(0.05), "divergence": obj.Wasserstein()}
    with pytest.warns(GameWarning, match="the game cycles: the samples' mean goes up and down and does not settle"):
        fit(Fixed(), data, nn.Linear(2, 1), health, steps=700, **settings)


class Fixed(Affine):
    """x = loc + z."""

    def __init__(self):
        super().__init__()
        self.scale.requires_grad_(False)


def test_a_game_that_is_well_is_let_be():
    torch.manual_seed(0)
    health, data = GameHealth(every=20, patience=10), normal((2.0, -1.0), rows=4000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", GameWarning)
        fitted = fit(
            Affine(scale=0.3), data, MLP(2, 1, (64, 64)), health, steps=400, critic_steps=5,
            divergence=obj.Wasserstein(gradient_penalty=10.0), compile="trace", batch_size=128,
            optimizer=lambda p: torch.optim.Adam(p, 5e-3, (0.5, 0.9)),
            critic_optimizer=lambda p: torch.optim.Adam(p, 2e-3, (0.5, 0.9)),
        )  # fmt: skip
    last = fitted.history.dropna(subset="game[x] accuracy").iloc[-1]
    assert health.present == ()
    assert last["game[x] coverage"] > 0.8
    assert last["game[x] accuracy"] < 0.7
    assert abs(last["game[x] course"]) < 0.3


def test_training_is_the_same_with_it():
    torch.manual_seed(1)
    critics = [MLP(2, 1, (8,)) for _ in range(2)]
    critics[1].load_state_dict(critics[0].state_dict())
    programs = [Affine(), Affine()]
    histories = [
        fit(program, normal(), critic, health, steps=20).history
        for program, critic, health in zip(programs, critics, (None, GameHealth(every=3)), strict=True)
    ]
    assert torch.equal(programs[0].loc, programs[1].loc)
    assert histories[0]["objective"].equals(histories[1]["objective"])
    assert histories[1]["game[x] accuracy"].notna().sum() == 6


def test_a_run_that_is_resumed_measures_and_warns_as_if_it_had_not_stopped(tmp_path):
    def run(steps, out, resume=False):
        torch.manual_seed(1)
        health = GameHealth(every=5, patience=4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            settings = {"steps": steps, "out": out, "resume": resume, "optimizer": descent(1e-4)}
            history = fit(Affine(scale=0.01), normal(), MLP(2, 1, (8,)), health, **settings).history
        return health, history, [each for each in caught if issubclass(each.category, GameWarning)]

    whole, history, first = run(60, tmp_path / "whole")
    part, _, second = run(30, tmp_path / "parts")
    resumed, again, third = run(60, tmp_path / "parts", resume=True)
    assert whole.warned == part.warned == resumed.warned == {"game[x] collapse": 20}
    assert (len(first), len(second), len(third)) == (1, 1, 0)
    columns = [name for name in history if name.startswith("game[x]")]
    assert again[columns].equals(history[columns])


def series(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_samples_that_stay_away_are_told_and_those_that_come_nearer_are_let_be():
    away = series(precision=[0.05, 0.0, 0.02, 0.04] * 6, coverage=[0.01] * 24)
    assert list(game_failures(away, 10)) == ["astray"]
    assert "2 % of them lie where data lie" in game_failures(away[:-1], 10)["astray"]
    assert not game_failures(away[:19], 10)
    nearer = series(precision=[0.005 * step for step in range(24)], coverage=[0.008 * step for step in range(24)])
    there = series(precision=[0.3] * 24, coverage=[0.6] * 24)
    assert not game_failures(nearer, 10)
    assert not game_failures(there, 10)


def test_few_samples_near_data_are_no_collapse_where_they_lie_evenly():
    """With five neighbours a share p of the samples near data covers 1 - exp(-5 p) of them, spread evenly."""
    even = 1 - math.exp(-5 * 0.2)
    for share, failures in ((0.4, ["collapse"]), (0.6, [])):
        found = game_failures(series(precision=[0.2] * 5, coverage=[share * even] * 5), 5)
        assert list(found) == failures


def test_a_game_that_settles_does_not_cycle_and_one_that_becomes_better_does_not_collapse():
    turns = [math.cos(0.8 * number) for number in range(60)]
    settling = [0.9**number * value for number, value in enumerate(turns)]
    steady = [1.0] * 60
    assert list(game_failures(series(course=turns, spread=steady), 5)) == ["cycles"]
    assert game_failures(series(course=settling, spread=steady), 5) == {}
    coverage = [0.1, 0.15, 0.2, 0.3, 0.4]
    assert game_failures(series(coverage=coverage, precision=[0.9] * 5), 5) == {}
    assert list(game_failures(series(coverage=[0.2] * 5, precision=[0.9] * 5), 5)) == ["collapse"]


def test_what_cannot_be_is_refused():
    with pytest.raises(OptionError, match="radius=None beside centres, expected a positive number"):
        GameHealth(modes=torch.zeros(2, 2))
    with pytest.raises(OptionError, match="every"):
        GameHealth(every=0)

    def model(x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("x", dist.Normal(pyro.param("loc", torch.zeros(())), 1.0), obs=x)

    with pytest.raises(OptionError, match="the objective has no adversarial term"):
        ppl.fit(model, torch.randn(8), callbacks=[GameHealth()], steps=1, progress=False)


def test_swings_that_become_less_and_stay_wide_are_cycles():
    steady = [1.0] * 60
    for start, end, found in ((5.0, 1.0, ["cycles"]), (1.0, 0.2, [])):
        sizes = [start if number < 45 else end for number in range(60)]
        course = [size * math.cos(0.8 * number) for number, size in enumerate(sizes)]
        assert list(game_failures(series(course=course, spread=steady), 5)) == found


def test_one_measure_by_chance_is_no_recovery():
    modes = [12.0, 14.0, 11.0, 13.0, 12.0, 14.0, 12.0, 13.0, 11.0, 15.0]
    told = {"data modes": [25.0] * 10}
    assert list(game_failures(series(modes=modes, **told), 10)) == ["collapse"]
    assert game_failures(series(modes=[number + 6.0 for number in range(10)], **told), 10) == {}
