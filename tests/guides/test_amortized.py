"""Laws of the amortized guide: shapes, supports, plates, particles, other rows, state, and errors."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.guides import Amortized
from ppl_genmodels.program import Program

PRIORS = {
    "normal": dist.Normal(0.0, 1.0),
    "normal_vector": dist.Normal(torch.zeros(3), 1.0).to_event(1),
    "normal_matrix": dist.Normal(torch.zeros(3, 2), 1.0).to_event(2),
    "multivariate_normal": dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
    "gamma": dist.Gamma(2.0, 1.0),
    "half_cauchy_vector": dist.HalfCauchy(torch.ones(2)).to_event(1),
    "beta": dist.Beta(2.0, 2.0),
    "uniform": dist.Uniform(-3.0, 5.0),
    "uniform_vector": dist.Uniform(torch.tensor([0.0, -1.0]), torch.tensor([1.0, 4.0])).to_event(1),
    "pareto": dist.Pareto(2.0, 3.0),
    "dirichlet": dist.Dirichlet(torch.ones(4)),
    "dirichlet_matrix": dist.Dirichlet(torch.ones(2, 4)).to_event(1),
    "correlation_cholesky": dist.LKJCholesky(3, 1.0),
    "gaussian_mixture": dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2, 3), 1.0).to_event(1)
    ),
    "bernoulli": dist.Bernoulli(0.3),
    "bernoulli_vector": dist.Bernoulli(torch.full((3,), 0.3)).to_event(1),
    "categorical": dist.Categorical(torch.ones(4)),
    "categorical_vector": dist.Categorical(torch.ones(2, 4)).to_event(1),
    "one_hot": dist.OneHotCategorical(torch.ones(4)),
    "binomial": dist.Binomial(5, torch.tensor(0.4)),
    "poisson": dist.Poisson(2.0),
    "multinomial": dist.Multinomial(6, torch.ones(3)),
}
ROWS = {"rows_last": ("data", "inner"), "rows_second": ("inner", "data")}
PARTICLES = 4


class Chain(nn.Module):
    """A global site, a local one, one in an inner plate, and a local child of that, all with one prior."""

    def __init__(self, prior, order: tuple[str, str]) -> None:
        super().__init__()
        self.prior = prior
        self.dims = {order[0]: -1, order[1]: -2}

    def forward(self, x: Tensor) -> None:
        data = pyro.plate("data", len(x), dim=self.dims["data"])
        inner = pyro.plate("inner", 3, dim=self.dims["inner"])
        top = self.mean(pyro.sample("top", self.prior))
        with data:
            outer = self.mean(pyro.sample("outer", self.prior))
            pyro.sample("y", dist.Normal(outer + top, 1.0), obs=torch.zeros(()))
        with data, inner:
            element = self.mean(pyro.sample("element", self.prior))
            pyro.sample("e", dist.Normal(element + outer, 1.0), obs=torch.zeros(()))
        with data:
            together = element.sum(self.dims["inner"], keepdim=True)
            last = self.mean(pyro.sample("last", self.prior))
            pyro.sample("z", dist.Normal(last + together, 1.0), obs=torch.zeros(()))

    def mean(self, value: Tensor) -> Tensor:
        events = tuple(range(-self.prior.event_dim, 0))
        return value.float().mean(events) if events else value.float()


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]


@pytest.mark.parametrize("order", ROWS.values(), ids=ROWS)
def test_guide_samples_what_the_model_samples(prior, order):
    """Same sites, same shapes, values inside the support, whose density under the model is finite."""
    model, x = Chain(prior, order), torch.randn(5, 2)
    guide = Amortized(model, nn.Linear(2, 4))
    guide(x)
    for rows in (5, 1, 8):
        x = torch.randn(rows, 2)
        traced = poutine.trace(guide).get_trace(x)
        replayed = poutine.trace(poutine.replay(model, trace=traced)).get_trace(x)
        plain = poutine.trace(model).get_trace(x)
        for name in ("top", "outer", "element", "last"):
            value, site = traced.nodes[name]["value"], plain.nodes[name]
            assert value.shape == site["value"].shape
            assert site["fn"].support.check(value).all()
            assert replayed.nodes[name]["fn"].log_prob(value).isfinite().all()


@pytest.mark.parametrize("order", ROWS.values(), ids=ROWS)
def test_particles_to_the_left_are_independent_draws(prior, order):
    model, x = Chain(prior, order), torch.randn(5, 2)
    guide = Amortized(model, nn.Linear(2, 4))
    with pyro.plate("_particles", PARTICLES, dim=-3):
        traced = poutine.trace(guide).get_trace(x)
        replayed = poutine.trace(poutine.replay(model, trace=traced)).get_trace(x)
    plates = {"top": (1, 1), "outer": (1, 5), "element": (3, 5), "last": (1, 5)}
    for name, (inner, rows) in plates.items():
        sizes = (inner, rows) if model.dims["data"] == -1 else (rows, inner)
        batch = (PARTICLES, *sizes)
        for node in (traced.nodes[name], replayed.nodes[name]):
            assert node["fn"].log_prob(node["value"]).shape == batch
            assert node["fn"].log_prob(node["value"]).isfinite().all()
        assert traced.nodes[name]["fn"].batch_shape == batch


@pytest.mark.parametrize("order", ROWS.values(), ids=ROWS)
def test_permuted_rows_get_permuted_distributions(order):
    """Given the parents' values: a row's features and parents reach that row and no other."""
    model, x = Chain(PRIORS["normal_vector"], order), torch.randn(5, 2)
    guide, permutation = Amortized(model, nn.Linear(2, 4)), torch.tensor([3, 0, 4, 1, 2])
    trace = poutine.trace(guide).get_trace(x)
    rows_dim = model.dims["data"] - 1
    values = {name: trace.nodes[name]["value"] for name in ("top", "outer", "element", "last")}
    permuted = {
        name: value.index_select(rows_dim, permutation) if name != "top" else value for name, value in values.items()
    }
    again = poutine.trace(poutine.condition(guide, permuted)).get_trace(x[permutation])
    for name in ("outer", "element", "last"):
        expected = trace.nodes[name]["fn"].mean.index_select(rows_dim, permutation)
        assert torch.allclose(again.nodes[name]["fn"].mean, expected, atol=1e-6)
        assert expected.unique().numel() > 5


def two_levels(x: Tensor | None = None) -> Tensor:
    with pyro.plate("data", 1 if x is None else len(x)):
        a = pyro.sample("level.a", dist.Normal(0.0, 1.0))
        b = pyro.sample("level.b", dist.LogNormal(a, 1.0))
        return pyro.sample("x", dist.Normal(b, 1.0), obs=x)


def columns(x: Tensor) -> Tensor:
    return torch.stack([x, x.abs()], -1)


class Columns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return columns(x)


def test_a_row_gets_the_same_distribution_whatever_stands_beside_it():
    x = torch.randn(6)
    guide = Amortized(two_levels, Columns())
    guide(x)
    fixed = {"level.a": torch.linspace(-1, 1, 6)}
    whole = poutine.trace(poutine.condition(guide, fixed)).get_trace(x).nodes["level.b"]["fn"]
    fixed = {"level.a": fixed["level.a"][2:4]}
    part = poutine.trace(poutine.condition(guide, fixed)).get_trace(x[2:4]).nodes["level.b"]["fn"]
    assert torch.allclose(whole.base_dist.loc[2:4], part.base_dist.loc)
    assert whole.base_dist.loc.unique().numel() == 6


def test_scales_start_at_one_half_for_every_datum():
    guide = Amortized(two_levels, Columns())
    trace = poutine.trace(guide).get_trace(torch.randn(6))
    assert torch.allclose(trace.nodes["level.a"]["fn"].stddev, torch.tensor(0.5))


def test_a_global_site_starts_near_the_median_of_its_prior():
    def model(x: Tensor) -> None:
        far = pyro.sample("far", dist.Normal(100.0, 1.0))
        positive = pyro.sample("positive", dist.LogNormal(3.0, 0.1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(far, positive), obs=x)

    trace = poutine.trace(Amortized(model, Columns())).get_trace(torch.zeros(4))
    assert trace.nodes["far"]["fn"].mean.item() == pytest.approx(100.0, abs=2.0)
    assert trace.nodes["positive"]["fn"].base_dist.loc.item() == pytest.approx(3.0, abs=0.2)


def test_building_leaves_the_random_state_and_the_parameter_store_alone():
    x = torch.randn(6)
    guide = Amortized(two_levels, Columns())
    torch.manual_seed(3)
    first = guide(x)
    torch.manual_seed(3)
    again = guide(x)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not pyro.get_param_store()


def test_parameters_are_named_after_the_sites():
    guide = Amortized(two_levels, Columns())
    guide(torch.randn(6))
    names = [f"heads.level/{s}.{p}" for s in "ab" for p in ("weight", "bias")]
    assert list(guide.state_dict()) == names


@pytest.mark.parametrize("name", ["type", "items", "a.b", "weight", "training"])
def test_any_site_name_serves(name):
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample(name, dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    assert Amortized(model, Columns())(torch.zeros(3))[name].shape == (3,)


def test_state_goes_from_one_guide_to_another():
    x = torch.randn(6)
    one, other = Amortized(two_levels, Columns()), Amortized(two_levels, Columns())
    one(x), other(torch.zeros(2))
    other.load_state_dict(one.state_dict())
    values = []
    for guide in (one, other, copy.deepcopy(one)):
        torch.manual_seed(0)
        values.append(guide(x)["level.b"])
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])


class Owner(nn.Module):
    """A module whose guide is a submodule that reads the module's own model."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Linear(2, 3)
        self.guide = Amortized(self.model, nn.Linear(3, 4))

    def model(self, x: Tensor | None = None) -> None:
        with pyro.plate("data", 1 if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)


