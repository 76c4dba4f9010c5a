"""The continuous flow as a program: densities, and bounds with augmented numbers against a closed form."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import fit
from ppl_genmodels import objectives as obj
from ppl_genmodels.distributions import Augmented
from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.inference import Evaluations
from ppl_genmodels.models import VAE, ContinuousFlow
from ppl_genmodels.objectives import Run
from ppl_genmodels.program import as_program

MATRIX = torch.tensor([[0.4, 0.0, 0.6], [0.2, -0.3, 0.5], [-0.6, 0.4, 0.3]])
"""Of a linear field over two numbers of the data and one more."""
X = torch.tensor([[0.5, -1.0], [1.5, 0.3], [-0.2, 0.1]])


class LinearField(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(MATRIX.clone())

    def forward(self, x, t):
        return x @ self.matrix.T


def linear(**options):
    """A program whose density over (x, e) is Gaussian, so that the evidence of x is known."""
    program = ContinuousFlow(2, hidden=(8,), augmented=1, **options)
    program.transforms[0].network = LinearField()
    exponential = torch.linalg.matrix_exp(MATRIX)
    covariance = exponential @ exponential.T
    return program, covariance


def test_augmented_draws_keep_the_known_part_and_are_priced_by_the_rest():
    extra = dist.Normal(torch.ones(3, 2), 0.5).to_event(1)
    augmented = Augmented(X, extra)
    drawn = augmented.expand((4, 3)).rsample()
    assert drawn.shape == (4, 3, 4)
    assert torch.equal(drawn[..., :2], X.expand(4, 3, 2))
    torch.testing.assert_close(augmented.log_prob(drawn), extra.log_prob(drawn[..., 2:]))
    assert (augmented.log_prob(drawn + 1.0) == -torch.inf).all()
    torch.testing.assert_close(augmented.mean, torch.cat([X, torch.ones(3, 2)], -1))
    with pytest.raises(OptionError, match=r"event shape \(\), expected one dim"):
        Augmented(X, dist.Normal(0.0, 1.0))


def test_the_bound_is_below_the_evidence_and_importance_weights_close_it():
    """ELBO's gap is the divergence of the standard normal from p(e | x), in closed form."""
    torch.manual_seed(0)
    program, covariance = linear()
    evidence = dist.MultivariateNormal(torch.zeros(2), covariance[:2, :2]).log_prob(X)
    log_weight = obj.log_weight(Run(as_program(program), (X,), {}, num_particles=4000)).detach()
    gain = torch.linalg.solve(covariance[:2, :2], covariance[:2, 2])
    variance = covariance[2, 2] - covariance[2, :2] @ gain
    gap = torch.distributions.kl_divergence(dist.Normal(0.0, 1.0), dist.Normal(X @ gain, variance.sqrt()))
    assert gap[0] > 0.5
    assert ((evidence - log_weight.mean(0) - gap).abs() < 4 * log_weight.std(0) / 4000**0.5 + 1e-4).all()
    weight = (log_weight - evidence).exp()
    assert ((weight.mean(0) - 1).abs() < 4 * weight.std(0) / 4000**0.5 + 1e-4).all()


def test_a_guide_that_is_the_posterior_makes_the_bound_tight():
    program, covariance = linear()
    gain = torch.linalg.solve(covariance[:2, :2], covariance[:2, 2])
    variance = covariance[2, 2] - covariance[2, :2] @ gain
    program.proposal = nn.Linear(2, 2)
    with torch.no_grad():
        program.proposal.weight.copy_(torch.stack([gain, torch.zeros(2)]))
        program.proposal.bias.copy_(torch.stack([torch.zeros(()), 0.5 * variance.log()]))
    values = obj.elbo().evaluate(program, X)
    evidence = dist.MultivariateNormal(torch.zeros(2), covariance[:2, :2]).log_prob(X)
    torch.testing.assert_close(values["log_lik"] - values["kl"], evidence, atol=1e-4, rtol=0)


