"""Output folders and checkpoints that belong to something else; nothing that is there is lost."""

import functools
import shutil

import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import CheckpointError, RunFolderError
from ppl_genmodels.inference import EMA
from ppl_genmodels.models import VAE

X = torch.eye(6).repeat(4, 1)


def fit(folder, data=X, program=None, **settings):
    settings = {"steps": 4, "batch_size": 10, "progress": False} | settings
    program = VAE(data_dim=6, latent_dim=2, hidden=(4,)) if program is None else program
    return ppl.fit(program, data, out=folder, **settings)


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(tmp_path):
    fit(tmp_path)
    return tmp_path


def refused(error, message, folder, **settings):
    before = contents(folder)
    with pytest.raises(error, match=message):
        fit(folder, **settings)
    assert contents(folder) == before


def test_a_folder_that_holds_another_run(run):
    refused(RunFolderError, r"is not empty: it may hold another run\. Remedy: resume=True to go on with it", run)


def test_a_folder_that_holds_anything(tmp_path):
    (tmp_path / "thesis.tex").write_text("draft")
    refused(RunFolderError, r"is not empty.*another folder, or delete it", tmp_path)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_place_of_the_folder(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"file\S* cannot be made: .*Remedy: choose another output folder"):
        fit(tmp_path / "file" / below)


def test_a_run_that_was_saved_without_checkpoints_is_not_resumed_over(run):
    shutil.rmtree(run / "checkpoints")
    refused(
        RunFolderError, r"holds a run without checkpoints, which cannot be resumed and would be lost", run, resume=True
    )


MOVED = X.flip(0)

ANOTHER = {
    "program": (
        {"program": VAE(data_dim=6, latent_dim=3, hidden=(4,))},
        r"program: parts\.0\.decoder\S* .*\(\[4, 2\] there, \[4, 3\] here\)",
    ),
    "program of other parts": (
        {"program": VAE(data_dim=6, latent_dim=2, hidden=(4, 4))},
        r"program: parts\.0",
    ),
    "rows": ({"data": X[:20]}, r"data: arrays, digest, rows"),
    "data of the same shape": ({"data": MOVED}, r"data: digest"),
    "dtype": ({"data": X.double()}, r"data: arrays"),
    "objective": (
        {"objective": obj.log_lik() - 0.5 * obj.kl()},
        r"objective: 'E_q\[log p\(x\|z\)\] - KL\[q\(z\|x\) \|\| p\(z\)\]' there, .*0\.5 \* KL",
    ),
    "batch size": ({"batch_size": 12}, r"settings: batch_size \(10 there, 12 here\)"),
    "seed": ({"seed": 1}, r"settings: seed \(0 there, 1 here\)"),
    "particles": ({"num_particles": 2}, r"settings: num_particles \(1 there, 2 here\)"),
    "optimizer": (
        {"optimizer": functools.partial(torch.optim.SGD, lr=0.1)},
        r"optimizer: 'Adam' there, 'SGD' here",
    ),
    "callbacks": ({"callbacks": [EMA(0.9)]}, r"callbacks: \[\] there, \['EMA'\] here"),
}


@pytest.mark.parametrize("name", ANOTHER)
def test_a_checkpoint_of_another_run_is_not_resumed(name, run):
    settings, message = ANOTHER[name]
    message = (
        rf"checkpoints belongs to another run, of different {message}.*Remedy: resume with what the run began with"
    )
    refused(CheckpointError, message, run, resume=True, steps=8, **settings)


def test_what_the_run_began_with_is_resumed(run):
    assert len(fit(run, data=X.numpy(), resume=True, steps=8).history) == 8
