"""A traced graph made shorter, and lowered to compiled code.

Convention of this module: graphs take tensors by position and give a list of tensors; they are run without gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ppl_genmodels.errors import OptionError

__all__ = ["Flat", "agree", "lower", "tidied"]

Flat = Callable[..., Sequence[Tensor]]

_ATEN = torch.ops.aten
_ALIASES = (_ATEN.detach.default, _ATEN.alias.default)
_VIEWS = (_ATEN.expand.default, _ATEN.view.default)
NEGLIGIBLE = 1e-2
"""Tensors smaller than this share of the largest are compared on the scale of that share."""
ROUNDING = 1e-3
"""How far compiled code may differ from the eager run, as a share of a tensor's largest entry."""


SMALL = 400
"""Operations up to which the calls between the compiled pieces are compiled too. In a small model these calls count; in
a large one they do not, and compiling them takes minutes."""
LARGEST = 5000
"""Operations beyond which compiling takes so long that no training is worth it."""


def tidied(graph: GraphModule) -> GraphModule:
    """A graph without the nodes that only speak to autograd, or that view a tensor as what it is.

    Example:
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> graph = make_fx(lambda x: [x.detach().expand(3) * 2])(torch.ones(3))
        >>> [node.name for node in tidied(graph).graph.nodes if node.op == "call_function"]
        ['mul']
    """
    for node in list(graph.graph.nodes):
        if node.target in _ALIASES or (node.target in _VIEWS and _is_no_change(node)):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _is_no_change(node: Node) -> bool:
    before, after = node.args[0].meta.get("val"), node.meta.get("val")  # type: ignore[union-attr]
    if before is None or after is None:
        return False
    return bool(before.shape == after.shape and before.stride() == after.stride())


def lower(graph: GraphModule, inputs: Sequence[Tensor]) -> Flat:
    """A graph compiled to machine code. It draws the random numbers of the eager run, and its sums round differently.

    Args:
        graph: The graph.
        inputs: Tensors of the layouts and devices that it will be run on.

    Raises:
        OptionError: When it has more than :data:`LARGEST` operations.
    """
    if len(graph.graph.nodes) > LARGEST:
        raise OptionError(f"it has {len(graph.graph.nodes)} operations, and {LARGEST} take minutes to compile.")
    import torch._inductor  # takes about a second, for those who lower

    for node in graph.graph.nodes:
        node.meta.clear()  # tensors of the trace's own, which the compiler makes anew
    on_gpu = any(value.is_cuda for value in inputs)
    options: dict[str, Any] = {"triton.cudagraphs": on_gpu}
    options["cpp_wrapper"] = not on_gpu and len(graph.graph.nodes) <= SMALL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the compiler itself uses
        compiled: Flat = torch._inductor.compile(graph, list(inputs), options={"fallback_random": True, **options})
    return compiled


def agree(expected: Sequence[Tensor], found: Sequence[Tensor]) -> bool:
    """Whether two runs gave the same, up to rounding; what is not finite is for the caller to find.

    A tensor that is zero but for rounding, as the gradient of what the objective does not depend on, has the rounding
    of the largest: it is compared on that one's scale.
    """
    finite = [(one, other) for one, other in zip(expected, found, strict=True) if one.isfinite().all()]
    least = max((NEGLIGIBLE * one.abs().max().item() for one, _ in finite), default=0.0)
    return all(_close(one, other, max(least, 1e-6)) for one, other in finite)


def _close(one: Tensor, other: Tensor, least: float) -> bool:
    return bool(((one - other).abs() <= ROUNDING * one.abs().max().clamp(min=least)).all())