def test_the_proposal_starts_standard():
    program = ContinuousFlow(2, augmented=3)
    drawn = Augmented(X, dist.Normal(torch.zeros(3, 3), 1.0).to_event(1))
    trace = pyro.poutine.trace(program.guide).get_trace(X)
    torch.testing.assert_close(trace.nodes["z"]["fn"].mean, drawn.mean)
    torch.testing.assert_close(trace.nodes["z"]["fn"].variance, drawn.variance)


@pytest.mark.parametrize("augmented", [0, 1])
def test_it_is_fitted_and_asked_as_any_program(augmented):
    """The evidence of shifted Gaussian rows comes near their own density's."""
    torch.manual_seed(0)
    truth = dist.MultivariateNormal(torch.tensor([5.0, -3.0]), torch.tensor([[4.0, 1.5], [1.5, 1.0]]))
    x = truth.sample((600,))
    program = ContinuousFlow(2, hidden=(16,), augmented=augmented, solver="midpoint", steps=3)
    evaluations = Evaluations()
    fitted = fit(
        program,
        x[:500],
        steps=120,
        batch_size=100,
        optimizer=lambda p: torch.optim.Adam(p, 1e-2),
        callbacks=[evaluations],
        progress=False,
    )
    assert evaluations.steps == list(range(1, 121))
    assert set(evaluations.counts) == {6}
    difference = truth.log_prob(x[500:]) - fitted.log_evidence(x[500:], num_particles=20)
    assert difference.mean() < 0.15 + 4 * difference.std() / 10
    drawn = fitted.sample(2000, seed=0)["x"]
    assert ((drawn.mean(0) - truth.mean).abs() < 6 * truth.variance.sqrt() / 2000**0.5 + 0.2).all()
    posterior = fitted.infer(x[500:520], num_samples=200, seed=0)
    if augmented:
        assert posterior.posterior["z"].shape == (1, 200, 20, 3)
        assert (posterior.posterior["z"].values[..., :2] == x[500:520].numpy()).all()
        assert float(posterior.sample_stats["k_hat"].max()) < 0.7


def test_flow_matching_trains_the_joint_density():
    program, x = ContinuousFlow(2, hidden=(8,), augmented=1), torch.randn(5, 2)
    (obj.flow_matching("z")).loss(program, x).backward()
    assert program.transforms[0].network.network.layers[-1].bias.grad.norm() > 0


def test_evaluations_are_kept_by_checkpoints(tmp_path):
    torch.manual_seed(0)
    x, found = torch.randn(40, 2), []
    for part, steps in (("whole", [4]), ("resumed", [2, 4])):
        program = ContinuousFlow(2, hidden=(4,), solver="midpoint", steps=3)
        for total in steps:
            callback = Evaluations()
            fit(
                program,
                x,
                steps=total,
                batch_size=20,
                callbacks=[callback],
                out=tmp_path / part,
                resume=True,
                progress=False,
            )
        found.append((callback.steps, callback.counts))
    assert found[0] == found[1] == ([1, 2, 3, 4], [6, 6, 6, 6])


def test_evaluations_of_a_program_without_a_path_are_refused():
    with pytest.raises(ProgramError, match="no continuous layer whose evaluations could be counted"):
        fit(VAE(4, 1, (4,)), torch.eye(4), steps=1, callbacks=[Evaluations()], progress=False)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ContinuousFlow(2, augmented=-1), OptionError, "augmented=-1, expected 0 or more"),
        (lambda: ContinuousFlow(2, solver="rk5"), OptionError, "got 'rk5'"),
        (lambda: ContinuousFlow(2, field="deep"), OptionError, "field is 'perceptron' or 'residual'"),
        (lambda: ContinuousFlow(2, hidden=(), field="residual"), OptionError, "needs hidden widths"),
        (lambda: ContinuousFlow(2, augmented=1).guide(), ProgramError, "ContinuousFlow.guide needs data"),
    ],
)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
