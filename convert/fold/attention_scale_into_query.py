"""The scale of an attention's query → the layer that computes the query.

    c · (W x + b) = (c W) x + c b

for any linear layer or convolution; the query is known by its way into the attention product, through nothing but
changes of layout. Where one layer computes queries and other values, c scales the rows of W and b that become the
queries. If the keys are among those, and only this product reads them, queries and keys take √c each, as

    (c q) kᵀ = (√c q) (√c k)ᵀ

and queries that are 8 times smaller than what shares their INT8 grid would lose three bits of it. Source: Vaswani et
al., "Attention Is All You Need", arXiv 1706.03762, section 3.2.1, where c = 1 / √d_k scales the product q kᵀ, and so
may scale either.
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


def products(node: fx.Node) -> set[fx.Node]:
    """The attention products that read ``node``, directly or through changes of layout."""
    found = {user for user in node.users if computes(user, PRODUCTS)}
    return found.union(*(products(user) for user in node.users if moved(user) is node))


def matches(model: fx.GraphModule, node: fx.Node) -> bool:
    """``node`` is the multiplication by the scale."""
    return operands(node) is not None and bool(products(node))


def computing_layer(model: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, WeightedLayer] | None:
    """The layer whose output ``node`` is, changes of layout aside, and the node that calls it."""
    if (value := moved(node)) is not None:
        return computing_layer(model, value)
    layer = called(model, node, nn.Conv2d) or called(model, node, nn.Linear)
    return None if layer is None else (node, layer)


def rows_read(model: fx.GraphModule, call: fx.Node, layer: WeightedLayer) -> dict[fx.Node, Tensor]:
    """``[outputs]`` bool for every node that does more than move what ``call`` gives: the layer's rows that it reads.

    Where it reads a mixture of rows, that is all of them.
    """
    found: dict[fx.Node, Tensor] = {}
    for reader, numbers in readers(model, call, CHANNELS[type(layer)]):
        rows = found.setdefault(reader, torch.zeros(len(layer.weight), dtype=torch.bool))
        rows[numbers.flatten() if MIXED not in numbers else slice(None)] = True
    return found


def check(model: fx.GraphModule, node: fx.Node) -> str | None:
    found = operands(node)
    assert found is not None
    origin = computing_layer(model, found[0])
    if origin is None:
        return "the scaled value does not come from a convolution or a linear layer by changes of layout alone"
    read = rows_read(model, *origin)
    query = read.pop(node)
    return USED_ELSEWHERE if any((query & rows).any() for rows in read.values()) else why_shared(model, origin[0])


def key_rows(node: fx.Node, read: dict[fx.Node, Tensor]) -> Tensor | None:
    """The rows that are the keys of the only product that ``node`` is for, if nothing else reads any of them."""
    product, *others = products(node)
    if others or product not in read:
        return None
    shared = any((read[product] & rows).any() for reader, rows in read.items() if reader is not product)
    return None if shared else read[product]


def rewrite(model: fx.GraphModule, node: fx.Node) -> None:
    found = operands(node)
    assert found is not None
    query, constant = found
    origin = computing_layer(model, query)
    assert origin is not None
    call, layer = origin
    read = rows_read(model, call, layer)
    factors = torch.ones(len(layer.weight), dtype=torch.float64)
    keys = key_rows(node, read) if constant > 0 else None
    if keys is None:
        factors[read[node]] = constant
    else:
        factors[read[node] | keys] = constant**0.5
    weight = weight_of(layer)
    set_weight(layer, weight * factors.reshape(-1, *[1] * (weight.dim() - 1)))
    if layer.bias is not None:
        set_bias(layer, bias_of(layer) * factors)
    bypass(model, node, query)
