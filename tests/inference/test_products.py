"""Products by the other library give the same numbers, where they are put in."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_genmodels.inference import products

X, WEIGHT, BIAS = torch.randn(64, 300), torch.randn(200, 300), torch.randn(200)


def layer(x, weight, bias):
    out = torch.addmm(bias, x, weight.t())
    return [out, out @ weight, (out.t() @ x).t(), x[:2] @ weight.t()]


@pytest.fixture
def graph(monkeypatch):
    monkeypatch.setattr(products, "_is_faster", torch.backends.mkldnn.is_available)
    return make_fx(layer)(X, WEIGHT, BIAS)


def targets(graph):
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_large_products_are_replaced_and_small_ones_are_not(graph):
    found = targets(products.with_fast_products(graph))
    assert found.count(torch.ops.ppl_genmodels.product.default) == 3
    assert found.count(torch.ops.aten.mm.default) == 1
    # A sum of 300 products of standard normal numbers is about 17, and rounds to within 300 * 6e-8 of that.
    for one, other in zip(layer(X, WEIGHT, BIAS), graph(X, WEIGHT, BIAS), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-3)


def test_a_lower_precision_that_was_asked_for_is_left_to_torch(graph):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.ops.aten.addmm.default in targets(products.with_fast_products(graph))
    finally:
        torch.set_float32_matmul_precision(before)


def test_double_precision_is_left_alone(graph):
    double = make_fx(layer)(*(value.double() for value in (X, WEIGHT, BIAS)))
    assert torch.ops.aten.addmm.default in targets(products.with_fast_products(double))
