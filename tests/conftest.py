"""``--compile MODE`` runs every fit and every inference that leaves the choice open in that mode."""

import pytest

from ppl_genmodels.inference import blocks, gradient, predictive, replay
from ppl_genmodels.inference.compiled import MODES
from ppl_genmodels.workflow import fitting


def pytest_addoption(parser):
    parser.addoption("--compile", choices=MODES, default="auto", help="how steps and forward passes are run")


def pytest_configure(config):
    config.addinivalue_line("markers", "own_compile: what it tests is how a run is made, which --compile leaves alone")


@pytest.fixture(autouse=True)
def forced_compile(request, monkeypatch):
    mode = request.config.getoption("--compile")
    if mode == "auto" or request.node.get_closest_marker("own_compile"):
        return

    def made(asked, *rest):
        return gradient.make_compiled(mode if asked == "auto" else asked, *rest)

    class Forced(replay.Replay):
        def __init__(self, function, program, what, compile, calls):
            super().__init__(function, program, what, mode if compile == "auto" else compile, calls)

    monkeypatch.setattr(fitting, "make_compiled", made)
    for module in (blocks, predictive):
        monkeypatch.setattr(module, "Replay", Forced)
