"""Large channels of a normalised tensor → the weights that read it, so that one grid serves all channels.

    W n = (W diag(s)) (n / s),    s_j = max|n_j|^α / max|W_j|^(1-α)

n is what a LayerNorm returns, whose gain and bias take the division by s; W_j is column j of all linear layers that
read it. The float program computes what it did. Source: "SmoothQuant", arXiv 2211.10438, equations 3 and 4.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from calibrate.channels import balance, is_own, largest_channels, parameter, replace
from calibrate.quantizer import is_weighted, weight_of, weight_owner
from calibrate.recipe import Recipe

LAYER_NORM = torch.ops.aten.layer_norm.default
LINEAR = torch.ops.aten.linear.default


def migrate(captured: GraphModule, recipe: Recipe, batches: Iterable[Tensor]) -> int:
    """Rewrite the parameters of ``captured`` as its recipe says; returns how many norms took part."""
    if recipe.migration is None:
        return 0
    norms = {norm: readers for norm in captured.graph.nodes if (readers := quantised_readers(captured, norm, recipe))}
    for norm, largest in largest_channels(captured, dict.fromkeys(norms, -1), batches).items():
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


def divide(captured: GraphModule, norm: Node, readers: Sequence[Node], largest: Tensor, strength: float) -> None:
    weights = [weight_of(reader) for reader in readers]
    columns = torch.stack([parameter(captured, weight).abs().amax(0) for weight in weights]).amax(0)
    scale = balance(largest, columns, strength)
    for weight in weights:
        replace(captured, weight, parameter(captured, weight) * scale)
    for affine in norm.args[2:4]:
        assert isinstance(affine, Node)
        replace(captured, affine, parameter(captured, affine) / scale)
