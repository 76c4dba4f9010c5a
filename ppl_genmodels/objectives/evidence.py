"""The terms of the evidence bound: log-likelihood, log-density, divergence, entropy, and the importance-weighted bound.

Convention of this module: every function returns an :class:`Objective` of one term with weight one, except
:func:`elbo`, which is the sum of two. Site names restrict a term to those sites.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_genmodels.errors import OptionError, ProgramError
from ppl_genmodels.objectives.objective import Objective
from ppl_genmodels.objectives.run import Part, Run
from ppl_genmodels.objectives.term import Term, called, named
from ppl_genmodels.structure import Node, is_delta

__all__ = ["elbo", "entropy", "iwae", "kl", "log_lik", "log_prob", "log_weight"]

Method = Literal["auto", "closed_form", "monte_carlo"]


def log_lik(*sites: str) -> Objective:
    """The expected log-likelihood: the log-density of the observed sites, and of factors, under the guide's draws.

    Reduction: summed over a datum's sites and inner plates, averaged over particles and data.

    Args:
        *sites: Names of observed sites; none means all of them, and all factors.

    Raises:
        UnknownNameError: When a run has no observed site of that name.

    References:
        Kingma and Welling (2014), Auto-Encoding Variational Bayes, equation 3.

    Example:
        >>> print(log_lik())
        E_q[log p(x|z)]
    """

    def values(run: Run) -> Tensor:
        observed = {node["name"]: node for node in run.model.observed}
        return run.log_prob(run.select(observed, sites, called("log_lik", sites)))

    shown = ", ".join(sites) or "x"
    formula, latex = f"E_q[log p({shown}|z)]", rf"\mathbb{{E}}_q[\log p({shown} \mid z)]"
    return Objective.of(Term(named("log_lik", sites), formula, latex, values))


def log_prob(*sites: str) -> Objective:
    """The expected log-density of the model's sites, latent and observed, under the guide's draws.

    Reduction: as :func:`log_lik`.

    Args:
        *sites: Names of sites of the model; none means all of them, which is the expected log-joint.

    Raises:
        UnknownNameError: When a run has no site of that name.

    Example:
        >>> print(log_prob("z"))
        E_q[log p(z)]
    """

    def values(run: Run) -> Tensor:
        return run.log_prob(run.select(run.model.nodes, sites, called("log_prob", sites)))

    shown = ", ".join(sites) or "x, z"
    return Objective.of(
        Term(
            named("log_prob", sites),
            f"E_q[log p({shown})]",
            rf"\mathbb{{E}}_q[\log p({shown})]",
            values,
        )
    )


def kl(*sites: str, method: Method = "auto") -> Objective:
    """The divergence of the guide from the prior.

    In closed form for each latent site where torch registers one and the site's parents in the model all come
    before it in the guide; otherwise from the shared draw, log q - log p. Sites of nested latents give the
    divergence of conditionals under the guide's draws of their parents.

    Reduction: summed over a datum's sites and inner plates, averaged over particles and data; a global site counts
    once over the whole data set.

    Args:
        *sites: Names of latent sites; none means all of them.
        method: ``"auto"`` as above, or one of the two forced.

    Raises:
        UnknownNameError: When a run has no latent site of that name.
        ProgramError: When the closed form is forced and there is none.

    References:
        Kingma and Welling (2014), Auto-Encoding Variational Bayes, appendix B.

    Example:
        >>> print(kl("z"))
        KL[q(z|x) || p(z)]
    """
    if method not in ("auto", "closed_form", "monte_carlo"):
        raise OptionError(f"kl: method is 'auto', 'closed_form' or 'monte_carlo', got {method!r}.")
    shown = ", ".join(sites) or "z"
    formula = f"KL[q({shown}|x) || p({shown})]"
    latex = rf"\mathrm{{KL}}[q({shown} \mid x) \,\|\, p({shown})]"
    return Objective.of(Term(named("kl", sites), formula, latex, partial(_kl, sites=sites, method=method)))


def entropy(*sites: str, method: Method = "auto") -> Objective:
    """The entropy of the guide: in closed form where the distribution has one, otherwise -log q of the shared draw.

    Reduction: as :func:`kl`.

    Args:
        *sites: Names of latent sites; none means all of them.
        method: ``"auto"``, ``"closed_form"`` or ``"monte_carlo"``.

    Raises:
        UnknownNameError: When a run has no latent site of that name.
        ProgramError: When the closed form is forced and there is none.

    Example:
        >>> print(entropy())
        H[q(z|x)]
    """
    if method not in ("auto", "closed_form", "monte_carlo"):
        raise OptionError(f"entropy: method is 'auto', 'closed_form' or 'monte_carlo', got {method!r}.")

    def values(run: Run) -> Tensor:
        nodes = run.select(run.guide.latent, sites, called("entropy", sites))
        return run.total(_entropy(run, node, method) for node in nodes)

    shown = ", ".join(sites) or "z"
    formula, latex = f"H[q({shown}|x)]", rf"\mathrm{{H}}[q({shown} \mid x)]"
    return Objective.of(Term(named("entropy", sites), formula, latex, values))


def elbo(method: Method = "auto") -> Objective:
    """The evidence lower bound, ``log_lik() - kl()``.

    Args:
        method: How the divergence is computed, as in :func:`kl`.

    References:
        Kingma and Welling (2014), Auto-Encoding Variational Bayes, equations 2 and 3.

    Example:
        >>> print(elbo())
        E_q[log p(x|z)] - KL[q(z|x) || p(z)]
    """
    return log_lik() - kl(method=method)


def iwae() -> Objective:
    r"""The importance-weighted bound :math:`E_q[\log \frac1K \sum_k p(x, z_k) / q(z_k|x)]`, K the run's particles.

    Taken for each datum by itself when every latent site is local. With global latent sites the weights are those of
    the whole data set, which must be in one batch.

    Reduction: averaged over the data.

    Raises:
        ProgramError: When latent sites are global and the batch is a part of the data: the bound of a part says
            nothing about the whole.

    References:
        Burda, Grosse and Salakhutdinov (2016), Importance Weighted Autoencoders, equation 8.

    Example:
        >>> print(iwae())
        E_q[log mean_k p(x,z_k) / q(z_k|x)]
    """

    def values(run: Run) -> Tensor:
        bound = log_weight(run).logsumexp(0, keepdim=True) - math.log(run.num_particles)
        return _over_data(run, bound)

    def without_particle(run: Run) -> Tensor:
        left_out = _leave_one_out_bound(log_weight(run).detach())
        return _over_data(run, left_out)

    latex = r"\mathbb{E}_q[\log \tfrac{1}{K} \sum_k p(x, z_k) / q(z_k \mid x)]"
    formula = "E_q[log mean_k p(x,z_k) / q(z_k|x)]"
    return Objective.of(Term("iwae", formula, latex, values, True, without_particle))


def log_weight(run: Run) -> Tensor:
    """The log importance weight log p(x, z) - log q(z|x) of each particle, in nats.

    Returns:
        Shape (particles, data) when every latent site is local, otherwise (particles, 1): the weight of the
        whole data set.

    Raises:
        ProgramError: As :func:`iwae`.
    """
    latent = run.guide.latent.values()
    difference = run.log_prob(run.model.nodes.values()) - run.log_prob(latent)
    if all(run.is_local(node) for node in latent):
        return difference
    if run.batch_rows != run.data_size:
        raise ProgramError(
            f"importance weights of global latent sites need the whole data set in one batch, got "
            f"{run.batch_rows} of {run.data_size} rows. Remedy: use batch_size={run.data_size}, or elbo()."
        )
    return difference.mean(-1, keepdim=True) * run.data_size


def _over_data(run: Run, bound: Tensor) -> Tensor:
    """A bound per datum as it is; one of the whole data set spread over the data."""
    if bound.shape[1] == run.batch_rows:
        return bound
    return (bound / run.data_size).expand(-1, run.batch_rows)


def _leave_one_out_bound(log_weight: Tensor) -> Tensor:
    """The bound with each particle's log-weight replaced by the mean of the others'; zero with one particle.

    Mnih and Rezende (2016), Variational Inference for Monte Carlo Objectives.
    """
    count = len(log_weight)
    if count == 1:
        return torch.zeros_like(log_weight)
    others = (log_weight.sum(0) - log_weight) / (count - 1)
    itself = torch.eye(count, dtype=torch.bool, device=log_weight.device).unsqueeze(-1)
    replaced = torch.where(itself, others.unsqueeze(1), log_weight.unsqueeze(0))  # (left out, particles, data)
    return replaced.logsumexp(1) - math.log(count)


def _kl(run: Run, sites: tuple[str, ...], method: Method) -> Tensor:
    auxiliary = [n for n in run.guide.latent.values() if n["infer"].get("is_auxiliary")]
    if sites and auxiliary:
        raise ProgramError(
            f"{called('kl', sites)}: this guide draws its sites jointly from auxiliary ones "
            f"({', '.join(repr(n['name']) for n in auxiliary)}), so one site's divergence is not defined. "
            f"Remedy: use kl(), or a guide that samples each site (guides.Amortized)."
        )
    latent = run.select(run.model.latent, sites, called("kl", sites))
    values = [pair for node in latent for pair in _site_kl(run, node, method)]
    return run.total(values + [Part(n, run.site_log_prob(n)) for n in auxiliary])


def _site_kl(run: Run, prior: Node, method: Method) -> list[Part]:
    posterior = run.guide.nodes[prior["name"]]
    wanted = method == "closed_form" or (method == "auto" and _parents_come_first(run, prior["name"]))
    # Pyro's registered divergence of a Delta leaves out its log-density, where autoguides keep their Jacobian.
    if wanted and not is_delta(posterior) and _tempered_alike(posterior, prior):
        try:
            divergence = kl_divergence(*_same_batch(posterior["fn"], prior["fn"]))
        except NotImplementedError:
            divergence = None
        if divergence is not None:
            run.divergences[prior["name"]] = "closed form"
            return [Part(prior, scale_and_mask(divergence, posterior["scale"], posterior["mask"]), own_draw=False)]
    if method == "closed_form":
        raise ProgramError(
            f"site '{prior['name']}': no closed-form divergence of {posterior['fn']} from {prior['fn']}. "
            f"Remedy: kl(method='auto') or kl(method='monte_carlo')."
        )
    run.divergences[prior["name"]] = "Monte Carlo"
    return [Part(posterior, run.site_log_prob(posterior)), Part(prior, -run.site_log_prob(prior))]


def _same_batch(first: Any, second: Any) -> tuple[Any, Any]:
    """Two distributions with one batch shape; a replayed site's distribution lacks the particles."""
    shape = torch.broadcast_shapes(first.batch_shape, second.batch_shape)
    return tuple(fn if fn.batch_shape == shape else fn.expand(shape) for fn in (first, second))


def _parents_come_first(run: Run, name: str) -> bool:
    """Whether every latent site before this one in the model is also before it in the guide."""
    model_order, guide_order = list(run.model.latent), list(run.guide.nodes)
    before = set(guide_order[: guide_order.index(name)])
    return set(model_order[: model_order.index(name)]) <= before


def _tempered_alike(posterior: Node, prior: Node) -> bool:
    """Whether handlers raise both densities of a site to the same powers, so that these weigh the divergence."""
    return posterior.get("tempered_by") == prior.get("tempered_by")


def _entropy(run: Run, node: Node, method: Method) -> Part:
    if method != "monte_carlo":
        try:
            return Part(node, scale_and_mask(node["fn"].entropy(), node["scale"], node["mask"]), own_draw=False)
        except NotImplementedError as error:
            if method == "closed_form":
                raise ProgramError(
                    f"site '{node['name']}': {node['fn']} has no closed-form entropy. Remedy: "
                    f"entropy(method='auto') or entropy(method='monte_carlo')."
                ) from error
    return Part(node, -run.site_log_prob(node))
