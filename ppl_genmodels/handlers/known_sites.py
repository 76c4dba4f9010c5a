"""Handlers that are no gradient estimators, and still refuse the name of a site that never appears.

Convention of this module: a guide lacks the observed sites, so that names are held against runs with observed sites,
and against all that was seen until then.
"""

from __future__ import annotations

from types import TracebackType

from pyro.poutine.runtime import Message

from ppl_genmodels.errors import UnknownNameError
from ppl_genmodels.handlers.site_handler import SiteHandler, Sites

__all__ = ["KnownSites"]


class KnownSites(SiteHandler):
    """A handler that knows which sites it has seen.

    Args:
        sites: Which sites.

    Raises:
        UnknownNameError: On leaving a run with observed sites, when a named site was in no run until then.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> try:
        ...     with KnownSites("zz"):
        ...         _ = pyro.sample("z", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
        ... except UnknownNameError as error:
        ...     print(error)
        no site 'zz' of KnownSites. Did you mean 'z'? Known: 'z'.
    """

    def __init__(self, sites: Sites = None) -> None:
        super().__init__(sites)
        self._seen: set[str] = set()
        self._saw_observed = False

    def _pyro_sample(self, msg: Message) -> None:
        self._seen.add(msg["name"])
        self._saw_observed |= msg["is_observed"] and not msg["infer"].get("_deterministic", False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        absent = sorted((self._names or frozenset()) - self._seen)
        if error is None and absent and self._saw_observed:
            raise UnknownNameError("site", absent[0], self._seen, f"of {type(self).__name__}")
