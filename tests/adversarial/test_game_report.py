"""The pictures of a game's health, and its section in the report."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels import objectives as obj
from ppl_genmodels.diagnostics.history import term_names
from ppl_genmodels.errors import DataError
from ppl_genmodels.inference import GameHealth


class Shift(nn.Module):
    """x = loc + z."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.deterministic("x", self.loc + z, event_dim=1)


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    game = obj.adversarial("x", nn.Linear(2, 1))
    health = GameHealth(every=5, modes=torch.zeros(1, 2), radius=3.0)
    data, settings = torch.randn(200, 2), {"steps": 40, "batch_size": 50, "compile": "off", "progress": False}
    return ppl.fit(Shift(), data, objective=-game, callbacks=[health], **settings)


def test_only_terms_are_drawn_as_terms(fitted):
    assert term_names(fitted.history) == ["adversarial[x]", "critic[x]"]


def test_curves_are_the_history_and_say_what_they_are(fitted):
    with diagnostics.style.plain_figures():
        panels = diagnostics.plot_game(fitted)
    accuracy = fitted.history["game[x] accuracy"].dropna()
    assert len(accuracy) == 8
    assert np.array_equal(panels[0].lines[0].get_ydata(), accuracy)
    for panel, words in zip(panels, ("critic", "samples", "gradients", "course of the mean"), strict=True):
        assert panel.get_title() == f"game[x]: {words}"
        assert panel.get_xlabel() == "step"
        assert panel.get_ylabel()
    names = [text.get_text() for text in panels[1].get_legend().get_texts()]
    assert names == ["coverage", "precision", "duplicates", "spread", "modes covered"]


def test_the_sentence_has_the_last_measures_and_the_failure():
    columns = {"accuracy": [1.0, 0.99], "push": [1e-3, 1e-4], "course": [3.0, 2.9], "coverage": [0.0, 0.25]}
    history = pd.DataFrame({"step": [1, 2], **{f"game[x] {name}": values for name, values in columns.items()}})
    found = diagnostics.describe_game(SimpleNamespace(history=history))
    assert found.startswith("game[x]: the critic tells 99 % of the values rightly, and 25 % of the data have")
    assert "The critic wins: it tells 99 % of the values rightly, and the gradient it gives is 0.0006 of what" in found
    healthy = history.assign(**{"game[x] accuracy": 0.5})
    assert diagnostics.describe_game(SimpleNamespace(history=healthy)).endswith("No failure was found.")


def test_a_history_without_games_is_refused():
    with pytest.raises(DataError, match=r"no measures of a game. Remedy: fit with callbacks=\[inference.GameHealth"):
        diagnostics.plot_game(SimpleNamespace(history=pd.DataFrame({"step": [1]})))


def test_the_report_has_the_section(fitted, tmp_path):
    page = fitted.report(tmp_path / "report").read_text()
    assert 'id="game"' in page
    assert "Health of the game" in page
    assert (tmp_path / "report" / "game.png").stat().st_size > 10_000
