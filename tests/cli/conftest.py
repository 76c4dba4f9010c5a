"""What the tests of the command line share: a way to call it, data, and one small run."""

import numpy as np
import pytest
from typer.testing import CliRunner

from ppl_genmodels.cli import app

OWN_PROGRAM = '''
"""Factor analysis with one scale."""
import pyro
import pyro.distributions as dist
import torch
from torch import nn

class Factors(nn.Module):
    def __init__(self, width: int, factors: int = 2):
        super().__init__()
        self.decoder, self.encoder = nn.Linear(factors, width), nn.Linear(width, factors)
        self.factors = factors

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.factors), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(1), obs=x)

    def guide(self, x=None):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 0.5).to_event(1))
'''


@pytest.fixture(scope="session")
def ppl():
    """Calls the command line and checks its code; a mistake must be one line on standard error."""

    def call(*args, code=0):
        result = CliRunner().invoke(app, list(map(str, args)), catch_exceptions=False)
        assert result.exit_code == code, result.output
        if code:
            assert len(result.stderr.splitlines()) == 1
            assert "Traceback" not in result.output
        return result

    return call


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """A file of 40 rows with 6 columns."""
    path = tmp_path_factory.mktemp("data") / "rows.npy"
    np.save(path, np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32))
    return path


@pytest.fixture(scope="session")
def run(ppl, rows, tmp_path_factory):
    """The run of a small VAE, fitted for two epochs."""
    out = tmp_path_factory.mktemp("runs") / "vae"
    small = ["--set", "latent_dim=2", "--set", "hidden=[8]", "--epochs", 2, "--batch-size", 20, "--quiet"]
    ppl("fit", "vae", "--data", rows, "--out", out, *small)
    return out


@pytest.fixture
def own_program(tmp_path):
    """A program in a file of the user's own."""
    path = tmp_path / "own.py"
    path.write_text(OWN_PROGRAM)
    return path
