"""Matrix products of a graph by the library that multiplies fastest on this processor.

Convention of this module: products stay in exact single precision; where a lower precision was asked for, nothing is
changed, because torch's own products follow it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

__all__ = ["with_fast_products"]

_ATEN = torch.ops.aten
WORTH = 5e6
"""Operations of a product from which on the other library's longer call is won back."""

_LIBRARY = torch.library.Library("ppl_genmodels", "DEF")
_LIBRARY.define("product(Tensor first, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl(_LIBRARY, "product", "CPU")
def _product(first: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The first factor times the transpose of the weight, plus the bias, by oneDNN.

    An operation of its own, because the compiler takes oneDNN's for one whose weight never changes.
    """
    made: Tensor = torch.ops.mkldnn._linear_pointwise(first, weight, bias, "none", [], "")
    return made


@torch.library.register_fake("ppl_genmodels::product", lib=_LIBRARY)
def _product_of_none(first: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return first.new_empty(first.shape[0], weight.shape[0])


def with_fast_products(graph: GraphModule) -> GraphModule:
    """A graph whose large products are made by oneDNN, on processors where torch's default is slow.

    Torch multiplies by Intel's MKL, which on processors of other makers does not use what they can do: on one with
    AVX-512, oneDNN (which torch ships, too) was measured at twice its speed. The sums are rounded in another order.

    Args:
        graph: A traced graph, its nodes' values known.
    """
    if not _is_faster() or torch.get_float32_matmul_precision() == "medium":
        return graph
    for node in list(graph.graph.nodes):
        if node.target in (_ATEN.mm.default, _ATEN.addmm.default) and _is_worth_it(node):
            _replace(graph, node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _replace(graph: GraphModule, node: Node) -> None:
    *bias, first, second = node.args
    with graph.graph.inserting_before(node):
        # The weight of a linear layer is the transpose of the second factor.
        is_transpose = second.target is _ATEN.t.default  # type: ignore[union-attr]
        weight = second.args[0] if is_transpose else graph.graph.call_function(_ATEN.t.default, (second,))  # type: ignore[union-attr]
        arguments: Any = (first, weight, bias[0] if bias else None)
        product = graph.graph.call_function(torch.ops.ppl_genmodels.product.default, arguments)
    product.meta = dict(node.meta)
    node.replace_all_uses_with(product)
    graph.graph.erase_node(node)


def _is_worth_it(node: Node) -> bool:
    values: list[Any] = [argument.meta.get("val") for argument in node.args]  # type: ignore[union-attr]
    *bias, first, second = values
    if first is None or second is None or node.kwargs or not all(each.dim() == 1 for each in bias):
        return False
    is_single = first.dtype == torch.float32 and first.device.type == "cpu"
    return bool(is_single and 2 * first.shape[0] * first.shape[1] * second.shape[1] >= WORTH)


@cache
def _is_faster() -> bool:
    """Whether the processor is one that MKL serves badly."""
    try:
        maker = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "AuthenticAMD" in maker and torch.backends.mkldnn.is_available()
