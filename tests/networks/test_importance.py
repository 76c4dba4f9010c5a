"""Times drawn where the loss is large."""

import pytest
import torch

from ppl_genmodels import inference, models
from ppl_genmodels.networks.importance import TimeImportance
from ppl_genmodels.objectives import denoising


def loss(time):
    return 0.2 + 5 * (-40 * time).exp()


def taught(cells=32):
    importance = TimeImportance(cells)
    time = (torch.arange(3200) + 0.5) / 3200
    importance.remember(time, loss(time))
    return importance


def test_nothing_remembered_is_uniform():
    even = torch.rand(100, generator=torch.Generator().manual_seed(0))
    time, density = TimeImportance().times(even)
    torch.testing.assert_close(time, even)
    torch.testing.assert_close(density, torch.ones(100))


def test_times_have_the_density_that_they_are_said_to_have():
    importance = taught()
    even = (torch.arange(100000) + 0.5) / 100000
    time, density = importance.times(even)
    shares = torch.histc(time, 32, 0, 1) / 100000
    torch.testing.assert_close(shares * 32, importance.density(), atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(density, importance.density()[(time * 32).long()])


def test_the_mean_stays_and_its_variance_falls():
    importance, generator = taught(), torch.Generator().manual_seed(0)
    even = torch.rand(20000, generator=generator)
    time, density = importance.times(even)
    weighed, plain = loss(time) / density, loss(even)
    exact = 0.2 + 5 / 40 * (1 - torch.tensor(-40.0).exp())
    assert weighed.mean().item() == pytest.approx(exact.item(), abs=4 * weighed.std().item() / 20000**0.5)
    assert weighed.var() < 0.2 * plain.var()


def test_the_bound_is_the_same_and_less_noisy_and_the_memory_is_saved_and_traced():
    torch.manual_seed(0)
    program = models.Diffusion((2,), width=16, noising="linear")
    x = torch.randn(256, 2)
    step = inference.compile_step(
        denoising(times="importance"), program, torch.optim.SGD(program.parameters(), 0.0), mode="trace"
    )
    for _ in range(30):
        step(x)
    assert program.state_dict()["flow.network.denoiser.importance.memory"].count_nonzero() > 64
    values = {}
    for times in ("uniform", "importance"):
        objective = denoising(times=times)
        values[times] = torch.stack([objective.evaluate(program, x)["denoising"].mean() for _ in range(200)])
    uniform, important = values["uniform"], values["importance"]
    error = (uniform.var() / 200 + important.var() / 200).sqrt()
    assert abs(uniform.mean() - important.mean()) < 4 * error
    assert important.var() < 0.5 * uniform.var()


def test_evaluation_remembers_nothing():
    program = models.Diffusion((2,), width=8)
    denoising(times="importance").evaluate(program, torch.zeros(5, 2))
    assert not program.denoiser.importance.memory.any()
