"""LayerNorm as what XNNPACK has kernels for: the mean over C channels is a product with C times 1 / C.

    mean(x) = x u,    u = (1 / C, ..., 1 / C)ᵀ,    d = x - mean(x),    LayerNorm(x) = d / sqrt(d² u + ε) · gain + bias

for tokens x ``[..., C]`` as rows. XNNPACK has no LayerNorm: the portable kernel is one core's scalar loop, and each
norm parts the program into one more delegate. Source: "Layer Normalization", arXiv 1607.06450, equation 3.
"""

from math import prod

import torch
from torch.fx import GraphModule, Node

from convert.aten.rewrite import shape

aten = torch.ops.aten


def norm_by_products(module: GraphModule) -> int:
    """In place; returns how many norms were rewritten: those over the last dimension, with gain and bias."""
    found = [node for node in module.graph.nodes if is_norm_of_tokens(node)]
    for node in found:
        with module.graph.inserting_before(node):
            normalised = products(module, node)
        node.replace_all_uses_with(normalised)
        module.graph.erase_node(node)
    return len(found)


def is_norm_of_tokens(node: Node) -> bool:
    return (
        node.target is aten.layer_norm.default
        and len(node.args[1]) == 1  # type: ignore[arg-type]
        and len(node.args) >= 4
        and all(isinstance(affine, Node) for affine in node.args[2:4])
    )


def products(module: GraphModule, node: Node) -> Node:
    """``node`` in other operators; a product wants ``[1, rows, C]``, which one image's tokens are already.

    Some of the tokens of several images do not lie one after the other, so that they have no such view.
    """
    call, channels = module.graph.call_function, shape(node)[-1]
    tokens, _, gain, bias = node.args[:4]
    epsilon = node.args[4] if len(node.args) > 4 else 1e-5
    rows = [1, prod(shape(node)[:-1]), channels]
    x = tokens if list(shape(node)) == rows else call(aten.reshape.default, (tokens, rows))
    mean_of = module.graph.get_attr(averaging(module, channels))
    d = call(aten.sub.Tensor, (x, call(aten.bmm.default, (x, mean_of))))
    variance = call(aten.bmm.default, (call(aten.mul.Tensor, (d, d)), mean_of))
    inverse = call(aten.rsqrt.default, (call(aten.add.Tensor, (variance, epsilon)),))
    scaled = call(aten.mul.Tensor, (call(aten.mul.Tensor, (d, inverse)), gain))
    result = call(aten.add.Tensor, (scaled, bias))
    return result if x is tokens else call(aten.view.default, (result, list(shape(node))))


def averaging(module: GraphModule, channels: int) -> str:
    """The name of the buffer u, ``[1, channels, 1]``."""
    name = f"averaging_{channels}"
    if not hasattr(module, name):
        module.register_buffer(name, torch.full((1, channels, 1), 1 / channels))
    return name
