"""The catalogue: registering, looking up, building, and what is refused."""

import json

import numpy as np
import pytest
from torch import nn

from ppl_genmodels.errors import DataError, OptionError, UnknownNameError
from ppl_genmodels.models import VAE, catalogue
from ppl_genmodels.models.checks import data_array


@pytest.fixture
def _restored(monkeypatch):
    monkeypatch.setattr(catalogue, "_entries", dict(catalogue._entries))


@pytest.mark.usefixtures("_restored")
def test_options_are_the_bound_arguments_as_plain_values():
    @catalogue.register("thing")
    class Thing(nn.Module):
        """A thing.

        More of it.
        """

        def __init__(self, size, widths=(1, 2), scale=1.0):
            super().__init__()

    assert catalogue.summary("thing") == "A thing."
    assert catalogue.options("thing") == {
        "size": catalogue.REQUIRED,
        "widths": (1, 2),
        "scale": 1.0,
    }
    thing = Thing(np.int64(3), widths=[np.int32(4)])
    assert thing.options == {"size": 3, "widths": (4,), "scale": 1.0}
    assert json.loads(json.dumps(thing.options)) == {"size": 3, "widths": [4], "scale": 1.0}
    assert thing.catalogue_name == "thing"


def test_a_subclass_is_not_the_catalogues_program():
    class Mine(VAE):
        def __init__(self):
            super().__init__(data_dim=6, latent_dim=2)

    assert not hasattr(Mine(), "catalogue_name")
    assert not hasattr(Mine(), "options")


@pytest.mark.usefixtures("_restored")
def test_a_taken_name_is_refused():
    with pytest.raises(OptionError, match=r"'vae' already: ppl_genmodels.models.vae.VAE"):
        catalogue.register("vae")(type("Other", (nn.Module,), {}))
    assert catalogue.entry("vae") is VAE


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no program 'vea' in the catalogue. Did you mean"):
        catalogue.build("vea")
    with pytest.raises(UnknownNameError, match=r"no option 'latent' of program 'vae'. Did you mean 'latent_dim'"):
        catalogue.build("vae", data_dim=6, latent=2)


def test_missing_options_are_named():
    with pytest.raises(OptionError, match=r"'vae' needs latent_dim. Remedy: set latent_dim=..."):
        catalogue.build("vae", data_dim=6)


def test_building_from_recorded_options_gives_the_same_program():
    program = VAE(6, 2, hidden=[3], likelihood="categorical", levels=4)
    options = json.loads(json.dumps(program.options))
    rebuilt = catalogue.build(program.catalogue_name, **options)
    assert rebuilt.options == program.options
    assert str(rebuilt) == str(program)


def test_a_data_set_without_the_array_or_without_rows_is_refused():
    with pytest.raises(UnknownNameError, match="no array 'x' in the data, which VAE reads"):
        data_array({"images": np.zeros((5, 6))}, "x", "VAE")
    with pytest.raises(DataError, match=r"VAE: array 'x' of shape \(0, 6\) is empty"):
        data_array({"x": np.zeros((0, 6))}, "x", "VAE")
