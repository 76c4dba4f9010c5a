"""Lipschitz-margin training of a classifier, and no adversarial example where it certifies that there is none."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import inference
from ppl_genmodels import objectives as obj
from ppl_genmodels.diagnostics import adversarial_examples
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.networks import certified_radius, exact_norm, lipschitz_bound, operator_norm


class Classifier(nn.Module):
    """Labels of digits."""

    def __init__(self, hidden=24):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def model(self, x, y=None):
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Categorical(logits=self.network(x)), obs=y)


def digits(rows):
    found = load_digits()
    return {"x": torch.as_tensor(found.data[:rows] / 16).float(), "y": torch.as_tensor(found.target[:rows])}


def classifier(seed=0):
    torch.manual_seed(seed)
    return Classifier()


@pytest.fixture(scope="module")
def trained():
    program = classifier()
    term = obj.lipschitz_margin("y", program.network, (64,), radius=0.2, steps=3)
    adam = partial(torch.optim.Adam, lr=5e-3)
    ppl.fit(program, digits(1000), objective=term, steps=300, optimizer=adam, compile="trace", progress=False)
    return program


def test_the_term_is_the_papers():
    program, data = classifier(), digits(20)
    scores = program.network(data["x"])
    bound = lipschitz_bound(program.network, (64,), partial(operator_norm, steps=7))
    for row, label in enumerate(data["y"]):
        scores[row, torch.arange(10) != label] += 2**0.5 * 0.3 * bound
    expected = -nn.functional.cross_entropy(scores, data["y"], reduction="none")
    term = obj.lipschitz_margin("y", program.network, (64,), radius=0.3, steps=7)
    torch.testing.assert_close(term.evaluate(program, **data)["lipschitz_margin[y]"], expected)


def test_without_a_radius_it_is_the_log_likelihood():
    program, data = classifier(), digits(20)
    term = obj.lipschitz_margin("y", program.network, (64,), radius=0.0)
    torch.testing.assert_close(term.loss(program, **data), obj.log_lik().loss(program, **data))


def test_the_traced_step_has_the_numbers_of_the_eager_one():
    programs = []
    for mode in ("off", "trace"):
        program = classifier()
        term = obj.lipschitz_margin("y", program.network, (64,), radius=0.3, steps=3)
        step = inference.compile_step(term, program, torch.optim.Adam(program.parameters(), lr=0.01), mode=mode)
        for _ in range(3):
            step(**digits(50))
        programs.append(program)
    for mine, theirs in zip(*(each.parameters() for each in programs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_training_widens_the_certified_balls(trained):
    plain = classifier()
    adam = partial(torch.optim.Adam, lr=5e-3)
    ppl.fit(plain, digits(1000), steps=300, optimizer=adam, compile="trace", progress=False)
    x, y = digits(1797)["x"][1000:], digits(1797)["y"][1000:]
    held, accuracy = [], []
    for program in (plain, trained):
        scores = program.network(x)
        radius = certified_radius(scores, lipschitz_bound(program.network, (64,), exact_norm))
        right = scores.argmax(-1) == y
        held.append((right & (radius > 0.2)).float().mean().item())
        accuracy.append(right.float().mean().item())
    assert held[1] > held[0] + 0.1
    assert min(accuracy) > 0.8


def test_no_attack_succeeds_within_a_certified_ball_and_many_do_in_larger_ones(trained):
    x = digits(1797)["x"][1000:]
    bound = lipschitz_bound(trained.network, (64,), exact_norm)
    with torch.no_grad():
        radius = certified_radius(trained.network(x), bound)
    inside = adversarial_examples(trained.network, x, radius, steps=15)
    assert not inside.found.any()
    assert (inside.x - x).norm(dim=-1).le(radius * (1 + 1e-5)).all()
    outside = adversarial_examples(trained.network, x, 10 * radius, steps=15)
    assert outside.found.float().mean() > 0.5
    assert trained.network(outside.x[outside.found]).argmax(-1).ne(trained.network(x[outside.found]).argmax(-1)).all()


def test_an_attack_finds_the_nearest_boundary_of_a_linear_decision():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 2), torch.randn(40, 8)
    with torch.no_grad():
        scores = layer(x)
        nearest = (scores[:, 0] - scores[:, 1]).abs() / (layer.weight[0] - layer.weight[1]).norm()
    assert not adversarial_examples(layer, x, 0.999 * nearest).found.any()
    assert adversarial_examples(layer, x, 1.01 * nearest, steps=50).found.all()


def test_what_cannot_be_is_refused():
    network = nn.Sequential(nn.Linear(64, 10))
    with pytest.raises(OptionError, match="radius=-1, expected 0 or more"):
        obj.lipschitz_margin("y", network, (64,), radius=-1)
    with pytest.raises(OptionError, match="the least radius is -1, expected 0 or more"):
        adversarial_examples(network, torch.zeros(2, 64), -1.0)
    program, data = classifier(), digits(5)
    with pytest.raises(UnknownNameError, match="no site 'label'"):
        obj.lipschitz_margin("label", program.network, (64,), radius=1).loss(program, **data)

    def regression(x, y=None):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(program.network(x)[:, 0], 1.0), obs=y)

    with pytest.raises(ProgramError, match="site 'y' is Normal, expected a Categorical"):
        obj.lipschitz_margin("y", program.network, (64,), radius=1).loss(regression, x=data["x"], y=data["y"].float())
