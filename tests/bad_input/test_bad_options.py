"""Arguments of a fit that are out of range or unknown, and devices that are not there."""

import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import DeviceError, OptionError, UnknownNameError
from ppl_genmodels.models import VAE, catalogue

X = torch.eye(6).repeat(4, 1)


def fit(**settings):
    settings = {"steps": 2, "progress": False} | settings
    return ppl.fit(VAE(data_dim=6, latent_dim=2, hidden=(4,)), X, **settings)


REFUSED = {
    "batch size": ({"batch_size": 0}, r"batch_size must be at least 1, got 0"),
    "particles": ({"num_particles": 0}, r"num_particles must be at least 1, got 0"),
    "steps": ({"steps": 0}, r"must be at least 1, got epochs=None, steps=0"),
    "epochs": ({"steps": None, "epochs": -1}, r"must be at least 1, got epochs=-1, steps=None"),
    "both lengths": ({"steps": 3, "epochs": 3}, r"got epochs=3 and steps=3, which is twice the length"),
    "whole validation": ({"validation": 1.0}, r"validation=1\.0 of 24 rows leaves a part empty"),
    "validation of one": ({"validation": 1}, r"validation=1\.0 of 24 rows leaves a part empty"),
    "no objective": ({"objective": "elbo"}, r"objective is 'elbo', expected an Objective.*objectives\.elbo\(\)"),
    "an objective's maker": ({"objective": obj.elbo}, r"objective is <function elbo.*expected an Objective"),
    "no callback": ({"callbacks": [print]}, r"callbacks hold <built-in function print>, expected a Callback"),
    "no optimizer": ({"optimizer": "adam"}, r"optimizer gave 'adam', expected a torch\.optim optimizer"),
    "early stopping alone": ({"early_stopping": 3}, r"there is no validation data"),
    "patience": ({"early_stopping": 0, "validation": 0.5}, r"patience must be at least 1, got 0"),
    "resume alone": ({"resume": True}, r"resume=True needs the folder of the run"),
    "precision": ({"precision": "31-true"}, r"precision='31-true': .*Allowed precision values"),
    "strategy": ({"strategy": "teleport"}, r"strategy='teleport'"),
    "accelerator": ({"accelerator": "abacus"}, r"accelerator='abacus'.*Available names"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_out_of_range_is_refused(name):
    settings, message = REFUSED[name]
    with pytest.raises(OptionError, match=message):
        fit(**settings)


def test_a_loader_is_not_split():
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X), batch_size=8)
    with pytest.raises(OptionError, match=r"a DataLoader cannot be split\. Remedy: pass held-out data"):
        ppl.fit(VAE(6, 2), loader, steps=1, validation=0.2, progress=False)


def test_an_unknown_argument_is_refused_by_name():
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        fit(epoch=3)


def test_unknown_catalogue_names_offer_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no program 'va' in the catalogue\. Did you mean 'vae'"):
        catalogue.build("va")
    with pytest.raises(UnknownNameError, match=r"no option 'latent_dims' of program 'vae'\. Did you mean 'latent_dim'"):
        catalogue.build("vae", data_dim=6, latent_dims=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there():
    with pytest.raises(
        DeviceError, match=r"accelerator='cuda', devices=1 .*Here are: cpu\. Remedy: accelerator='auto'"
    ):
        fit(accelerator="cuda")


@pytest.mark.parametrize("name", ["num_samples", "chunk_size"])
def test_numbers_of_an_inference_below_one(name):
    with pytest.raises(OptionError, match="num_samples and chunk_size must be at least 1"):
        fit().infer(X, **{name: 0})


def test_numbers_of_samples_and_particles_below_one():
    fitted = fit()
    with pytest.raises(OptionError, match="the number of samples must be at least 1, got 0"):
        fitted.sample(0)
    with pytest.raises(OptionError, match="num_particles must be at least 1, got 0"):
        fitted.log_evidence(X, 0)
