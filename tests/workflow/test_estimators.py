"""A fit says which gradient estimator served each site, and which of them are biased."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import handlers


class Three(nn.Module):
    """A class, a one-hot vector and a real number for each datum."""

    def __init__(self):
        super().__init__()
        self.network, self.means = nn.Linear(2, 8), nn.Linear(3, 2)

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            pyro.sample("k", dist.Categorical(torch.ones(3) / 3))
            y = pyro.sample("y", dist.OneHotCategorical(torch.ones(3) / 3))
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(self.means(y) + z.unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(self, x):
        k, y, rest = self.network(x).split([3, 3, 2], -1)
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Categorical(logits=k))
            pyro.sample("y", dist.OneHotCategorical(logits=y))
            pyro.sample("z", dist.Normal(rest[..., 0], rest[..., 1].exp()))


def fit(program, **options):
    torch.manual_seed(0)
    return ppl.fit(program, torch.randn(20, 2), steps=2, progress=False, **options)


def test_summary_and_card_name_biased_estimators_and_how_every_other_discrete_site_is_served(
    tmp_path,
):
    fitted = fit(handlers.gumbel_softmax(Three(), sites="y"), out=tmp_path / "run")
    served = {"k": "ScoreFunction(leave_one_out)", "y": "GumbelSoftmax (biased)"}
    assert fitted.card["gradients"] == served
    line = "k by ScoreFunction(leave_one_out), y by GumbelSoftmax (biased)"
    assert line in repr(fitted)
    assert line in fitted._repr_html_()
    loaded = ppl.load(tmp_path / "run", program=Three())
    assert line in repr(loaded)


def test_an_estimator_that_is_named_at_the_site_is_named_in_the_summary():
    class Named(Three):
        def guide(self, x):
            with handlers.Marginalize("k"):
                super().guide(x)

    assert "k by Marginalize, y by ScoreFunction(leave_one_out)" in repr(fit(Named()))


def test_a_program_that_is_pathwise_throughout_has_no_such_line():
    fitted = fit(ppl.models.VAE(data_dim=2, latent_dim=1, likelihood="gaussian"))
    assert fitted.card["gradients"] == {}
    assert "gradient " not in repr(fitted)


def test_a_card_of_an_earlier_version_is_shown_without_it():
    fitted = fit(Three())
    del fitted.card["gradients"]
    assert "gradient " not in repr(fitted)
