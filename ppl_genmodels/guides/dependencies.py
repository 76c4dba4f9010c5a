"""Which latent sites a guide conditions each latent site on, to be able to hold the posterior.

Convention of this module: a dependency is named by its site. Observed sites are always conditioned
on, and so are not listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

__all__ = ["faithful_parents"]


def faithful_parents(dependencies: Mapping[str, Iterable[str]], order: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The parents of each latent site in a guide that samples them in this order.

    The sites that share a factor of the joint density are linked, and then eliminated from the last
    to the first: a site's parents are the earlier sites that it is linked to, which elimination
    links with one another. The guide's graph then claims no independence that the posterior lacks.

    Args:
        dependencies: For each site, latent or observed, the latent sites its density depends on.
        order: The latent sites in the order in which the guide samples them.

    References:
        Webb, Goliński, Zinkov, Siddharth, Rainforth, Teh and Wood (2018), Faithful Inversion of
        Generative Models for Effective Amortized Inference, algorithm 1.

    Example:
        A chain z1 → z2 → x, and two causes of one effect:

        >>> faithful_parents({"z1": [], "z2": ["z1"], "x": ["z2"]}, ["z1", "z2"])
        {'z1': (), 'z2': ('z1',)}
        >>> faithful_parents({"a": [], "b": [], "x": ["a", "b"]}, ["a", "b"])
        {'a': (), 'b': ('a',)}
    """
    linked: dict[str, set[str]] = {name: set() for name in order}
    for site, upstream in dependencies.items():
        _link({site, *upstream} & linked.keys(), linked)
    parents: dict[str, tuple[str, ...]] = {}
    for place in range(len(order) - 1, -1, -1):
        earlier = [name for name in order[:place] if name in linked[order[place]]]
        parents[order[place]] = tuple(earlier)
        _link(set(earlier), linked)
    return {name: parents[name] for name in order}


def _link(clique: set[str], linked: dict[str, set[str]]) -> None:
    for one, other in combinations(sorted(clique), 2):
        linked[one].add(other)
        linked[other].add(one)
