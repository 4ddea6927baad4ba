"""Large channels of a normalised tensor → the weights that read it, so that one grid serves all channels.

    W n = (W diag(s)) (n / s),    s_j = max|n_j|^α / max|W_j|^(1-α)

n is what a LayerNorm returns, whose gain and bias take the division by s; W_j is column j of all linear layers that
read it. The float program computes what it did. Source: "SmoothQuant", arXiv 2211.10438, equations 3 and 4.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from calibrate.quantizer import is_weighted, weight_of, weight_owner
from calibrate.recipe import Recipe

LAYER_NORM = torch.ops.aten.layer_norm.default
LINEAR = torch.ops.aten.linear.default
LEAST = 1e-3  # of the largest channel: a channel that calibration saw at 0 may not stay there


def migrate(captured: GraphModule, recipe: Recipe, batches: Iterable[Tensor]) -> int:
    """Rewrite the parameters of ``captured`` as its recipe says; returns how many norms took part."""
    if recipe.migration is None:
        return 0
    norms = {norm: readers for norm in captured.graph.nodes if (readers := quantised_readers(captured, norm, recipe))}
    for norm, largest in largest_channels(captured, list(norms), batches).items():
        divide(captured, norm, norms[norm], largest, recipe.migration)
    return len(norms)


def quantised_readers(captured: GraphModule, norm: Node, recipe: Recipe) -> list[Node]:
    """All that read an affine LayerNorm, if these are linear layers in int8 and nobody else has their weights."""
    if (
        norm.target is not LAYER_NORM
        or len(norm.args) < 4
        or not all(is_own(captured, node) for node in norm.args[2:4])
    ):
        return []
    readers = list(norm.users)
    fit = all(
        reader.target is LINEAR
        and is_weighted(reader)
        and is_own(captured, weight_of(reader))
        and recipe.precision(weight_owner(reader)) == "int8"
        for reader in readers
    )
    return readers if fit else []


def is_own(captured: GraphModule, parameter: object) -> bool:
    """Whether a parameter is read in one place alone."""
    if not isinstance(parameter, Node) or parameter.op != "get_attr" or len(parameter.users) != 1:
        return False
    places = [node for node in captured.graph.nodes if node.op == "get_attr" and node.target == parameter.target]
    return len(places) == 1


def largest_channels(captured: GraphModule, nodes: Sequence[Node], batches: Iterable[Tensor]) -> dict[Node, Tensor]:
    """``[C]`` each: the largest absolute value of a channel, the last dimension, on any image."""
    largest: dict[Node, Tensor] = {}

    class Watch(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n in nodes:
                found = value.abs().flatten(0, -2).amax(0)
                largest[n] = torch.maximum(largest[n], found) if n in largest else found
            return value

    with torch.no_grad():
        for batch in batches if nodes else ():
            Watch(captured).run(batch)
    return largest


def divide(captured: GraphModule, norm: Node, readers: Sequence[Node], largest: Tensor, strength: float) -> None:
    weights = [weight_of(reader) for reader in readers]
    columns = torch.stack([parameter(captured, weight).abs().amax(0) for weight in weights]).amax(0)
    scale = positive(largest.double()) ** strength / positive(columns) ** (1 - strength)
    for weight in weights:
        replace(captured, weight, parameter(captured, weight) * scale)
    for affine in norm.args[2:4]:
        assert isinstance(affine, Node)
        replace(captured, affine, parameter(captured, affine) / scale)


def positive(channels: Tensor) -> Tensor:
    return channels.clamp(min=float(channels.max()) * LEAST)


def parameter(captured: GraphModule, node: Node) -> Tensor:
    return captured.get_parameter(str(node.target)).detach().double()


def replace(captured: GraphModule, node: Node, value: Tensor) -> None:
    """A fresh parameter: whoever holds the old one keeps it unchanged."""
    owner, _, name = str(node.target).rpartition(".")
    setattr(captured.get_submodule(owner), name, nn.Parameter(value.float()))
