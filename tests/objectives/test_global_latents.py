"""Programs with latent sites shared by all data: counted once over the whole data set, whatever the batch."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from torch import nn

from ppl_genmodels import Program
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import ProgramError

ROWS = 12
PEERS = [(obj.elbo("monte_carlo"), Trace_ELBO), (obj.elbo(), TraceMeanField_ELBO)]


class Shared(nn.Module):
    """A global mean, one local latent per datum, an inner plate of observations."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(0.3))

    def model(self, x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(mean, 1.0))
            with pyro.plate("inner", x.shape[1]):
                pyro.sample("x", dist.Normal(z, 0.5), obs=x.T)

    def guide(self, x):
        mean = pyro.sample("mean", dist.Normal(self.loc, 0.2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.mean(1) + 0.1 * mean, 0.3))


X = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("objective", "theirs"), [(obj.elbo("monte_carlo"), Trace_ELBO), (obj.elbo(), TraceMeanField_ELBO)]
)
@pytest.mark.parametrize("particles", [1, 5])
def test_agrees_with_pyro(objective, theirs, particles):
    program = Shared()
    objective.loss(program, X)
    torch.manual_seed(0)
    ours = objective.loss(program, X, num_particles=particles)
    torch.manual_seed(0)
    bound = theirs(num_particles=particles, vectorize_particles=True, max_plate_nesting=2)
    expected = bound.differentiable_loss(program.model, program.guide, X) / ROWS
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    mine, theirs_ = (torch.autograd.grad(loss, program.loc)[0].item() for loss in (ours, expected))
    assert mine == pytest.approx(theirs_, rel=1e-4)


def constrained(x):
    """A positive and a bounded global site, so that an autoguide's bijections have Jacobians."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    share = pyro.sample("share", dist.Beta(2.0, 3.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(share, scale).expand([3]).to_event(1), obs=x)


@pytest.mark.parametrize("objective", [obj.elbo(), obj.elbo("monte_carlo")])
@pytest.mark.parametrize("model", [Shared().model, constrained])
@pytest.mark.parametrize("make_guide", [AutoNormal, AutoMultivariateNormal])
def test_autoguides_agree_with_pyro(make_guide, model, objective):
    torch.manual_seed(0)
    program = Program(model, make_guide(model))
    objective.loss(program, X)
    torch.manual_seed(0)
    ours = objective.loss(program, X)
    torch.manual_seed(0)
    with pyro.settings.context(module_local_params=True):
        expected = Trace_ELBO().differentiable_loss(model, program._guide, X) / ROWS
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_batches_of_a_data_set_average_to_the_whole():
    """With the closed-form divergence and fixed draws, the mean over batches equals the value on all data."""
    program, objective = Program(Shared().model, Shared().guide), obj.kl("mean")

    def of(rows, size):
        run = obj.Run(program, (rows,), {}, data_size=size)
        return objective.values(run)["kl[mean]"].mean().item()

    whole = of(X, ROWS)
    assert of(X[:4], ROWS) == pytest.approx(whole, rel=1e-6)
    assert of(X[:4], None) == pytest.approx(3 * whole, rel=1e-6)


def test_a_subsampled_plate_is_scaled_as_in_pyro():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 48, subsample=torch.arange(len(x))):
            pyro.sample("x", dist.Normal(mean, 0.5), obs=x)

    def guide(x):
        pyro.sample("mean", dist.Normal(0.2, 0.1))

    x = X[:, 0]
    torch.manual_seed(0)
    ours = obj.elbo("monte_carlo").loss(Program(model, guide), x)
    torch.manual_seed(0)
    assert ours.item() * 48 == pytest.approx(Trace_ELBO().loss(model, guide, x), rel=1e-5)


def test_importance_weights_of_a_part_of_the_data_are_refused():
    run = obj.Run(Program(Shared().model, Shared().guide), (X[:4],), {}, 3, data_size=ROWS)
    with pytest.raises(ProgramError, match=r"whole data set in one batch, got 4 of 12 rows.*batch_size=12"):
        obj.iwae().values(run)


def test_importance_weighted_bound_of_all_data_lies_between_elbo_and_evidence():
    """Mean and z are Gaussian, so the data of all rows together are jointly Gaussian: the evidence is exact."""
    count = X.numel()
    same_row = torch.block_diag(*[torch.ones(3, 3)] * ROWS)
    covariance = torch.ones(count, count) + same_row + 0.25 * torch.eye(count)
    evidence = dist.MultivariateNormal(torch.zeros(count), covariance).log_prob(X.reshape(-1)).item() / ROWS
    program = Program(Shared().model, Shared().guide)
    torch.manual_seed(0)
    elbo = -obj.elbo().loss(program, X, num_particles=2000).item()
    iwae = -obj.iwae().loss(program, X, num_particles=2000).item()
    assert elbo < iwae < evidence
