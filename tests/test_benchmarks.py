"""The benchmark compares like with like: every way takes the step that torch by hand takes, and trains.

Tolerances: the same noise leaves rounding, at most 2^-24 for each term of a sum in float32; other noise leaves the
standard errors of two means.
"""

import doctest
import importlib
import inspect
import json
import os
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path

import pyro
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import denoiser_cases, denoisers, estimators, flows, games, interleaved, machine, report
from benchmarks.estimator_programs import PROGRAMS
from benchmarks.flow_cases import CASES, LAYERS, Case
from benchmarks.interleaved import Way
from benchmarks.table import steps as steps_table
from benchmarks.targets import Target
from benchmarks.tasks import chain, regression, vae
from benchmarks.ways import LIBRARY, NEEDED, NUMPYRO, PIXYZ, PYRO, REFERENCE, WAYS, installed
from ppl_genmodels import handlers

BASES = (handlers.SiteHandler, handlers.Estimator, handlers.NoiseHandler)
ROOT = Path(__file__).resolve().parents[1]
TASKS = {
    "vae": lambda **options: vae(20, 16, 4, rows=8, **options),
    "vae, 3 particles": lambda **options: vae(20, 16, 4, rows=8, particles=3, **options),
    "iwae": lambda **options: vae(20, 16, 4, rows=8, particles=5, kind="iwae", **options),
    "chain": lambda **options: chain(4, rows=8, **options),
    "regression": lambda **options: regression(3, 5, rows=16, **options),
}
COMPILED = ("torch by hand, compiled", f"{LIBRARY}, inductor")
SAME_NOISE = (PYRO, "Pyro, one optimizer", PIXYZ, f"{LIBRARY}, off", f"{LIBRARY}, trace", f"{LIBRARY}, inductor")
OTHER_NOISE = ("torch by hand, compiled", "Pyro, its JIT", NUMPYRO)
MODULES = [
    f"benchmarks.{path.stem}"
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if not path.stem.startswith("_") and (installed(PIXYZ) or "pixyz" not in path.stem)
    if installed(NUMPYRO) or "numpyro" not in path.stem
    if flows.installed("normflows") or "normflows" not in path.stem
    if flows.installed("Zuko") or "zuko" not in path.stem
    if denoisers.installed() or "diffusers" not in path.stem
]
FLOWS = {family: Case(family, 784 if family == "Glow" else 4, rows=16) for family in LAYERS}


def pairs(names):
    """Every way with every task; what torch has to compile, with one task only."""
    return [(task, way) for way in names for task in TASKS if way not in COMPILED or task == "vae"]


def way_of(name, task):
    """The way, or a skip where it is not to be had."""
    if not installed(name):
        pytest.skip(f"{NEEDED[name]} is not installed")
    way = WAYS[name](task)
    if way is None:
        pytest.skip(f"{name} cannot state this task")
    return way


@cache
def losses(name, kind, learning_rate, count):
    """The losses of some steps under a fixed seed."""
    task = TASKS[kind](learning_rate=learning_rate)
    with pyro.validation_enabled(False):
        way = way_of(name, task)
        torch.manual_seed(0)
        with way.around():
            return [way.step() for _ in range(count)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("kind", "name"), pairs(SAME_NOISE))
def test_a_step_has_the_loss_that_torch_by_hand_has_on_the_same_noise(kind, name):
    task = TASKS[kind]()
    terms = task.particles * sum(part.numel() for part in task.batches[0]) + 100  # of latents, at most
    expected = losses(REFERENCE, kind, 0.0, 10)
    assert len({round(loss, 6) for loss in expected}) == 10
    assert losses(name, kind, 0.0, 10) == pytest.approx(expected, rel=terms * 2**-24)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("kind", "name"), pairs(OTHER_NOISE))
def test_a_step_has_the_loss_that_torch_by_hand_has_in_expectation(kind, name):
    found, expected = losses(name, kind, 0.0, 800), losses(REFERENCE, kind, 0.0, 800)
    differences = [one - other for one, other in zip(found, expected, strict=True)]  # of the same batch
    error = statistics.stdev(differences) / 800**0.5
    assert abs(statistics.mean(differences)) < 5 * error
    assert 5 * error < 0.03 * statistics.mean(expected)  # so that a term left out would show


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("kind", "name"), pairs((*SAME_NOISE, *OTHER_NOISE)))
def test_a_step_trains_as_torch_by_hand_does(kind, name):
    def drop(way):
        found = losses(way, kind, 0.01, 80)
        return statistics.mean(found[:8]) - statistics.mean(found[-24:])

    assert drop(REFERENCE) > 0
    assert 0.5 < drop(name) / drop(REFERENCE) < 2


