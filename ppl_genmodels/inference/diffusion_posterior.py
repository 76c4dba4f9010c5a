r"""The posterior of a site whose prior is a diffusion, given the rest of the program, by twisted particles.

Convention of this module: particles go along the ancestral chain from time 1, noise, to time 0, data, and stand to the
left of all plates; each place of the plates around the site has a posterior, weights and an evidence of its own. The
variance of a step includes that of the data given the noisy value, as if they were normal, where none was learned.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_genmodels.distributions.reverse_step import reverse_step
from ppl_genmodels.errors import ProgramError
from ppl_genmodels.inference.draws import Draws
from ppl_genmodels.inference.resampling import effective_size, successors, taken
from ppl_genmodels.inference.site_factor import SiteFactor
from ppl_genmodels.inference.twist import Twist, Twisted, information_grid, remaining_variance
from ppl_genmodels.networks.guided import pulled
from ppl_genmodels.networks.sizes import check_size
from ppl_genmodels.program import as_program
from ppl_genmodels.structure import plates_of

__all__ = ["DiffusionPosterior", "diffusion_posterior"]

LOW = 0.05
"""Share of the particles below which an effective size is warned of."""


@dataclass(frozen=True)
class DiffusionPosterior:
    r"""Draws of a site given the rest of its program, and what tells how good they are.

    Attributes:
        site: Its name.
        samples: Equally weighted, shape (particles, \*plates, \*event).
        log_evidence: The estimate of :math:`\log p(y)` in nats, shape (\*plates); its exponential is unbiased for the
            chain of so many steps.
        effective_size: How many particles counted at each time, from 1 to 0, before resampling; shape
            (steps + 1, \*plates).
        plates: Names of the plates.
    """

    site: str
    samples: Tensor
    log_evidence: Tensor
    effective_size: Tensor
    plates: tuple[str, ...] = ()

    def draws(self) -> Draws:
        """On the host, as one chain; ``diagnostics.to_inference_data`` takes it from there."""
        events = self.samples.dim() - 1 - len(self.plates)
        dims = (*self.plates, *(f"{self.site}_dim_{number}" for number in range(events)))
        attrs = {"method": "twisted diffusion", "data_plate": self.plates[0] if self.plates else ""}
        return Draws({self.site: self.samples.unsqueeze(0).cpu().numpy()}, {self.site: dims}, attrs=attrs)


def diffusion_posterior(
    program: Any,
    *args: Any,
    site: str | None = None,
    particles: int = 256,
    steps: int = 100,
    seed: int = 0,
    **kwargs: Any,
) -> DiffusionPosterior:
    r"""Draws of a diffusion's site from its posterior, given the rest of the program.

    What multiplies the prior is the density of all other sites, :math:`p(x \mid y) \propto p(x) \, r(x)`: a likelihood
    of any kind, several of them, or a ``pyro.factor``. Particles follow the ancestral chain, pulled by the factor as it
    is seen through the denoiser; weights correct what that leaves out, so that draws and evidence are exact in the
    limit of many particles, for the prior that the chain of so many steps draws from.

    Draws of one run may have ancestors in common, and differ less than they should when resampling was frequent. For
    independent ones repeat the rows of the data, and take one draw of each. All particles of all rows are held at once.

    Of a learned denoiser the expected data are what counts, at high noise too, which ``denoising(weight="snr")`` asks
    for and ``"simple"`` hardly does.

    A part of the value that is known exactly (inpainting) is a ``Normal`` likelihood of it whose scale is the
    diffusion's least noise, 0.01 with most noisings; a smaller one asks for what the chain can not see.

    Args:
        program: A program or a model; one latent site, whose distribution is a
            :class:`~ppl_genmodels.distributions.Diffusion`.
        *args: Data, as the model takes them.
        site: Its name; not needed when there is but one.
        particles: How many draws, for each place of the plates around the site.
        steps: Of the chain.
        seed: Of all randomness.
        **kwargs: Data, as the model takes them.

    Raises:
        OptionError: When a number is no positive integer.
        UnknownNameError: When there is no site of that name.
        ProgramError: When the site is no latent diffusion or not the only latent site, when its places share another
            site, or when the model does not broadcast over particles or gives no density.

    Warns:
        UserWarning: When few particles count.

    References:
        Wu, Trippe, Naesseth, Blei and Cunningham (2023), Practical and Asymptotically Exact Conditional Sampling in
        Diffusion Models, algorithm 1; Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), section 2.5, for the
        multiplication; Bao, Li, Zhu and Zhang (2022), Analytic-DPM, theorem 1, for the variance of a step.

    Example:
        >>> import pyro
        >>> from ppl_genmodels.distributions import Diffusion
        >>> from ppl_genmodels.networks import CosineNoising, Denoiser, TimeMLP
        >>> from ppl_genmodels.transforms import ProbabilityFlow
        >>> flow = ProbabilityFlow(Denoiser(TimeMLP(2), CosineNoising()), (2,))
        >>> def model(y):
        ...     with pyro.plate("data", len(y)):
        ...         x = pyro.sample("x", Diffusion(flow))
        ...         pyro.sample("y", dist.Normal(x.sum(-1), 0.5), obs=y)
        >>> found = diffusion_posterior(model, torch.tensor([0.0, 1.0, 2.0]), particles=20, steps=10)
        >>> found.samples.shape, found.log_evidence.shape
        (torch.Size([20, 3, 2]), torch.Size([3]))
    """
    check_size("diffusion_posterior", "particles", particles)
    check_size("diffusion_posterior", "steps", steps)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        factor = SiteFactor.of(as_program(program).model, args, kwargs, site)
        denoiser, base = factor.denoiser, factor.layer.base_loc
        noise = torch.randn(
            particles + 2, *factor.batch, *factor.layer.event_shape, dtype=base.dtype, device=base.device
        )
        factor.check(denoiser.data_scale * noise[:2])
        times = information_grid(denoiser, steps, base)
        _, sigma = denoiser.scales(times[0])
        return _result(factor, _carried(Twist.of(factor, particles), sigma * noise[2:], times), times)


@dataclass(frozen=True)
class _Cloud:
    """Weighted particles, the evidence so far, and the effective sizes at all times."""

    noisy: Tensor
    seen: Twisted
    log_weight: Tensor
    log_evidence: Tensor
    sizes: list[Tensor]


def _carried(twist: Twist, noisy: Tensor, times: Tensor) -> _Cloud:
    """The particles at the end of the chain."""
    seen = twist(noisy, times[0])
    cloud = _Cloud(noisy, seen, seen.log_value, torch.zeros_like(seen.log_value[0]), [])
    for time, earlier in pairwise(times):
        cloud = _step(twist, cloud, time, earlier)
    return cloud


def _step(twist: Twist, cloud: _Cloud, time: Tensor, earlier: Tensor) -> _Cloud:
    """Resampling where it is due, and one step of the chain, pulled and weighted."""
    size = effective_size(cloud.log_weight)
    chosen, weight, gained = _resampled(cloud.log_weight, size < len(cloud.noisy) / 2)
    mean, toward, scale = (taken(part, chosen) for part in _proposed(twist, cloud, time, earlier))
    prior, proposal = dist.Normal(mean, scale), dist.Normal(toward, scale)
    noisy = proposal.sample()
    seen = twist(noisy, earlier)
    ratio = (prior.log_prob(noisy) - proposal.log_prob(noisy)).flatten(weight.dim()).sum(-1)
    weight = weight + ratio + seen.log_value - taken(cloud.seen.log_value, chosen)
    weight = weight.nan_to_num(nan=-math.inf, neginf=-math.inf)  # once a particle's weight is zero it stays so
    return _Cloud(noisy, seen, weight, cloud.log_evidence + gained, [*cloud.sizes, size])


def _proposed(twist: Twist, cloud: _Cloud, time: Tensor, earlier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means of the chain's own step and of the one that is drawn from, and their scale, all of the particles' shape."""
    denoiser, found = twist.factor.denoiser, cloud.seen.found
    mean, variance = reverse_step(denoiser, found, cloud.noisy, time, earlier)
    toward, _ = reverse_step(denoiser, pulled(found, cloud.seen.gradient), cloud.noisy, time, earlier)
    if found.widening is None:
        variance = variance + _variance_of_mean(denoiser, time, earlier)
    shape = cloud.noisy.shape
    return mean.expand(shape), toward.expand(shape), variance.sqrt().expand(shape)


