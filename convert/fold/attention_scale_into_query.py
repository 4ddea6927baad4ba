"""The scale of an attention's query → the layer that computes the query.

    c · (W x + b) = (c W) x + c b

for any linear layer or convolution; the query is known by its way into the attention product, through nothing but
changes of layout. Where one layer computes queries and other values, c scales the rows of W and b that become the
queries. Source: Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, section 3.2.1, where c = 1 / √d_k
scales the product q kᵀ, and so may scale q.
"""

import operator

import torch
from torch import Tensor, fx, nn

from convert.fold.channels import MIXED, moved, readers
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
CHANNELS = {nn.Conv2d: -3, nn.Linear: -1}  # the dimension of a layer's rows in its output


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
    return any(computes(user, PRODUCTS) or (moved(user) is node and reaches_product(user)) for user in node.users)


def matches(model: fx.GraphModule, node: fx.Node) -> bool:
    """``node`` is the multiplication by the scale."""
    return operands(node) is not None and reaches_product(node)


def computing_layer(model: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, WeightedLayer] | None:
    """The layer whose output ``node`` is, changes of layout aside, and the node that calls it."""
    if (value := moved(node)) is not None:
        return computing_layer(model, value)
    layer = called(model, node, nn.Conv2d) or called(model, node, nn.Linear)
    return None if layer is None else (node, layer)


def rows(model: fx.GraphModule, node: fx.Node, call: fx.Node, layer: WeightedLayer) -> tuple[Tensor, Tensor]:
    """``[outputs]`` bool each: which rows of the layer the multiplication reads, and which anything else does."""
    scaled, other = (torch.zeros(len(layer.weight) + 1, dtype=torch.bool) for _ in range(2))
    for reader, numbers in readers(model, call, CHANNELS[type(layer)]):
        (scaled if reader is node else other)[numbers.flatten()] = True
    mixture = scaled[MIXED] | other[MIXED]  # in the entry beyond the last row
    return scaled[:-1] | mixture, other[:-1] | mixture


def check(model: fx.GraphModule, node: fx.Node) -> str | None:
    found = operands(node)
    assert found is not None
    origin = computing_layer(model, found[0])
    if origin is None:
        return "the scaled value does not come from a convolution or a linear layer by changes of layout alone"
    scaled, other = rows(model, node, *origin)
    return USED_ELSEWHERE if (scaled & other).any() else why_shared(model, origin[0])


def rewrite(model: fx.GraphModule, node: fx.Node) -> None:
    found = operands(node)
    assert found is not None
    query, constant = found
    origin = computing_layer(model, query)
    assert origin is not None
    _, layer = origin
    scaled, _ = rows(model, node, *origin)
    weight = weight_of(layer).clone()
    weight[scaled] *= constant
    set_weight(layer, weight)
    if layer.bias is not None:
        bias = bias_of(layer).clone()
        bias[scaled] *= constant
        set_bias(layer, bias)
    bypass(model, node, query)