def test_batches_take_turns_as_new_tensors():
    task = TASKS["vae"]()
    turning = task.rotation()
    first, *_, again = [next(turning)[0] for _ in range(len(task.batches) + 1)]
    assert torch.equal(first, again)
    assert first is not again
    assert not any(torch.equal(first, other[0]) for other in task.batches[1:])


def test_each_way_has_its_own_copy_of_the_same_weights():
    task = TASKS["chain"]()
    one, other = task.program(), task.program()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()


def test_ratios_are_taken_within_rounds():
    """On a clock that the steps move, on a machine that is slower with each of them."""
    now, pace = 0.0, 1.0

    def move(seconds):
        nonlocal now, pace
        now += pace * seconds
        pace *= 1.001

    ways = {"base": Way(lambda: move(1.0)), "twice": Way(lambda: move(2.0))}
    found = interleaved.ratios(ways, "base", 20, lambda: now)
    assert found["base"] == [1.0] * 20
    assert found["twice"] == pytest.approx([2.0 * 1.001, 2.0 / 1.001] * 10)  # the second of a round, then the first
    assert interleaved.paired(found, "base", "twice").median == pytest.approx(0.5, rel=2e-3)


def test_a_way_that_warns_of_not_being_what_it_says_is_left_out(capsys):
    def refuse():
        raise UserWarning("runs eagerly")

    found = interleaved.ratios({"base": Way(lambda: None), "compiled": Way(refuse)}, "base", 2)
    assert list(found) == ["base"]
    assert "left out: compiled: runs eagerly" in capsys.readouterr().out


def test_what_a_library_cannot_do_is_a_dash_and_what_nobody_did_is_no_row():
    found = {"VAE 784-400-10": {REFERENCE: [1.0], PYRO: [2.0]}, "VAE 784-400-30": {REFERENCE: [1.0]}}
    shown = steps_table(found)
    assert f"| {PYRO} | 2.00 (2.00–2.00) | – |" in shown
    assert PIXYZ not in shown


@pytest.mark.parametrize(("value", "verdict"), [(0.9, "reached"), (1.1, "**missed**")])
def test_a_bound_is_reached_or_missed(value, verdict):
    target = Target("a step", 1.0, "steps", lambda found: found["value"])
    assert target.row({"steps": {"value": value}})[-1] == verdict


def test_a_bound_without_a_value_has_no_verdict():
    target = Target("a step", 1.0, "steps", lambda found: found["value"])
    assert target.row({"steps": {}})[2:] == ["not to be had", ""]
    assert target.row({})[2:] == ["not measured", ""]


def test_a_run_is_written_and_the_tables_follow_from_what_was_written(tmp_path):
    rounds = {REFERENCE: [1.0, 1.0, 1.0], PYRO: [2.0, 1 / 3, 4.0]}
    report.write({"machine": {"products": "two cores"}, "products": rounds}, tmp_path)
    report.write({"machine": {"steps": "one core"}, "steps": {"VAE 784-400-10": rounds}}, tmp_path)
    read = json.loads((tmp_path / "results.json").read_text())
    assert read["steps"]["VAE 784-400-10"][PYRO] == [2.0, 0.33333, 4.0]
    assert (tmp_path / "steps.png").stat().st_size > 1000
    for name, text in report.written(read).items():
        assert (tmp_path / f"{name}.md").read_text() == text
    assert (tmp_path / "steps.md").read_text().endswith("*one core*\n")
    assert (tmp_path / "products.md").read_text().endswith("*two cores*\n")


def test_the_tables_of_the_page_are_those_of_the_results_beside_them():
    folder = ROOT / "docs" / "benchmarks"
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for name, text in report.written(json.loads((folder / "results.json").read_text())).items():
        assert (folder / f"{name}.md").read_text() == text
        assert f"benchmarks/{name}.md" in page


@pytest.mark.filterwarnings("ignore")
def test_every_handler_of_the_package_is_timed_on_some_program():
    with pyro.validation_enabled(False):
        idle = [
            name
            for name, make in estimators.handlers_to_time().items()
            if not any(estimators.acts(timed, make) for timed in PROGRAMS.values())
        ]
    assert not idle
    kinds = {name.partition(",")[0] for name in estimators.handlers_to_time()}
    offered = {
        name for name in handlers.__all__ if inspect.isclass(kind := getattr(handlers, name)) and kind not in BASES
    }
    assert {name for name in offered if issubclass(getattr(handlers, name), handlers.SiteHandler)} <= kinds


def test_a_neutral_handler_changes_nothing():
    for timed in PROGRAMS.values():
        neutral = lambda: handlers.ScoreFunction(lambda msg: False)  # noqa: E731
        assert not estimators.acts(timed, neutral)