def _variance_of_mean(denoiser: Any, time: Tensor, earlier: Tensor) -> Tensor:
    """What a step's variance lacks because its mean is that of the expected data and not of the data."""
    alpha, _ = denoiser.scales(earlier)
    share = -torch.expm1(denoiser.noising.log_snr(time) - denoiser.noising.log_snr(earlier))
    return (alpha * share) ** 2 * remaining_variance(denoiser, time)


def _resampled(log_weight: Tensor, due: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which particles go on, their weights, and what the evidence gains, where resampling is due."""
    count = len(log_weight)
    gained = log_weight.logsumexp(0) - math.log(count)
    if not gained.isfinite().all():
        raise ProgramError(
            "the model's density is zero, or infinite, at every value that the diffusion has tried. Remedy: a "
            "likelihood that is positive everywhere, or a factor that falls off instead of ending."
        )
    stay = torch.arange(count, device=due.device).reshape(-1, *(1,) * due.dim()).expand(log_weight.shape)
    chosen = torch.where(due, successors(log_weight), stay)
    zero = torch.zeros_like(gained)
    return chosen, torch.where(due, zero, log_weight), torch.where(due, gained, zero)


def _result(factor: SiteFactor, cloud: _Cloud, times: Tensor) -> DiffusionPosterior:
    """The particles, equally weighted and in random order, without the dims that are no plates of the site."""
    chosen, _, gained = _resampled(cloud.log_weight, torch.ones_like(cloud.log_evidence, dtype=torch.bool))
    chosen = taken(chosen, torch.rand_like(cloud.log_weight).argsort(0))
    samples = factor.at_site(taken(cloud.seen.found.data, chosen))
    sizes = torch.stack([*cloud.sizes, effective_size(cloud.log_weight)])
    _warn_where_few(factor, sizes, len(samples), times)
    plates = sorted(plates_of(factor.node), key=lambda plate: plate.dim)
    shape = tuple(plate.size for plate in plates)
    return DiffusionPosterior(
        site=factor.name,
        samples=samples.reshape(len(samples), *shape, *factor.flow.event_shape),
        log_evidence=(cloud.log_evidence + gained).reshape(shape),
        effective_size=sizes.reshape(len(sizes), *shape),
        plates=tuple(plate.name for plate in plates),
    )


def _warn_where_few(factor: SiteFactor, sizes: Tensor, particles: int, times: Tensor) -> None:
    """Says at which time how few particles counted."""
    least, places = sizes.min(), (sizes.amin(0) < LOW * particles).sum().item()
    if not places:
        return
    at = times[sizes.flatten(1).amin(1).argmin()] if sizes.dim() > 1 else times[sizes.argmin()]
    of_all = f" ({places} of {sizes[0].numel()} places have below {LOW:.0%})" if sizes[0].numel() > 1 else ""
    warnings.warn(
        f"diffusion_posterior: at time {at.item():.2g} only {least.item():.1f} of {particles} particles of site "
        f"'{factor.name}' counted{of_all}: the draws may miss parts of the posterior, and the evidence be wrong. "
        f"Remedy: more steps, then more particles, a denoiser fitted with weight='snr', or a wider likelihood.",
        stacklevel=4,  # where diffusion_posterior was called
    )
