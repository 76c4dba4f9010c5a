"""Earlier draws in a critic's training: what it sees, and that a fit keeps them."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference import LearningRate


def test_so_many_draws_are_exchanged_for_earlier_ones():
    torch.manual_seed(0)
    past = obj.PastSamples((1,), rows=4000, share=0.25)
    past([torch.ones(4000, 1)])
    (mixed,) = past([2 * torch.ones(4000, 1)])
    share = (mixed == 1).double().mean()
    assert set(mixed.unique().tolist()) == {1.0, 2.0}
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5


def test_the_oldest_are_forgotten_first():
    past = obj.PastSamples((), rows=10, share=1.0)
    for number in range(7):
        past([torch.full((4,), float(number))])
    assert sorted(past.values_0.tolist()) == [4.0] * 2 + [5.0] * 4 + [6.0] * 4


def test_values_of_one_row_stay_together():
    torch.manual_seed(0)
    past = obj.PastSamples((2,), (), rows=64, share=0.5)
    for number in range(5):
        labels = torch.arange(50) + 100 * number
        rows, found = past([labels.float()[:, None].expand(-1, 2), labels])
        assert torch.equal(rows[:, 0].long(), found)
        assert found.dtype == torch.long
    assert (found < 400).any()


def test_nothing_is_remembered_where_no_gradient_is_taken():
    past = obj.PastSamples((1,), rows=8)
    with torch.no_grad():
        past([torch.ones(8, 1)])
    assert not past.begun.any()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: obj.PastSamples(), "there is no event shape"),
        (lambda: obj.PastSamples((2,), rows=0), "rows"),
        (lambda: obj.PastSamples((2,), share=2.0), "share=2.0, expected a share between 0 and 1"),
        (lambda: obj.PastSamples((2,))([torch.ones(5, 3)]), r"shapes \[\(3,\)\], expected \[\(2,\)\]"),
    ],
)
def test_what_cannot_be_is_refused(made, message):
    with pytest.raises(OptionError, match=message):
        made()


class Generator(nn.Module):
    """A point for each draw, by a location that is learned."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.ones(1))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.deterministic("x", self.loc + 0.1 * z, event_dim=1)


ADAM = partial(torch.optim.Adam, lr=1e-2, fused=True)


def fitted(compile="off", steps=8, critics=1, **options):
    torch.manual_seed(0)
    both = [nn.Linear(1, 1) for _ in range(critics)]
    terms = [obj.adversarial("x", one, replay=obj.PastSamples((1,), rows=20), optimizer=ADAM) for one in both]
    x = torch.linspace(-1, 1, 32)[:, None]
    found = ppl.fit(
        Generator(), x, objective=-sum(terms), steps=steps, batch_size=8, compile=compile, progress=False, **options
    )
    return found, both, [term.games[0].player.replay for term in terms]


def test_a_resumed_fit_has_the_draws_of_the_one_that_was_stopped(tmp_path):
    _, (critic,), (past,) = fitted(steps=12)
    fitted(steps=7, out=tmp_path / "run")
    _, (again,), (resumed,) = fitted(steps=12, out=tmp_path / "run", resume=True)
    assert past.begun.all()
    assert torch.equal(past.values_0, resumed.values_0)
    assert torch.equal(critic.weight, again.weight)
    saved = ppl.inference.state.read_tensors(next((tmp_path / "run").glob("*.safetensors")))
    assert not any("values_0" in name for name in saved)


def test_the_traced_step_remembers_as_the_eager_one_does():
    (_, (one,), (eager,)), (_, (other,), (traced,)) = fitted(), fitted("trace")
    torch.testing.assert_close(eager.values_0, traced.values_0)
    torch.testing.assert_close(one.weight, other.weight)


def test_two_critics_of_one_site_are_told_apart():
    found, _, _ = fitted(critics=2)
    assert {"critic[x]", "critic[x]_2", "adversarial[x]", "adversarial[x]_2"} <= set(found.history.columns)
    assert len(set(found.history[["critic[x]", "critic[x]_2"]].iloc[-1])) == 2


def test_a_schedule_steps_the_rates_of_all_players():
    rates = []

    class Watch(ppl.inference.Callback):
        def after_step(self, training):
            players = (training.optimizer, *(critic.optimizer for critic in training.critics))
            rates.append([player.param_groups[0]["lr"] for player in players])

    halving = LearningRate(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5))
    fitted(steps=3, callbacks=[Watch(), halving])
    assert rates == [[1e-3 * 0.5**n, 1e-2 * 0.5**n] for n in range(3)]
