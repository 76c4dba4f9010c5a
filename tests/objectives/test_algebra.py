"""The algebra of objectives: sums, weights, schedules, names, formulas, and one shared run."""

import pytest
import torch

from ppl_genmodels import as_program
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError, ProgramError, UnknownNameError
from ppl_genmodels.models import VAE

X = torch.arange(12.0).reshape(4, 3) % 2


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return VAE(data_dim=3, latent_dim=2, hidden=(8,))


def test_three_terms_call_encoder_and_decoder_once_each(vae):
    objective = obj.log_lik() - 0.5 * obj.kl() + 0.1 * obj.entropy()
    objective.loss(vae, X)  # finds the plates
    calls = {"encoder": 0, "decoder": 0}
    for name in calls:
        module = getattr(vae, name)
        module.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    objective.loss(vae, X, num_particles=5).backward()
    assert calls == {"encoder": 1, "decoder": 1}


def test_a_weighted_sum_is_the_sum_of_its_weighted_terms(vae):
    objective = obj.log_lik() - 2.0 * obj.kl() + torch.tensor(0.5) * obj.entropy()
    torch.manual_seed(0)
    loss = objective.loss(vae, X)
    torch.manual_seed(0)
    terms = objective.evaluate(vae, X)
    expected = terms["log_lik"] - 2 * terms["kl"] + 0.5 * terms["entropy"]
    assert loss.item() == pytest.approx(-expected.mean().item(), rel=1e-5)


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (5, 0.5), (10, 1.0), (1000, 1.0)])
def test_a_schedule_is_a_weight_that_follows_the_step(vae, step, weight):
    def loss(objective, **kwargs):
        torch.manual_seed(0)
        return objective.loss(vae, X, **kwargs).item()

    scheduled = obj.log_lik() - obj.Linear(0.0, 1.0, steps=10) * obj.kl()
    assert loss(scheduled, step=step) == pytest.approx(loss(obj.log_lik() - weight * obj.kl()), rel=1e-6)


def test_schedules_stay_within_their_ends_and_reach_them():
    for schedule in (obj.Linear(2.0, 0.5, 7), obj.Cosine(2.0, 0.5, 7), obj.Exponential(2.0, 0.5, 7)):
        values = torch.stack([schedule(step) for step in range(12)])
        assert values[0] == 2.0
        assert (values[7:] == 0.5).all()
        assert (values.diff() <= 0).all()


def test_a_cyclical_schedule_restarts_and_ends_at_its_end():
    values = [round(obj.Cyclical(0.0, 1.0, steps=8, cycles=2)(step).item(), 4) for step in range(10)]
    assert values == [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0]


def test_an_objective_prints_as_its_formula():
    objective = obj.log_lik() - obj.Linear(0, 1, steps=2000) * obj.kl("z") - 0.5 * obj.entropy() + obj.iwae()
    assert str(objective) == (
        "E_q[log p(x|z)] - linear(0→1 in 2000) * KL[q(z|x) || p(z)] - 0.5 * H[q(z|x)]"
        " + E_q[log mean_k p(x,z_k) / q(z_k|x)]"
    )
    latex = objective._repr_latex_()
    assert latex.startswith(r"$\mathbb{E}_q[\log p(x \mid z)] - \beta_t^{")
    assert latex.count("{") == latex.count("}")


def test_a_repeated_term_is_numbered(vae):
    assert list((obj.kl() + obj.log_lik() - obj.kl()).evaluate(vae, X)) == ["kl", "log_lik", "kl_2"]


def test_a_program_without_latent_sites_needs_no_guide(vae):
    import pyro
    import pyro.distributions as dist

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(0.25).expand([3]).to_event(1), obs=x)

    assert obj.elbo().loss((model, None), X).item() == pytest.approx(-dist.Bernoulli(0.25).log_prob(X).sum(1).mean())


@pytest.mark.parametrize("objective", [obj.log_lik("zz"), obj.kl("zz"), obj.entropy("zz"), obj.log_prob("zz")])
def test_an_unknown_site_is_named_with_the_nearest(vae, objective):
    with pytest.raises(UnknownNameError, match=r"no site 'zz' in .*Known: .*'[xz]'"):
        objective.loss(vae, X)


def test_weights_that_are_no_scalars_are_refused():
    with pytest.raises(OptionError, match=r"scalar, got a tensor of shape \(2,\)"):
        obj.kl() * torch.ones(2)
    with pytest.raises(OptionError, match=r"kl has the schedule linear.* already"):
        obj.Linear(0, 1, 5) * (obj.Linear(0, 1, 5) * obj.kl())
    with pytest.raises(TypeError):
        obj.kl() + 1.0


@pytest.mark.parametrize("make", [lambda: obj.kl(method="exact"), lambda: obj.entropy(method="exact")])
def test_an_unknown_method_is_refused(make):
    with pytest.raises(OptionError, match="'closed_form'"):
        make()


def test_a_closed_form_that_does_not_exist_is_refused_when_forced(vae):
    import pyro
    import pyro.distributions as dist

    class Heavy(VAE):
        def guide(self, x=None):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.StudentT(5.0, torch.zeros(len(x), 2)).to_event(1))

    program = Heavy(data_dim=3, latent_dim=2, hidden=(8,))
    run = obj.Run(as_program(program), (X,), {})
    obj.kl().values(run)
    assert run.divergences == {"z": "Monte Carlo"}
    with pytest.raises(ProgramError, match=r"site 'z': no closed-form divergence.*StudentT.*monte_carlo"):
        obj.kl(method="closed_form").loss(program, X)


@pytest.mark.parametrize("particles", [0, -1])
def test_a_number_of_particles_below_one_is_refused(vae, particles):
    with pytest.raises(OptionError, match=f"at least 1, got {particles}"):
        obj.elbo().loss(vae, X, num_particles=particles)
