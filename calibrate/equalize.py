"""Large channels between two operators → the weights that read them, so that one grid serves all channels.

    B relu(A z) = (B diag(s)) relu((A / s) z),    s_j = max|x_j|^α / max|B_j|^(1-α),    x = relu(A z)

for s > 0, with which a ReLU commutes; there may be none. A and B are both convolutions, whose zeros around the image
stay zeros, or both linear layers; row j and bias j of A take the division, column j of B the product. The float program
computes what it did.

Every row of A has a scale of its own, and loses nothing. So has a column of B where it is all that a row reads, as in a
depthwise convolution: there α is 1, and all channels between get one range. Beyond B nothing changes, and so every s is
one of the program as it came: in a chain A, B, C too, where column j of B is measured before the rows of B are divided.
Source: "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721, section 4.1. Its s
makes equal the weights of A and B, which there have one scale a tensor; here it is that of ``calibrate.migrate``.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from calibrate.channels import balance, is_own, largest_channels, parameter, replace
from calibrate.quantizer import ACTIVATIONS, is_weighted, weight_of, weight_owner
from calibrate.recipe import Recipe

LINEAR, CONVOLUTION = torch.ops.aten.linear.default, torch.ops.aten.conv2d.default
CHANNELS: dict[object, int] = {LINEAR: -1, CONVOLUTION: -3}  # which dimension of the operator's tensors they are


@dataclass(frozen=True)
class Pair:
    first: Node
    between: Node  # what ``second`` reads: the result of ``first``, or its ReLU
    second: Node


def equalize(captured: GraphModule, recipe: Recipe, batches: Iterable[Tensor]) -> int:
    """Rewrite the parameters of ``captured``, whose BatchNorms are folded; returns how many pairs took part.

    α is the recipe's ``equalisation``, from 0 to 1; without one nothing is done. Goes through ``batches``
    (``[B, 3, S, S]`` each) once. A pair takes part where the recipe has its second operator in int8, and nobody else
    reads the tensor between or the parameters.
    """
    if recipe.equalisation is None:
        return 0
    pairs = {pair.between: pair for node in captured.graph.nodes if (pair := pair_into(captured, node, recipe))}
    channels = {between: CHANNELS[pair.second.target] for between, pair in pairs.items()}
    for between, largest in largest_channels(captured, channels, batches).items():
        scale(captured, pairs[between], largest, recipe.equalisation)
    return len(pairs)


def pair_into(captured: GraphModule, second: Node, recipe: Recipe) -> Pair | None:
    if not is_channelwise(second) or recipe.precision(weight_owner(second)) != "int8":
        return None
    between = second.args[0]
    assert isinstance(between, Node)
    first = between.args[0] if between.target in ACTIVATIONS else between
    assert isinstance(first, Node)
    fit = (
        is_channelwise(first)
        and first.target is second.target
        and len(first.users) == len(between.users) == 1
        and all(is_own(captured, node) for node in [*parameters(first), weight_of(second)])
    )
    return Pair(first, between, second) if fit else None


def is_channelwise(node: Node) -> bool:
    return node.target in CHANNELS and is_weighted(node)


def parameters(node: Node) -> list[Node]:
    """The weight, and the bias if it has one."""
    return [value for value in node.args[1:3] if isinstance(value, Node)]


def scale(captured: GraphModule, pair: Pair, largest: Tensor, strength: float) -> None:
    weight = parameter(captured, weight_of(pair.second))
    grouped = by_group(weight, len(largest))
    own_rows = weight.shape[1] == 1
    s = balance(largest, grouped.abs().amax((1, 3)).flatten(), 1.0 if own_rows else strength)
    replace(captured, weight_of(pair.second), (grouped * s.reshape(len(grouped), 1, -1, 1)).reshape(weight.shape))
    for node in parameters(pair.first):
        rows = parameter(captured, node)
        replace(captured, node, rows / s.reshape(-1, *(1,) * (rows.ndim - 1)))


def by_group(weight: Tensor, inputs: int) -> Tensor:
    """``[out, inputs / groups, ...]`` → ``[groups, out / groups, inputs / groups, taps]``: a column an input."""
    groups = inputs // weight.shape[1]
    return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
