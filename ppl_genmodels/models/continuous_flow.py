r"""The continuous flow: a density of rows of numbers by an ordinary differential equation, maybe in more dimensions.

Convention of this module: one observed site ``x`` in the plate ``data``. With augmented dimensions there is a latent
site ``z`` beside it, whose first numbers are ``x``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_genmodels.distributions import Augmented
from ppl_genmodels.errors import OptionError
from ppl_genmodels.models.catalogue import register
from ppl_genmodels.models.checks import missing_data
from ppl_genmodels.models.row_flow import RowFlow
from ppl_genmodels.networks import MLP, TimeMLP
from ppl_genmodels.networks.sizes import check_size, check_sizes
from ppl_genmodels.transforms import Continuous
from ppl_genmodels.transforms.coupling import zero_last

__all__ = ["ContinuousFlow"]

Field = Literal["perceptron", "residual"]


@register("continuous_flow")
class ContinuousFlow(RowFlow):
    r"""Density of rows of numbers by a continuous flow, in as many dimensions or more.

    .. math:: x = \mu + \sigma x_1, \quad \dot x_t = f(x_t, t), \quad x_0 \sim \mathcal N(0, I)

    Paths of a continuous flow never cross, so that a density with a hole or with several parts asks for steep fields.
    With ``augmented`` numbers :math:`e` beside :math:`x` they may pass one another: the flow is a density of
    :math:`z = (x, e)`, latent, and the guide proposes :math:`e \sim q(e \mid x)`, a normal that a network reads off
    :math:`x` and that starts standard. What is maximised is a bound, which importance weights make tight.

    Args:
        data_dim: Length of a row.
        hidden: Widths of the hidden layers of the velocity, and of the guide's network.
        field: The velocity's network: ``"perceptron"``, which is smooth, so that paths are easy to solve; or
            ``"residual"``, blocks of the first width for as many as there are widths, which learns sharp fields by
            flow matching. Fitted by likelihood, a sharp field makes use of the errors of a solver of few fixed steps.
        augmented: How many numbers beside those of the data.
        trace: ``"exact"`` or ``"hutchinson"``.
        gradient: ``"direct"`` or ``"adjoint"``.
        solver: As :class:`~ppl_genmodels.transforms.Continuous` has them.
        steps: Of a solver that is not adaptive.

    Raises:
        OptionError: When a size is no positive integer, or another option is unknown.

    References:
        Grathwohl and others (2019), FFJORD, section 3; Huang, Dinh and Courville (2020), Augmented Normalizing Flows;
        Chen, Lu, Chenli, Zhu and Tian (2020), VFlow.

    Example:
        >>> import torch
        >>> program = ContinuousFlow(data_dim=3, hidden=(8,), augmented=2)
        >>> x = torch.randn(5, 3)
        >>> program.guide(x).shape, program.density().log_prob(torch.randn(5, 5)).shape
        (torch.Size([5, 5]), torch.Size([5]))
    """

    def __init__(
        self,
        data_dim: int,
        hidden: Sequence[int] = (64, 64),
        field: Field = "perceptron",
        augmented: int = 0,
        trace: str = "exact",
        gradient: str = "direct",
        solver: str = "dopri5",
        steps: int = 20,
    ) -> None:
        if field not in get_args(Field) or (field == "residual" and not hidden):
            raise OptionError(
                f"ContinuousFlow: field is 'perceptron' or 'residual', which needs hidden widths; got {field!r} with "
                f"hidden={hidden!r}."
            )
        check_size("ContinuousFlow", "data_dim", data_dim)
        widths = check_sizes("ContinuousFlow", "hidden", hidden)
        augmented = _none_or_size(augmented)
        layer = Continuous(
            data_dim + augmented,
            widths,
            _residual(data_dim + augmented, widths) if field == "residual" else None,
            trace=trace,  # type: ignore[arg-type]
            gradient=gradient,  # type: ignore[arg-type]
            solver=solver,
            steps=steps,
        )
        super().__init__(data_dim, [layer], augmented)
        self.augmented = augmented
        if augmented:
            self.proposal = MLP(self.data_dim, 2 * augmented, widths, nn.SiLU)
            zero_last(self.proposal.layers)
            self.guide = self._propose  # without augmented numbers nothing is latent and there is no guide

    def row(self, x: Tensor | None) -> Tensor:
        """The sites of a row, inside the plate: ``x``, and ``z`` before it when the flow is augmented."""
        if not self.augmented:
            return super().row(x)
        z = pyro.sample("z", self.density())
        return pyro.sample("x", dist.Delta(z[..., : self.data_dim]).to_event(1), obs=x)

    def _propose(self, x: Tensor | None = None) -> Tensor:
        """Appends numbers to each row.

        Args:
            x: The data, ``(rows, data_dim)``.

        Returns:
            Rows with augmented numbers behind them, ``(..., rows, data_dim + augmented)``.

        Raises:
            ProgramError: When there are no data.
            DataError: As :meth:`model`.
        """
        if x is None:
            raise missing_data(self, "x")
        with pyro.plate("data", self.checked(x)):
            loc, log_scale = self.proposal(x).chunk(2, -1)
            return pyro.sample("z", Augmented(x, dist.Normal(loc, log_scale.exp()).to_event(1)))


def _residual(features: int, widths: Sequence[int]) -> TimeMLP:
    return TimeMLP(features, widths[0], len(widths))


def _none_or_size(augmented: object) -> int:
    if augmented == 0:
        return 0
    try:
        return check_size("ContinuousFlow", "augmented", augmented)
    except OptionError as error:
        raise OptionError(f"ContinuousFlow: augmented={augmented!r}, expected 0 or more.") from error
