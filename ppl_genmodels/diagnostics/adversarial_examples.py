r"""Adversarial examples: inputs near given ones that a classifier takes for another class.

Convention of this module: a classifier gives scores of shape (rows, classes), and decides for the highest; distances
are Euclidean, in the units of its input. It is the classifier's own decision that is attacked, right or wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_genmodels.errors import OptionError
from ppl_genmodels.networks.sizes import check_size

__all__ = ["AdversarialExamples", "adversarial_examples"]


@dataclass(frozen=True)
class AdversarialExamples:
    r"""What an attack found.

    Attributes:
        x: The worst input in each ball, shape (rows, \*event).
        margin: The score of the class decided for less the highest of the others there, shape (rows).
        found: Whether the decision is another, shape (rows).
    """

    x: Tensor
    margin: Tensor
    found: Tensor

    def __str__(self) -> str:
        count = int(self.found.sum())
        return f"The decision is another somewhere in {count} of {len(self.found)} balls."


def adversarial_examples(
    classifier: Callable[[Tensor], Tensor],
    x: Tensor,
    radius: Tensor | float,
    steps: int = 20,
    restarts: int = 1,
    seed: int = 0,
) -> AdversarialExamples:
    r"""Searches balls for the input with the least margin, by projected gradient descent from random points of them.

    Args:
        classifier: From inputs, shape (rows, \*event), to scores.
        x: The centres, shape (rows, \*event).
        radius: Of each ball, shape (rows), or of all.
        steps: Of each descent; each is a quarter of the radius long at first, and shorter towards the end.
        restarts: How many descents for each ball.
        seed: Of the random points.

    Returns:
        The worst of all points that were visited. That none was found is no proof that there is none.

    Raises:
        OptionError: When a number is no positive integer, or a radius negative.

    References:
        Madry, Makelov, Schmidt, Tsipras and Vladu (2018), Towards Deep Learning Models Resistant to Adversarial
        Attacks, section 2.1.

    Example:
        >>> classifier = torch.nn.Linear(2, 2)
        >>> _ = classifier.weight.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), classifier.bias.data.zero_()
        >>> print(adversarial_examples(classifier, torch.tensor([[1.0, 0.0], [3.0, 0.0]]), radius=2.0))
        The decision is another somewhere in 1 of 2 balls.
    """
    check_size("adversarial_examples", "steps", steps)
    check_size("adversarial_examples", "restarts", restarts)
    radii = torch.as_tensor(radius, dtype=x.dtype, device=x.device).expand(len(x))
    if not bool((radii >= 0).all()):
        raise OptionError(f"adversarial_examples: the least radius is {radii.min():.4g}, expected 0 or more.")
    generator = torch.Generator(x.device).manual_seed(seed)
    with torch.no_grad():
        decided = classifier(x).argmax(-1)
    search = _Search(classifier, x, radii.reshape(-1, *(1,) * (x.dim() - 1)), decided)
    for _ in range(restarts):
        search.descend(torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device), steps)
    return AdversarialExamples(search.worst, search.least, search.least < 0)


class _Search:
    """The worst input of each ball so far."""

    def __init__(self, classifier: Callable[[Tensor], Tensor], x: Tensor, radii: Tensor, decided: Tensor) -> None:
        self.classifier, self.x, self.radii, self.decided = classifier, x, radii, decided
        self.worst, self.least = x.clone(), self._margin(x)[0]

    def descend(self, direction: Tensor, steps: int) -> None:
        """One descent from the sphere's point in a direction."""
        step = self.radii * _unit(direction)
        for number in range(steps + 1):
            point = self.x + step
            margin, slope = self._margin(point)
            better = margin < self.least
            self.least = torch.where(better, margin, self.least)
            self.worst = torch.where(better.reshape(self.radii.shape), point, self.worst)
            step = step - 0.25 * (1 - 0.9 * number / steps) * self.radii * _unit(slope)
            step = step * (self.radii / _length(step).clamp(min=torch.finfo(step.dtype).tiny)).clamp(max=1.0)

    def _margin(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """The margin of the class decided for, and its gradient."""
        point = point.detach().requires_grad_()
        with torch.enable_grad():
            scores = self.classifier(point)
            own = scores.gather(-1, self.decided.unsqueeze(-1)).squeeze(-1)
            others = scores.scatter(-1, self.decided.unsqueeze(-1), -torch.inf)
            margin = own - others.max(-1).values
            (slope,) = torch.autograd.grad(margin.sum(), point)
        return margin.detach(), slope


def _length(value: Tensor) -> Tensor:
    return value.flatten(1).norm(dim=1).reshape(-1, *(1,) * (value.dim() - 1))


def _unit(value: Tensor) -> Tensor:
    return value / _length(value).clamp(min=torch.finfo(value.dtype).tiny)
