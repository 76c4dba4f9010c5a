"""The short way to an update gives the numbers of the optimizer's own step, bit for bit."""

import copy

import pytest
import torch
from torch import nn

from ppl_genmodels.inference.update import update


def adam(parameters, **options):
    return torch.optim.Adam(parameters, lr=0.01, fused=True, **options)


OPTIMIZERS = {
    "Adam": adam,
    "Adam with decay": lambda p: adam(p, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-5),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "AMSGrad": lambda p: adam(p, amsgrad=True),
    "not fused": lambda p: torch.optim.Adam(p, lr=0.01),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "two groups": lambda p: adam([{"params": p[:1]}, {"params": p[1:], "lr": 0.1}]),
}


def train(make, step, steps=6):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    frozen = nn.Parameter(torch.ones(2))
    optimizer = make([*net.parameters(), frozen])
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(5, 3)).square().mean().backward()
        step(optimizer)
    return [*net.parameters(), frozen], optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_numbers_and_the_same_state(name):
    expected, expected_optimizer = train(OPTIMIZERS[name], lambda optimizer: optimizer.step())
    found, optimizer = train(OPTIMIZERS[name], update)
    assert all(map(torch.equal, expected, found))
    states = zip(expected_optimizer.state.values(), optimizer.state.values(), strict=True)
    for one, other in states:
        assert all(torch.equal(one[key], other[key]) for key in one if isinstance(one[key], torch.Tensor))


def test_a_learning_rate_schedule_is_followed():
    def trained(step):
        weight = nn.Parameter(torch.ones(3))
        optimizer = adam([weight])
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        for _ in range(4):
            weight.grad = torch.ones(3)
            step(optimizer)
            schedule.step()
        return weight

    assert torch.equal(trained(update), trained(lambda optimizer: optimizer.step()))


def test_hooks_are_called():
    weight, calls = nn.Parameter(torch.ones(3)), []
    optimizer = adam([weight])
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    for _ in range(3):
        weight.grad = torch.ones(3)
        update(optimizer)
    assert len(calls) == 3


def test_a_state_that_was_loaded_is_the_one_that_counts():
    _, first = train(adam, update)
    saved = {"state": {k: {n: v.clone() for n, v in s.items()} for k, s in first.state_dict()["state"].items()}}
    expected, expected_optimizer = train(adam, update, steps=1)
    found, optimizer = train(adam, update, steps=1)
    for one, step in ((expected_optimizer, lambda o: o.step()), (optimizer, update)):
        one.load_state_dict(copy.deepcopy({**one.state_dict(), **saved}))
        step(one)
    assert all(map(torch.equal, expected, found))