def test_the_table_of_handlers_has_a_dash_where_nothing_was_timed_and_errors_for_ratios_near_one():
    steps = {"20 bits": {"plain, eager": [1.0] * 4, "DisARM, eager": [2.0] * 4}}
    neutral = {"20 bits, eager": {"plain": [1.0] * 4, "a neutral handler": [1.01, 1.02, 1.03, 1.02]}}
    text = report.printed({"estimators": {"steps": steps, "neutral": neutral}})
    assert "| DisARM | 2.00 (2.00–2.00) | – | – |" in text["estimators"]
    assert "| 20 bits, eager | 1.0200 ± 0.0023 |" in text["estimators"]
    assert "| a step with a neutral handler to one without, eager | 1.02 | 1.02 | reached |" in text["targets"]


@pytest.mark.parametrize("family", FLOWS)
def test_flows_of_every_library_have_as_many_parameters(family):
    counts = [density.parameters for density in flows.flows_of(FLOWS[family]).values()]
    assert max(counts) - min(counts) <= 0.001 * max(counts)  # Glow's last convolutions have a scale of their own here


@pytest.mark.parametrize("family", FLOWS)
def test_draws_of_every_library_have_the_densities_that_it_says(family):
    case = FLOWS[family]
    tolerance = 1e-3 if family == "continuous" else 1e-5 * case.features  # of the solver, or of rounding in a sum
    for density in flows.flows_of(case).values():
        torch.manual_seed(0)
        with torch.no_grad():
            drawn, expected = density.sample_and_log_prob(16)
            found = density.log_prob(drawn.clone())
        assert drawn.shape == density.sample(16).shape == (16, *case.shape)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("family", FLOWS)
