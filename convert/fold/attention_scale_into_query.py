"""The scale of an attention's query → the layer that computes the query.

    c · (W x + b) = (c W) x + c b

for any linear layer or convolution; the query is known by its way into the attention product, through
nothing but changes of layout. Source: Vaswani et al., "Attention Is All You Need", arXiv 1706.03762,
section 3.2.1, where c = 1 / √d_k scales the product q kᵀ, and so may scale q.
"""

import operator

import torch
from torch import fx, nn

from convert.fold.graph import (
    USED_ELSEWHERE,
    WeightedLayer,
    bias_of,
    bypass,
    called,
    computes,
    set_bias,
    set_weight,
    weight_of,
    why_shared,
)

MULTIPLICATIONS = (operator.mul, torch.mul, "mul")
PRODUCTS = (operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm")
LAYOUT_NAMES = ("flatten", "reshape", "transpose", "permute", "unsqueeze", "squeeze")
LAYOUTS = (*LAYOUT_NAMES, "view", *(getattr(torch, name) for name in LAYOUT_NAMES))


def operands(node: fx.Node) -> tuple[fx.Node, float] | None:
    """The value and the constant of ``value * constant``, in either order, or None."""
    if not computes(node, MULTIPLICATIONS) or node.kwargs or len(node.args) != 2:
        return None
    for value, constant in (node.args, node.args[::-1]):
        if isinstance(value, fx.Node) and isinstance(constant, float):
            return value, constant
    return None


def reaches_product(node: fx.Node) -> bool:
    """Whether an attention product reads ``node``, directly or through changes of layout."""
    return any(computes(user, PRODUCTS) or (computes(user, LAYOUTS) and reaches_product(user)) for user in node.users)


def matches(model: fx.GraphModule, node: fx.Node) -> bool:
    """``node`` is the multiplication by the scale."""
    return operands(node) is not None and reaches_product(node)


def weighted_layer(model: fx.GraphModule, node: fx.Node) -> WeightedLayer | None:
    return called(model, node, nn.Conv2d) or called(model, node, nn.Linear)


def check(model: fx.GraphModule, node: fx.Node) -> str | None:
    found = operands(node)
    assert found is not None
    query, _ = found
    if weighted_layer(model, query) is None:
        return "the scaled value does not come straight from a convolution or a linear layer"
    if len(query.users) > 1:
        return USED_ELSEWHERE
    return why_shared(model, query)


def rewrite(model: fx.GraphModule, node: fx.Node) -> None:
    found = operands(node)
    assert found is not None
    query, constant = found
    layer = weighted_layer(model, query)
    assert layer is not None
    set_weight(layer, constant * weight_of(layer))
    if layer.bias is not None:
        set_bias(layer, constant * bias_of(layer))
    bypass(model, node, query)
