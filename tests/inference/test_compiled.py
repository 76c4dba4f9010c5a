"""The compiled step gives the eager numbers, and is never stale."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_genmodels import Program, as_program, handlers
from ppl_genmodels import objectives as obj
from ppl_genmodels.errors import OptionError
from ppl_genmodels.guides import Amortized, AutoMultivariateNormal, AutoNormal
from ppl_genmodels.inference import CompileWarning, compile_step
from ppl_genmodels.inference.compiled import CompiledGradient
from ppl_genmodels.inference.lowering import agree
from ppl_genmodels.models import VAE, EightSchools

X = (torch.arange(48.0).reshape(8, 6) * 7 % 5 > 2).float()
MISSING = torch.where(torch.arange(48).reshape(8, 6) % 5 == 0, torch.nan, X)


class Discrete(nn.Module):
    """A mixture with a categorical site that only the score function can train."""

    def __init__(self):
        super().__init__()
        self.logits, self.means = nn.Linear(6, 3), nn.Parameter(torch.randn(3, 6))

    def model(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=x.new_zeros(3)))
            pyro.sample("x", dist.Normal(self.means[y], 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=self.logits(x)))


class OneHot(Discrete):
    """The same with one-hot classes, whose own sampler reads values in Python."""

    def model(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=x.new_zeros(3)))
            pyro.sample("x", dist.Normal(y @ self.means, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.OneHotCategorical(logits=self.logits(x)))


class Bits(Discrete):
    """A vector of bits for each datum."""

    def model(self, x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(x.new_full((3,), 0.4)).to_event(1))
            pyro.sample("x", dist.Normal(y @ self.means, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=self.logits(x)).to_event(1))


class Normalized(VAE):
    """Batch normalization: buffers that change at every step."""

    def __init__(self):
        super().__init__(6, 2, (8,))
        self.encoder = nn.Sequential(nn.BatchNorm1d(6), self.encoder)


def vae():
    return VAE(data_dim=6, latent_dim=2, hidden=(8,))


def amortized():
    program = vae()
    return program.model, Amortized(program.model, nn.Linear(6, 4))


def schools(guide):
    model = EightSchools().model
    return Program(model, guide(model))


CASES = {
    "vae": (vae, obj.elbo(), 1, X),
    "particles": (vae, obj.elbo("monte_carlo"), 5, X),
    "three terms": (vae, obj.log_lik() - obj.Linear(0, 1, 5) * obj.kl() + 0.1 * obj.entropy(), 1, X),
    "importance weights": (vae, obj.iwae(), 4, X),
    "score function": (Discrete, obj.elbo(), 1, X),
    "score function, particles": (Discrete, obj.elbo() + obj.iwae(), 3, X),
    "one-hot": (OneHot, obj.elbo(), 3, X),
    "running mean": (lambda: handlers.score_function(Discrete(), baseline="running_mean"), obj.elbo(), 1, X),
    "vimco": (lambda: handlers.score_function(Discrete(), baseline="vimco"), obj.iwae(), 3, X),
    "local expectation": (lambda: handlers.local_expectation(Bits()), obj.elbo(), 2, X),
    "marginalized element": (lambda: handlers.reparameterize_and_marginalize(Bits()), obj.elbo(), 2, X),
    "disarm": (lambda: handlers.disarm(Bits()), obj.elbo(), 2, X),
    "marginalized site": (lambda: handlers.marginalize(OneHot()), obj.elbo(), 1, X),
    "amortized": (amortized, obj.elbo(), 2, X),
    "missing values": (lambda: handlers.mask_missing(vae()), obj.elbo(), 1, MISSING),
    "batch normalization": (Normalized, obj.elbo(), 1, X),
    "mean field": (lambda: schools(AutoNormal), obj.elbo(), 2, EightSchools.data()["y"]),
    "joint normal": (lambda: schools(AutoMultivariateNormal), obj.elbo(), 2, EightSchools.data()["y"]),
}


def train(case, mode, steps=4):
    make, objective, particles, x = CASES[case]
    torch.manual_seed(0)
    program = as_program(make())
    program.probe(x)
    optimizer = torch.optim.Adam(program.parameters(), 1e-2)
    step = compile_step(objective, program, optimizer, mode, particles)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        values = [step(x).item() for _ in range(steps)]
    return values, program.state_dict()


@pytest.mark.parametrize("case", CASES)
def test_a_traced_step_gives_the_eager_numbers(case):
    eager_values, eager = train(case, "off")
    values, traced = train(case, "trace")
    assert values == pytest.approx(eager_values, rel=1e-6)
    for name, value in eager.items():
        torch.testing.assert_close(
            traced[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("case", ["vae", "score function, particles", "batch normalization", "joint normal"])
def test_a_lowered_step_gives_the_eager_numbers_up_to_rounding(case):
    eager_values, _ = train(case, "off")
    values, _ = train(case, "inductor")
    assert values == pytest.approx(eager_values, rel=1e-4)


def test_several_optimizers_step_together():
    def trained(mode):
        torch.manual_seed(0)
        program = vae()
        optimizers = [
            torch.optim.SGD(program.encoder.parameters(), 0.1),
            torch.optim.Adam(program.decoder.parameters(), 1e-2, fused=True),
        ]
        step = compile_step(obj.elbo(), program, optimizers, mode)
        return [step(X).item() for _ in range(4)]

    assert trained("trace") == pytest.approx(trained("off"), rel=1e-6)


def replace_module(program):
    program.decoder = nn.Linear(2, 6)


def freeze(program):
    for parameter in program.encoder.parameters():
        parameter.requires_grad_(False)


def reassign_buffer(program):
    program.prior_scale = torch.full((2,), 3.0)


def change_number(program):
    program.offset = 2.0


def to_eval(program):
    program.eval()


class Offset(VAE):
    """A VAE whose prior reads a plain number."""

    def __init__(self):
        super().__init__(6, 2, (8,))
        self.offset, self.dropout = 0.0, nn.Dropout(0.5)

    def model(self, x=None):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(self.prior_loc + self.offset, self.prior_scale).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.dropout(self.decoder(z))).to_event(1), obs=x)


@pytest.mark.parametrize("mode", ["trace", "inductor"])
def test_parameters_in_another_precision_are_seen(mode):
    program = Offset()
    compiled = CompiledGradient(obj.elbo(), as_program(program), mode == "inductor")
    compiled((X,), {}, 0)
    program.double()
    values = compiled((X.double(),), {}, 1)
    assert values.dtype == torch.float64
    assert all(p.grad.dtype == torch.float64 for p in program.parameters())


@pytest.mark.parametrize("change", [replace_module, freeze, reassign_buffer, change_number, to_eval])
def test_a_graph_is_never_stale(change):
    torch.manual_seed(0)
    program = Offset()
    compiled = CompiledGradient(obj.elbo(), as_program(program))
    compiled((X,), {}, 0)
    compiled((X,), {}, 1)
    assert compiled.traces == 1
    change(program)
    torch.manual_seed(2)
    value = compiled((X,), {}, 2)[0]
    assert compiled.traces == 2
    torch.manual_seed(2)
    assert value.item() == pytest.approx(obj.elbo().loss(program, X).item(), rel=1e-6)


def test_parameters_that_train_do_not_trace_again():
    program = vae()
    compiled = CompiledGradient(obj.elbo(), as_program(program))
    for rows in (8, 8, 5, 8, 5):
        compiled((X[:rows],), {}, 0)
    assert compiled.traces == 2


def test_an_unfrozen_parameter_gets_its_gradient():
    program = vae()
    freeze(program)
    compiled = CompiledGradient(obj.elbo(), as_program(program))
    compiled((X,), {}, 0)
    assert all(p.grad is None for p in program.encoder.parameters())
    for parameter in program.encoder.parameters():
        parameter.requires_grad_(True)
    compiled((X,), {}, 1)
    assert all(p.grad is not None for p in program.encoder.parameters())


def test_control_flow_on_values_runs_eagerly_and_names_the_line():
    class Branching(VAE):
        def model(self, x=None):
            if x.sum() > 0:  # the line
                x = x.clone()
            return super().model(x)

    program = Branching(6, 2, (8,))
    step = compile_step(obj.elbo(), program, torch.optim.Adam(program.parameters()))
    with pytest.warns(CompileWarning, match=r"test_compiled.py, line \d+: if x.sum\(\) > 0:  # the line.*torch.where"):
        first = step(X)
    assert first.isfinite()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(X)


@pytest.mark.parametrize("mode", ["trace", "inductor"])
def test_tracing_leaves_the_random_state_and_the_buffers_as_one_step_does(mode):
    left = {}
    for way in ("off", mode):
        torch.manual_seed(0)
        program = as_program(Normalized())
        program.probe(X)
        compile_step(obj.elbo(), program, torch.optim.SGD(program.parameters(), 0.0), way)(X)
        left[way] = (torch.get_rng_state(), dict(program.named_buffers()))
    assert torch.equal(left["off"][0], left[mode][0])
    assert left["off"][1].keys() == left[mode][1].keys()
    for name, buffer in left["off"][1].items():
        torch.testing.assert_close(left[mode][1][name], buffer)


def test_an_unknown_mode_is_refused():
    with pytest.raises(OptionError, match="'auto', 'trace', 'inductor', 'off'; got 'jit'"):
        compile_step(obj.elbo(), vae(), None, mode="jit")


def test_a_program_that_changes_itself_runs_eagerly():
    class Counting(VAE):
        calls = 0

        def model(self, x=None):
            self.calls += 1
            return super().model(x)

    program = Counting(6, 2, (8,))
    step = compile_step(obj.elbo(), program, torch.optim.Adam(program.parameters()))
    with pytest.warns(CompileWarning, match=r"changes its own attributes \(Counting.calls\).*buffer or a schedule"):
        step(X)
    before = program.calls
    step(X)
    assert program.calls == before + 1


def test_distributions_that_validate_themselves_can_be_traced():
    class Held(VAE):
        def __init__(self):
            super().__init__(6, 2, (8,))
            self.prior = dist.Normal(torch.zeros(2), 1.0, validate_args=True).to_event(1)

        def model(self, x=None):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", self.prior)
                pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    compiled = CompiledGradient(obj.elbo("monte_carlo"), as_program(Held()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        assert compiled((X,), {}, 0) is not None


def test_a_gradient_that_is_zero_but_for_rounding_is_no_disagreement():
    large, rounding = torch.tensor([1.0, -2.0]), torch.tensor([3e-8, -5e-8])
    assert agree([large, rounding], [large, -rounding])
    assert not agree([large, 1e-3 * large], [large, 1.1e-3 * large])
    assert not agree([large], [1.01 * large])