def test_the_models_parameters_are_not_the_guides():
    owner = Owner()
    owner.guide(torch.zeros(5, 3))
    guide_names = {name.split(".")[0] for name, _ in owner.guide.named_parameters()}
    assert guide_names == {"encoder", "heads"}
    assert len(list(owner.named_parameters())) == 6


@pytest.mark.parametrize("pair", [False, True])
def test_a_program_accepts_it(pair):
    owner = Owner()
    program = Program(owner.model, owner.guide, source=None if pair else owner)
    structure = program.structure(torch.zeros(5, 3))
    assert [site.name for site in structure.latent] == ["z"]
    program.guide(torch.zeros(7, 3))


def test_keyword_data_reach_the_encoder():
    class Both(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.stack([x, t], -1)

    def model(x: Tensor, t: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(t, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    assert Amortized(model, Both())(x=torch.zeros(4), t=torch.ones(4))["z"].shape == (4,)


def test_a_subsampled_data_plate_keeps_its_scale():
    def model(x: Tensor) -> None:
        with pyro.plate("data", 100, subsample_size=len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    guide = Amortized(model, Columns())
    guide(torch.zeros(10))
    for rows in (10, 25):
        assert poutine.trace(guide).get_trace(torch.zeros(rows)).nodes["z"]["scale"] == 100 / rows


def test_features_of_double_precision_give_parameters_of_double_precision():
    guide = Amortized(two_levels, Columns())
    assert guide(torch.zeros(3, dtype=torch.float64))["level.a"].dtype == torch.float64


def test_values_far_in_the_tail_keep_a_finite_density():
    """The density of one's own draw does not go through a saturated inverse."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            p = pyro.sample("p", dist.Beta(1.0, 1.0))
            pyro.sample("x", dist.Normal(p, 1.0), obs=x)

    guide = Amortized(model, Columns())
    guide(torch.zeros(3))
    with torch.no_grad():
        guide.heads["p"].bias[0] = 40.0
    node = poutine.trace(guide).get_trace(torch.zeros(3)).nodes["p"]
    unconstrained = node["fn"].base_dist.log_prob(node["fn"].transforms[0].inv(node["value"]))
    assert (node["value"] > 0.999999).all()
    assert (unconstrained > math.log(1e-6)).all()


def with_site(distribution):
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", distribution)
            pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x.flatten(1).sum(1) if x.dim() > 1 else x)

    return model


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (dist.Delta(torch.tensor(1.0)), r"'z' is a Delta.*pyro\.deterministic"),
        (dist.ProjectedNormal(torch.ones(3)), r"'z': no family for ProjectedNormal.*Served"),
        (dist.Uniform(0.0, 1.0 + torch.arange(4.0)), r"'z': its support differs between data"),
    ],
)
def test_an_unsupported_site_is_refused_by_name(distribution, message):
    with pytest.raises(ProgramError, match=message):
        Amortized(with_site(distribution), Columns())(torch.zeros(4))


def test_a_support_that_depends_on_another_site_is_refused():
    def model(x: Tensor) -> None:
        upper = pyro.sample("upper", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Uniform(0.0, upper))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    with pytest.raises(ProgramError, match=r"'z': its support depends on 'upper'.*fixed support"):
        Amortized(model, Columns())(torch.zeros(4))


def test_a_model_without_latent_sites_is_refused():
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    with pytest.raises(ProgramError, match=r"no latent sites.*without a guide"):
        Amortized(model, Columns())(torch.zeros(4))


@pytest.mark.parametrize("encoder", [nn.Identity(), nn.Unflatten(0, (1, 4)), nn.Flatten(0)])
def test_features_without_one_row_per_datum_are_refused(encoder):
    x = torch.zeros(4, 2, 3)
    with pytest.raises(ProgramError, match=r"\(rows, features\) = \(4, \.\.\.\).*Remedy"):
        Amortized(with_site(dist.Normal(0.0, 1.0)), encoder)(x)


def test_a_plate_of_another_length_than_the_data_is_refused():
    def model(x: Tensor) -> None:
        with pyro.plate("data", 10, subsample_size=4) as index:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])

    with pytest.raises(ProgramError, match=r"10 rows.*'data' has 4 elements.*len\(x\)"):
        Amortized(model, Columns())(torch.zeros(10))


def test_another_subsampled_plate_is_refused():
    def model(x: Tensor) -> None:
        with pyro.plate("groups", 10, subsample_size=4):
            pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    with pytest.raises(ProgramError, match=r"'z': plate 'groups' holds 4 of 10"):
        Amortized(model, Columns())(torch.zeros(3))


def test_a_call_without_data_is_refused():
    with pytest.raises(ProgramError, match=r"called with no data.*call the model"):
        Amortized(with_no_data, Columns())()


def with_no_data(x: Tensor | None = None) -> None:
    with pyro.plate("data", 3):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.zeros(3))
