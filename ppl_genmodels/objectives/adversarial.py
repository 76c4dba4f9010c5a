r"""The adversarial term: a divergence between what is seen of some sites and what the model draws, told by a critic.

Convention of this module: the critic is called with the values of the sites, in their order, shape (rows, \*event)
each, and scores them, shape (rows) or (rows, 1), high where it takes them for data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.objectives.divergences import Divergence, NonSaturating
from ppl_genmodels.objectives.game import Game
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.past_samples import PastSamples
from ppl_genmodels.objectives.player import Player, Regularizer
from ppl_genmodels.objectives.term import Term, named

__all__ = ["adversarial"]


def adversarial(
    *sites_and_critic: str | nn.Module,
    divergence: Divergence | None = None,
    regularizers: Sequence[Regularizer] = (),
    critic_steps: int = 1,
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
    replay: PastSamples | None = None,
) -> Objective:
    r"""A divergence between the data's side and the model's of some sites, as a critic estimates it.

    .. math:: D(p \,\|\, q) = \max_T E_p[a(T(v))] - E_q[b(T(v))]

    The sites' values on the data's side are the guide's draws, or the data; on the model's side they are drawn from the
    prior. Of an observed site that makes the model a GAN, of a latent one an adversarial autoencoder, of both together
    BiGAN. An objective has it with a minus. ``fit`` trains the critic with an optimizer of its own before each update
    of the program.

    Reduction: averaged over particles and data. The value is the critic's estimate of the divergence, the gradient that
    of the cost which the divergence has for the program.

    Args:
        *sites_and_critic: Names of the sites, and last the critic, a module.
        divergence: :class:`~ppl_genmodels.objectives.NonSaturating` by default.
        regularizers: What the critic's bound is lessened by, beside the divergence's own penalty; called with the
            critic and both sides' values.
        critic_steps: Updates of the critic before each of the program, on the batch at first and then on rows drawn
            anew.
        optimizer: From parameters to the critic's optimizer; Adam at 4e-4 without momentum by default. A
            :class:`~ppl_genmodels.inference.LearningRate` steps its rate with the program's.
        replay: What mixes earlier draws of the model into those that the critic is trained on; None for none.

    Raises:
        OptionError: When there is no critic or no site, or an option is of the wrong kind.
        UnknownNameError: When a run has no site of a name.
        ProgramError: When a site is not in the plate of the data alone, or the critic's scores have another shape.

    References:
        Goodfellow and others (2014), Generative Adversarial Nets; Nowozin, Cseke and Tomioka (2016), f-GAN; Makhzani
        and others (2015), Adversarial Autoencoders; Dumoulin and others (2017), Adversarially Learned Inference.

    Example:
        >>> critic = nn.Linear(2, 1)
        >>> print(-adversarial("x", critic))
        - D[data(x) || model(x)]
    """
    sites, critic = _told_apart(sites_and_critic)
    divergence = NonSaturating() if divergence is None else divergence
    if not isinstance(divergence, Divergence):
        raise OptionError(f"adversarial: divergence={divergence!r}, expected a Divergence. Remedy: objectives.Hinge().")
    steps, own = check_size("adversarial", "critic_steps", critic_steps), divergence.penalty()
    player = Player(sites, critic, divergence, (*regularizers, *(() if own is None else (own,))), replay)
    name, shown = named("adversarial", sites), ",".join(sites)
    bound = Objective.of(Term(named("critic", sites), f"T[{shown}]", rf"T[{shown}]", player.bound))
    game = Game(player, bound, steps, optimizer)
    latex = rf"D[p_{{\mathrm{{data}}}}({shown}) \,\|\, p({shown})]"
    return Objective.of(Term(name, f"D[data({shown}) || model({shown})]", latex, player.values, game=game))


def _told_apart(given: tuple[Any, ...]) -> tuple[tuple[str, ...], nn.Module]:
    *names, critic = given or ("",)
    if not isinstance(critic, nn.Module) or not names or not all(isinstance(name, str) for name in names):
        raise OptionError(
            f"adversarial: expected names of sites and then a critic, an nn.Module; got {given!r}. Remedy: "
            f"adversarial('x', critic)."
        )
    return tuple(names), critic
