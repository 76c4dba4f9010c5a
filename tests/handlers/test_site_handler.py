"""How a handler selects sites, and the four ways in which it is called."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from ppl_genmodels.errors import OptionError
from ppl_genmodels.handlers import SiteHandler
from ppl_genmodels.handlers.site_handler import applied
from ppl_genmodels.program import Program, as_program


class Mark(SiteHandler):
    def _pyro_sample(self, msg):
        if self.selects(msg):
            msg["infer"]["marked"] = True


def program():
    pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))


def marked(fn):
    trace = poutine.trace(fn).get_trace()
    return {name for name in ("a", "b") if trace.nodes[name]["infer"].get("marked")}


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        (None, {"a", "b"}),
        ("a", {"a"}),
        (["a", "b"], {"a", "b"}),
        (iter(["b"]), {"b"}),
        (lambda msg: msg["is_observed"], {"b"}),
        ((), set()),
        ("ab", set()),
    ],
)
def test_sites_are_a_name_several_or_a_predicate(sites, expected):
    assert marked(Mark(sites)(program)) == expected


def test_sites_that_are_neither_are_refused():
    with pytest.raises(OptionError, match=r"sites is a name, several names or a predicate, got 3"):
        Mark(3)


def test_four_calling_forms_mark_the_same_sites():
    @Mark("a")
    def decorated():
        program()

    def inside():
        with applied(Mark("a"), None):
            program()

    wrapped = applied(Mark("a"), program)
    whole = applied(Mark("a"), (program, None))
    assert isinstance(whole, Program)
    assert marked(decorated) == marked(inside) == marked(wrapped) == marked(whole.model) == {"a"}


def test_a_whole_program_is_wrapped_with_its_guide():
    class Pair:
        def model(self):
            program()

        def guide(self):
            pyro.sample("a", dist.Normal(0.0, 1.0))

    source = Pair()
    for target in (source, as_program(source), (source.model, source.guide)):
        whole = applied(Mark("a"), target)
        assert poutine.trace(whole.guide).get_trace().nodes["a"]["infer"]["marked"]
