"""Programs that play a game beside another aim: VAE-GAN, InfoGAN and CycleGAN, and the terms that these add."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.diagnostics import modes_covered, sliced_wasserstein
from ppl_genmodels.errors import DataError, OptionError, ProgramError, UnknownNameError
from ppl_genmodels.models import VAEGAN, CycleGAN, InfoGAN


def adam(rate):
    return partial(torch.optim.Adam, lr=rate, betas=(0.5, 0.9), fused=True)


def fitted(program, data, steps, rate, compile="off"):
    return ppl.fit(program, data, steps=steps, optimizer=adam(rate), compile=compile, progress=False)


class Channel(nn.Module):
    """A code with Gaussian noise added, and a recognition that has the exact posterior where it begins."""

    GAIN, NOISE = 1.5, 0.5

    def __init__(self):
        super().__init__()
        variance = self.GAIN**2 + self.NOISE**2
        self.gain = nn.Parameter(torch.tensor(self.GAIN))
        self.slope = nn.Parameter(torch.tensor(self.GAIN / variance))
        self.scale = nn.Parameter(torch.tensor(self.NOISE / math.sqrt(variance)))

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            c = pyro.sample("c", dist.Normal(0.0, 1.0))
            noise = pyro.sample("noise", dist.Normal(0.0, 1.0))
            return pyro.deterministic("x", self.gain * c + self.NOISE * noise, event_dim=0)

    def recognition(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Normal(self.slope * x, self.scale))


class Clusters:
    """A category seen through Gaussian noise; the recognition takes the categories to be equally frequent."""

    SHARES, PLACES = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([-1.0, 0.5, 2.0])

    def model(self, x=None):
        with pyro.plate("data", 1 if x is None else len(x)):
            c = pyro.sample("c", dist.Categorical(self.SHARES))
            noise = pyro.sample("noise", dist.Normal(0.0, 1.0))
            return pyro.deterministic("x", self.PLACES[c] + noise, event_dim=0)

    def recognition(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Categorical(logits=dist.Normal(self.PLACES, 1.0).log_prob(x.unsqueeze(-1))))


def test_a_program_whose_critic_alone_sees_data_tells_no_evidence(tmp_path):
    found = fitted(VAEGAN((6,), 2, hidden=(8,)), torch.rand(60, 6), steps=2, rate=1e-3)
    for ask in (found.log_evidence, found.reconstruct):
        with pytest.raises(ProgramError, match="the program observes no site"):
            ask(torch.rand(10, 6))
    page = found.report(tmp_path, data=torch.rand(40, 6)).read_text()
    assert "Latent map" in page
    assert "k-hat" not in page


def test_the_information_of_a_gaussian_channel_is_its_capacity():
    rows, channel = 4000, Channel()
    term = obj.mutual_information("c", "x", channel.recognition)
    torch.manual_seed(0)
    values = term.evaluate(channel, torch.zeros(rows), num_particles=5)[term.names[0]]
    capacity = 0.5 * math.log1p((channel.GAIN / channel.NOISE) ** 2)
    assert values.shape == (rows,)
    assert abs(values.mean() - capacity) < 4 * values.std() / math.sqrt(rows)


def test_its_gradient_for_what_draws_is_that_of_the_capacity():
    """At the exact posterior the bound touches the information, so that their slopes agree."""
    channel = Channel()
    term = obj.mutual_information("c", "x", channel.recognition)
    torch.manual_seed(0)
    slopes = []
    for _ in range(60):
        channel.zero_grad()
        (-term.loss(channel, torch.zeros(400))).backward()
        slopes.append([parameter.grad.clone() for parameter in channel.parameters()])
    gain, slope, scale = (torch.stack(each) for each in zip(*slopes, strict=True))
    expected = channel.GAIN / (channel.GAIN**2 + channel.NOISE**2)
    for found, exact in ((gain, expected), (slope, 0.0), (scale, 0.0)):
        assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(len(found))


def test_a_wrong_recognition_is_short_of_the_information_by_its_divergence():
    rows, clusters = 20000, Clusters()
    term = obj.mutual_information("c", "x", clusters.recognition)
    torch.manual_seed(0)
    values = term.evaluate(clusters, torch.zeros(rows))[term.names[0]]
    x = torch.linspace(-10, 12, 4001, dtype=torch.float64)
    given_c = dist.Normal(clusters.PLACES.double(), 1.0).log_prob(x.unsqueeze(-1)).exp()
    joint = clusters.SHARES.double() * given_c
    posterior, taken = joint / joint.sum(-1, keepdim=True), given_c / given_c.sum(-1, keepdim=True)
    information = torch.trapezoid((joint * (posterior / clusters.SHARES).log()).sum(-1), x)
    divergence = torch.trapezoid((joint * (posterior / taken).log()).sum(-1), x)
    assert divergence > 0.05
    assert abs(values.mean() - (information - divergence)) < 4 * values.std() / math.sqrt(rows)


def test_what_information_cannot_be_of_is_refused():
    channel = Channel()
    with pytest.raises(OptionError, match="codes='c' and recognition=3, expected names of sites"):
        obj.mutual_information("c", "x", 3)
    with pytest.raises(UnknownNameError, match="no site 'b'"):
        obj.mutual_information("b", "x", channel.recognition).evaluate(channel, torch.zeros(3))
    with pytest.raises(UnknownNameError, match="no site 'y' of the model, in mutual_information"):
        obj.mutual_information("c", "y", channel.recognition).evaluate(channel, torch.zeros(3))
    with pytest.raises(UnknownNameError, match="no site 'noise' of the recognition"):
        obj.mutual_information(("c", "noise"), "x", channel.recognition).evaluate(channel, torch.zeros(3))
    with pytest.raises(ProgramError, match="the recognition draws 'c', which is not among the codes 'noise'"):
        obj.mutual_information("noise", "x", _also(channel.recognition)).evaluate(channel, torch.zeros(3))


def _also(recognition):
    def more(x):
        recognition(x)
        with pyro.plate("rows", len(x)):
            pyro.sample("noise", dist.Normal(0.0, 1.0))

    return more


CENTRES = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]])


def test_categories_come_to_name_the_modes_of_a_mixture():
    generator = torch.Generator().manual_seed(0)
    mode = torch.randint(4, (1024,), generator=generator)
    x = CENTRES[mode] + 0.2 * torch.randn(1024, 2, generator=generator)
    torch.manual_seed(0)
    game = {"divergence": "wasserstein", "gradient_penalty": 1.0, "critic_steps": 3, "critic_rate": 1e-3}
    program = InfoGAN((2,), categories=4, latent_dim=2, hidden=(64, 64), **game)
    found = fitted(program, x, 400, 1e-3, "trace")
    with torch.no_grad():
        category = program.recognized(x)["c"].probs.argmax(-1)
    assert _information(mode, category) > 0.9 * math.log(4)
    assert found.history["mutual_information[c;x]"].iloc[-50:].mean() > 0.9 * math.log(4)
    made = torch.stack([program.generate(torch.full((200,), number)) for number in range(4)])
    assert modes_covered(made.flatten(0, 1), CENTRES, radius=0.8).covered == 4
    at = torch.cdist(made, CENTRES).argmin(-1)
    assert _information(torch.arange(4).repeat_interleave(200), at.flatten()) > 0.9 * math.log(4)


def _information(first, second):
    """Of two labels, from the table of both, in nats."""
    table = torch.zeros(4, 4).index_put((first, second), torch.ones(len(first)), accumulate=True) / len(first)
    even = table.sum(0) * table.sum(1, keepdim=True)
    return float(torch.where(table > 0, table * (table / even).log(), 0.0).sum())


def test_an_info_gan_has_continuous_codes_too():
    program = InfoGAN((3,), categories=2, continuous=2, latent_dim=1, hidden=(8,))
    found = program.recognized(program.generate(6))
    assert found["c"].probs.shape == (6, 2)
    assert found["u"].mean.shape == (6, 2)
    assert program.generate(torch.tensor([0, 1, 1])).shape == (3, 3)
    values = program.default_objective().evaluate(program, torch.randn(9, 3), num_particles=4)
    assert values["mutual_information[c,u;x]"].shape == (9,)
    with pytest.raises(DataError, match="'rows' has values from 0 to 2, expected 0 to 1"):
        program.generate(torch.tensor([0, 2]))
    with pytest.raises(OptionError, match="weight=-1, expected 0 or more"):
        InfoGAN((3,), weight=-1)


def test_the_likelihood_of_features_is_that_of_a_normal():
    program, x = VAEGAN((6,), latent_dim=2, hidden=(8,)), torch.randn(5, 6)
    features = nn.Sequential(nn.Linear(6, 4), nn.Tanh())
    run = obj.Run(ppl.Program(program.model, program.guide), (x,), {}, num_particles=3)
    values = obj.feature_log_lik("x", features).values(run)["feature_log_lik[x]"]
    told = program.decoder(run.guide.nodes["z"]["value"])
    torch.testing.assert_close(values, dist.Normal(features(told), 1.0).log_prob(features(x)).sum(-1))


def test_of_an_observed_site_it_is_that_of_the_mean():
    program, x = ppl.models.VAE(6, 2, likelihood="gaussian"), torch.randn(5, 6)
    run = obj.Run(ppl.Program(program.model, program.guide), (x,), {})
    values = obj.feature_log_lik("x", nn.Identity()).values(run)["feature_log_lik[x]"]
    mean = program.decoder(run.guide.nodes["z"]["value"])
    torch.testing.assert_close(values, dist.Normal(mean, 1.0).log_prob(x).sum(-1).unsqueeze(0))


def test_features_of_what_is_not_there_are_refused():
    program, x = VAEGAN((6,), latent_dim=2, hidden=(8,)), torch.randn(5, 6)
    with pytest.raises(OptionError, match="features=3, expected a network"):
        obj.feature_log_lik("x", 3)
    with pytest.raises(UnknownNameError, match="no site 'y' observed or deterministic, in feature_log_lik"):
        obj.feature_log_lik("y", nn.Identity()).evaluate(program, x)


def test_each_network_of_a_vae_gan_has_the_terms_of_the_paper():
    """The encoder learns nothing by the game, the decoder nothing by the prior, the critic nothing by either."""
    torch.manual_seed(0)
    program, x = VAEGAN((6,), latent_dim=2, hidden=(8,)), torch.randn(20, 6)
    for term, of_encoder, of_decoder in (
        (obj.feature_log_lik("x", program.features), True, True),
        (obj.kl(), True, False),
        (program.game("x"), False, True),
    ):
        program.zero_grad()
        term.loss(program, x).backward()
        assert _moved(program.encoder) == of_encoder
        assert _moved(program.decoder) == of_decoder
    assert not {id(each) for each in program.parameters()} & {id(each) for each in program.critic.parameters()}


def _moved(network):
    return any(each.grad is not None and bool(each.grad.any()) for each in network.parameters())


def test_a_vae_gan_reconstructs_and_generates():
    generator = torch.Generator().manual_seed(0)
    angle = 6.3 * torch.rand(1200, generator=generator)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    x = circle @ torch.randn(2, 6, generator=generator) + 0.05 * torch.randn(1200, 6, generator=generator)
    torch.manual_seed(0)
    program = VAEGAN((6,), latent_dim=2, hidden=(32, 32), critic_rate=1e-3)
    fitted(program, x[:1000], 400, 1e-3, "trace")
    held = x[1000:]
    error = (program.reconstruct(held) - held).square().mean() / held.var(0).mean()
    assert error < 0.3
    made = program.generate(1000)
    at_random = x[:1000].mean(0) + x[:1000].std(0) * torch.randn(1000, 6)
    assert sliced_wasserstein(made, x[:1000]) < sliced_wasserstein(at_random, x[:1000])


def test_cycle_consistency_is_minus_the_absolute_errors_of_the_way_there_and_back():
    program, x, y = CycleGAN(2, 3, hidden=(8,)), torch.randn(5, 2), torch.randn(5, 3)
    found = obj.cycle_consistency(x="x_cycle", y="y_cycle").evaluate(program, x, y, num_particles=3)
    errors = (program.to_x(program.to_y(x)) - x).abs().sum(-1) + (program.to_y(program.to_x(y)) - y).abs().sum(-1)
    torch.testing.assert_close(found["cycle_consistency[x,y]"], (-errors - 5 * math.log(2)).detach())


def test_cycles_that_are_not_there_are_refused():
    program, data = CycleGAN(2, 3, hidden=(8,)), (torch.randn(5, 2), torch.randn(5, 3))
    with pytest.raises(OptionError, match="no cycle was given"):
        obj.cycle_consistency()
    with pytest.raises(UnknownNameError, match="no argument 'w' of the model, in cycle_consistency"):
        obj.cycle_consistency(w="x_cycle").evaluate(program, *data)
    with pytest.raises(UnknownNameError, match=r"no site 'cycle' in cycle_consistency\(x='cycle'\)"):
        obj.cycle_consistency(x="cycle").evaluate(program, *data)
    with pytest.raises(OptionError, match=r"generate was given \['z'\]"):
        program.generate(z=data[0])


PLACES = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.5]])
STRETCH, SHIFT = torch.tensor([1.5, 0.7]), torch.tensor([0.5, -0.5])


def _cloud(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    place = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), rows, replacement=True, generator=generator)
    return place, PLACES[place] + 0.2 * torch.randn(rows, 2, generator=generator)


def test_a_cycle_gan_finds_a_map_between_clouds_without_pairs():
    data = {"x": _cloud(1024, 1)[1], "y": STRETCH * _cloud(1024, 2)[1] + SHIFT}
    torch.manual_seed(0)
    game = {"divergence": "wasserstein", "gradient_penalty": 1.0, "critic_steps": 1, "critic_rate": 2e-3}
    program = CycleGAN(2, 2, hidden=(32, 32), **game)
    found = fitted(program, data, 200, 2e-3)
    assert {"adversarial[x]", "adversarial[y]", "critic[x]", "critic[y]"} <= set(found.history.columns)
    place, x = _cloud(1024, 3)
    made = program.generate(x=x)["y"]
    assert (torch.cdist(made, STRETCH * PLACES + SHIFT).argmin(-1) == place).double().mean() > 0.95
    assert (made - (STRETCH * x + SHIFT)).norm(dim=-1).mean() < 0.4
    assert (program.generate(y=made)["x"] - x).abs().mean() < 0.1


def test_the_critics_of_both_kinds_go_along_and_are_no_part_of_the_program():
    program = CycleGAN(2, 3, hidden=(8,)).double()
    assert all(
        each.dtype is torch.float64 for side in (program.to_x, program.to_y) for each in side.critic.parameters()
    )
    assert not any("critic" in name for name in program.state_dict())
