"""The adversarial program of symbols: what its critic sees, how gradients pass, and that it learns a small language."""

from functools import partial

import numpy as np
import pytest
import torch

import ppl_genmodels as ppl
from ppl_genmodels import objectives as obj
from ppl_genmodels.diagnostics import ngram_divergence
from ppl_genmodels.errors import DataError, OptionError
from ppl_genmodels.models import SymbolGAN
from ppl_genmodels.networks import SequenceCritic, SequenceDecoder
from ppl_genmodels.program import as_program

OUTPUTS = ("softmax", "gumbel")
SIZES = {"length": 4, "symbols": 3, "latent_dim": 4, "width": 16, "blocks": 1, "kernel": 3}


def program(output="softmax", **options):
    torch.manual_seed(0)
    return SymbolGAN(**(SIZES | options), output=output)


def language(rows=512):
    """Rows abca and bcab and cabc, with even chances."""
    starts = torch.randint(3, (rows, 1), generator=torch.Generator().manual_seed(0))
    return (starts + torch.arange(4)) % 3


def sides(made, rows, step=0):
    """What the critic is to tell apart."""
    (game,) = made.default_objective().games
    return game.player.sides(obj.Run(as_program(made), (rows,), {}, step=step))


@torch.no_grad()
def indifferent(made):
    """The same program with one distribution of symbols whatever the latent, its probabilities returned."""
    made.generator.start.weight.zero_()
    made.generator.logits.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    return made.generator(torch.zeros(4)).softmax(-1)


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_critic_sees_data_as_one_hot_vectors_and_draws_inside_the_simplex(output):
    rows = language(50)
    with torch.no_grad():
        first, second = sides(program(output), rows)
    assert torch.equal(first[0], torch.nn.functional.one_hot(rows, 3).float())
    torch.testing.assert_close(second[0].sum(-1), torch.ones(50, 4))
    assert ((second[0] > 0) & (second[0] < 1)).float().mean() > 0.9


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_gradient_passes_to_every_parameter(output):
    made = program(output)
    made.default_objective().loss(made, language(20)).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in made.parameters())


def test_the_gradient_of_a_relaxed_draw_is_that_of_its_formula():
    """One place, two symbols and a linear critic: the derivative of a logistic function of the logits' difference."""
    made = program("gumbel", length=1, symbols=2, temperature=0.7)
    last = made.generator.logits
    with torch.no_grad():
        made.generator.start.weight.zero_()
    made.critic.forward = lambda x: x[..., 0, 0]
    rows = torch.zeros(30, 1, dtype=torch.long)
    torch.manual_seed(3)
    made.default_objective().loss(made, rows).backward()
    torch.manual_seed(3)
    drawn = sides(made, rows).second[0][:, 0, 0]
    expected = -(drawn * (1 - drawn)).mean() / 0.7
    torch.testing.assert_close(last.bias.grad, torch.stack([expected, -expected]))


def test_relaxed_draws_are_nearest_to_symbols_as_often_as_these_are_drawn():
    made = program("gumbel")
    probabilities = indifferent(made)
    nearest = sides(made, language(4000)).second[0].argmax(-1)
    error = (probabilities * (1 - probabilities) / 4000).sqrt()
    for symbols in (nearest, made.generate(4000)):
        shares = torch.nn.functional.one_hot(symbols, 3).float().mean(0)
        assert ((shares - probabilities).abs() < 4.5 * error).all()


def test_the_temperature_falls_with_the_steps():
    """With the same noise, logs of relaxed draws differ by amounts that go with the inverse temperature."""
    made = program("gumbel", temperature=2.0, last_temperature=0.5, annealing_steps=10)
    spreads = []
    for step in (0, 5, 10, 20):
        torch.manual_seed(1)
        logs = sides(made, language(5), step).second[0].detach().double().log()
        spreads.append(logs - logs.mean(-1, keepdim=True))
    for spread, ratio in zip(spreads[1:], (2.0, 4.0, 4.0), strict=True):
        torch.testing.assert_close(spread, ratio * spreads[0], rtol=1e-3, atol=1e-3)


def test_softmax_output_generates_the_likeliest_symbols():
    made = program()
    probabilities = indifferent(made)
    assert torch.equal(made.generate(5), probabilities.argmax(-1).expand(5, 4))


