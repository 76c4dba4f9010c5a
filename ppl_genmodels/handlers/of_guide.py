"""Estimators that mind the guide's distribution of a site alone, so that its prior may be any.

Convention of this module: whether the guide's distribution can be served is known when the surrogate is made, which is
made for sites of the guide and no others.
"""

from __future__ import annotations

from pyro.poutine.runtime import Message
from torch import Tensor

from ppl_genmodels.handlers.estimator import Estimator, Site, base_of

__all__ = ["OfGuide"]


class OfGuide(Estimator):
    """An estimator that leaves the model's distribution of a site as it is where it could not serve it.

    Args:
        sites: Which sites; by default all that it can serve.
    """

    def take(self, msg: Message) -> None:
        """Takes a site; one that it cannot serve is the model's, or is refused by :meth:`surrogate`.

        Raises:
            OptionError: When another estimator has it already.
        """
        if self.serves(base_of(msg["fn"])):
            super().take(msg)
        elif not msg["infer"].get("gradient_taken"):
            msg["infer"] = {**msg["infer"], "gradient": self}

    def surrogate(self, site: Site) -> Tensor | float:
        """Checks the site; the surrogate itself is the subclass's.

        Raises:
            ProgramError: When the guide's distribution cannot be served.
        """
        if not self.serves(base_of(site.fn)):
            super().take({"name": site.name, "fn": site.fn, "infer": {}})
        return 0.0