def test_a_step_of_every_way_trains_a_flow_and_a_program_as_the_loop_does(family):
    case = FLOWS[family]
    with pyro.validation_enabled(False):
        ways = flows.training_ways(case, flows.flows_of(case))
        found = {name: [way.step() for _ in range(16)] for name, way in ways.items()}
    assert all(sum(losses[-8:]) < sum(losses[:8]) for losses in found.values())  # on the same eight batches
    for name in (name for name in found if "program" in name):
        assert found[name][:5] == pytest.approx(found[flows.OURS][:5], rel=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_steps_of_a_flow_have_the_losses_of_the_loop():
    case = Case("MAF", 2, rows=16, compiled=True)
    with pyro.validation_enabled(False):
        ways = flows.training_ways(case, {flows.OURS: flows.library_flow(case)})
        found = {name: [way.step() for _ in range(5)] for name, way in ways.items() if "compiled" not in name}
    assert list(found) == [flows.OURS, *(f"{flows.OURS}, {mode}" for mode in flows.MODES)]
    assert all(losses == pytest.approx(found[flows.OURS], rel=1e-4) for losses in found.values())


def test_every_family_of_flows_is_timed_and_what_a_library_lacks_is_a_dash():
    assert {case.family for case in CASES.values()} == set(LAYERS)
    rounds, case = {flows.OURS: [1.0] * 3, "Zuko": [2.0] * 3}, "continuous, 2-D, 128 rows"
    found = {quantity: {case: rounds} for quantity in (*flows.QUANTITIES, flows.TRAINING)}
    found |= {"parameters": {case: {flows.OURS: 4866, "Zuko": 4866}}, "evaluations": {}}
    text = report.printed({"flows": found})
    assert f"| {case} | 2.00 (2.00–2.00) | – | 2.00" in text["flows"]
    assert f"| {case} | 4,866 | 4,866 | – |" in text["flows"]
    assert "draws of a flow, the worst of all, to Zuko and normflows | 1.00 | 0.50 | reached" in text["targets"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("shape", [(3,), (1, 4, 4)])
def test_a_step_of_a_denoiser_has_the_loss_of_the_loop_by_hand_in_expectation(shape):
    case = denoiser_cases.Case(shape, rows=64, width=8)
    with pyro.validation_enabled(False):
        torch.manual_seed(0)
        ways = [denoisers.by_hand(case, 0.0), denoisers.program_way(case, "off", 0.0)]
        hand, ours = (torch.tensor([way.step() for _ in range(100)]) for way in ways)
    error = (hand - ours).std().item() / 100**0.5
    assert abs((hand - ours).mean().item()) < 5 * error
    assert 5 * error < 0.1 * hand.mean().item()  # of one, which the network's output adds a tenth to


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_way_to_train_a_denoiser_trains_it():
    case = denoiser_cases.Case((3,), rows=64, width=8)
    with pyro.validation_enabled(False):
        torch.manual_seed(0)
        ways = denoisers.training_ways(case, 0.01)
        assert list(ways) == [denoisers.HAND, *denoisers.MODES]
        del ways[denoisers.LOWERED]  # takes long to compile, and is checked against the eager step when it is
        found = {name: [way.step() for _ in range(60)] for name, way in ways.items()}
    drops = {name: statistics.mean(losses[:10]) - statistics.mean(losses[-20:]) for name, losses in found.items()}
    assert all(0.5 < drop / drops[denoisers.HAND] < 2 for drop in drops.values())
    assert drops[denoisers.HAND] > 0.1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("sampler", denoisers.SAMPLERS)
def test_samplers_of_both_libraries_ask_the_network_equally_often_and_draw_the_same(sampler):
    """Data of standard deviation 1/2, whose best denoiser is known; both are near the exact draws after many steps."""
    if not denoisers.installed():
        pytest.skip("diffusers is not installed")
    from benchmarks.diffusers_samplers import diffusers_sampler
    from ppl_genmodels.distributions.samplers import generate

    calls = 0

    class Best(torch.nn.Module):
        def forward(self, x, time):
            nonlocal calls
            calls += 1
            assert time.shape == (4000,)
            alpha, sigma = denoiser.scales(time)
            return sigma * x / (alpha**2 / 4 + sigma**2)

    denoiser = denoiser_cases.Case((1,), rows=4, width=8).program().denoiser
    denoiser.network = Best()
    torch.manual_seed(0)
    noise = torch.randn(4000, 1)
    with torch.no_grad():
        ours, count = generate(denoiser, noise, sampler, 199), calls
        theirs = diffusers_sampler(denoiser.network, sampler, 200)(noise)
    assert (count, calls) == (200, 400)
    if sampler == "ancestral":
        spread = 0.5 * 4 * (1 / (2 * 4000)) ** 0.5 + 0.02  # four standard errors, and what the steps leave
        assert ours.std().item() == pytest.approx(0.5, abs=spread)
        assert theirs.std().item() == pytest.approx(0.5, abs=spread)
    else:
        torch.testing.assert_close(ours, noise / 2, rtol=0, atol=0.1)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.1)


def test_the_tables_of_denoisers_have_a_dash_where_diffusers_is_not_installed():
    case, hand = "MLP", {denoisers.HAND: [1.0] * 3, denoisers.LOWERED: [0.5] * 3}
    alone = {denoisers.OURS: [1.0] * 3}
    found = {denoisers.TRAINING: {case: hand}} | {sampler: {case: alone} for sampler in denoisers.SAMPLERS}
    text = report.printed({"denoisers": found})
    assert "| MLP | 0.50 (0.50–0.50) |" in text["denoisers"]
    assert "| MLP | – | – | – |" in text["denoisers"]
    assert "the worst of all, to torch by hand | 1.00 | 0.50 | reached |" in text["targets"]
    assert "to diffusers | 1.00 | not to be had |" in text["targets"]
    both = alone | {denoisers.DIFFUSERS: [1.25] * 3}
    text = report.printed({"denoisers": found | {sampler: {case: both} for sampler in denoisers.SAMPLERS}})
    assert "to diffusers | 1.00 | 0.80 | reached |" in text["targets"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process")
def test_more_threads_than_cores_are_refused():
    with pytest.raises(SystemExit, match="--threads is from 1 to"):
        machine.pin(10_000)


def test_an_unknown_part_is_refused_by_its_name():
    with pytest.raises(SystemExit, match=r"--only is one of steps, .*got stepz"):
        command.measure(["stepz"], 1, "cpu")


def test_a_way_in_a_process_of_its_own_says_its_first_step_and_its_memory():
    line = [sys.executable, "-m", "benchmarks.worker", "VAE 64-32-10", REFERENCE, "cpu"]
    found = json.loads(subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert found["first"] > 0
    assert found["step"] > 0
    assert found["memory"] >= found["memory_before"] > 0


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_hold(module):
    with pyro.validation_enabled(False):
        assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("divergence", ["nonsaturating", "wasserstein"])
def test_a_step_of_a_game_estimates_what_the_loop_by_hand_estimates(divergence):
    """Both critics are led from the same weights, on the same data and other noise, before the two are compared."""
    case = games.Case((3,), rows=64, width=8, divergence=divergence)
    with pyro.validation_enabled(False):
        torch.manual_seed(0)
        ways = {games.HAND: games.by_hand(case, 1e-2), "traced": games.program_way(case, "trace", 1e-2)}
        for way in ways.values():
            for _ in range(20):
                way.step()
        hand, ours = (torch.tensor([way.step() for _ in range(60)]) for way in ways.values())
    assert hand.std() > 0
    apart = (hand.mean() - ours.mean()).abs().item()
    assert apart < 5 * ((hand.var() + ours.var()) / 60).sqrt().item() + 0.1 * hand.abs().mean().item()


def test_the_table_of_games_names_every_way():
    found = {"GAN": {games.HAND: [1.0] * 3, games.LOWERED: [0.5] * 3}}
    text = report.printed({"games": found})
    assert "| GAN | 0.50 (0.50–0.50) |" in text["games"]
    assert "step of a game, the worst of all, to torch by hand | 1.00 | 0.50 | reached" in text["targets"]