@pytest.mark.parametrize("output", OUTPUTS)
def test_sampled_sites_are_probabilities_or_one_hot(output):
    made = program(output)
    found = ppl.fit(made, language(64), steps=1, compile="off", progress=False).sample(9, seed=0)
    assert found["v"].shape == (9, 4, 3)
    assert bool(((found["v"] == 0) | (found["v"] == 1)).all()) == (output == "gumbel")
    assert torch.equal(found["x"], found["v"].argmax(-1))


def test_particles_are_more_rows():
    made, rows = program("gumbel"), language(6)
    (game,) = made.default_objective().games
    run = obj.Run(as_program(made), (rows,), {}, num_particles=5)
    first, second = game.player.sides(run)
    assert first[0].shape == second[0].shape == (30, 4, 3)
    assert torch.equal(first[0].argmax(-1), rows.repeat(5, 1))
    assert torch.equal(second[0].argmax(-1), run.prior.deterministic["x"]["value"].flatten(0, 1))


@pytest.mark.parametrize("output", OUTPUTS)
def test_it_learns_a_language_of_three_rows(output):
    adam = partial(torch.optim.Adam, lr=5e-3, betas=(0.5, 0.9), fused=True)
    made = program(output, width=8, critic_rate=5e-3, critic_steps=3, gradient_penalty=1.0)
    before = ngram_divergence(made.generate(500), language(), 4)
    ppl.fit(made, language(), steps=100, batch_size=32, optimizer=adam, compile="off", progress=False)
    assert ngram_divergence(made.generate(500), language(), 4) < before / 3


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_traced_step_has_the_numbers_of_the_eager_one(output):
    found = []
    for compile in ("off", "trace"):
        made = program(output, last_temperature=0.5, critic_steps=2)
        history = ppl.fit(made, language(64), steps=4, batch_size=32, compile=compile, progress=False).history
        found.append(history.drop(columns=["time", "validation"]))
    assert (found[0] - found[1]).abs().max().max() < 1e-4


def test_networks_take_any_batch_dims():
    torch.manual_seed(0)
    decoder, critic = SequenceDecoder(3, 5, 4, width=6), SequenceCritic(5, 4, width=6)
    vectors = torch.randn(2, 7, 3)
    logits = decoder(vectors)
    torch.testing.assert_close(logits[1], decoder(vectors[1]))
    torch.testing.assert_close(critic(logits)[1], critic(logits[1]))
    assert decoder(vectors[0, 0]).shape == (5, 4)
    assert critic(logits[0, 0]).shape == ()


def test_a_symbol_moves_only_the_scores_that_see_it():
    """One block of kernel 3 sees two places to either side."""
    critic = SequenceCritic(9, 2, width=4, blocks=1, kernel=3)
    sequence = torch.rand(9, 2, requires_grad=True)
    hidden = critic.blocks(critic.start(sequence).T.unsqueeze(0))[0, :, 4].sum()
    seen = torch.autograd.grad(hidden, sequence)[0].abs().sum(-1) > 0
    assert seen.nonzero().flatten().tolist() == [2, 3, 4, 5, 6]


def test_options_come_from_rows_of_whole_numbers():
    assert SymbolGAN.options_for({"x": np.array([[0, 4, 1], [2, 2, 0]])}) == {"length": 3, "symbols": 5}
    with pytest.raises(DataError, match="expected \\(rows, length\\) of whole numbers"):
        SymbolGAN.options_for({"x": np.zeros((3, 2))})


def test_what_is_no_option_or_no_symbol_is_refused():
    with pytest.raises(OptionError, match="output='argmax', expected one of 'softmax', 'gumbel'"):
        program("argmax")
    with pytest.raises(OptionError, match="kernel=4, expected an odd number"):
        program(kernel=4)
    with pytest.raises(OptionError, match="temperature"):
        program("gumbel", temperature=0.0)
    with pytest.raises(DataError, match="values from 0 to 3, expected 0 to 2"):
        program().model(torch.tensor([[0, 1, 2, 3]]))
    with pytest.raises(DataError, match=r"has dtype torch\.float32, expected integers"):
        program().model(torch.zeros(1, 4))
