"""The affine part of a LayerNorm → the linear layers that read it.

    W (g · n + b) + c = (W diag(g)) n + (W b + c)

n is the normalised value, which stays; g scales W by its input feature. Between the two may stand what only takes,
moves or averages tokens: an input feature of W then still is one channel of n, and has that channel's g and b. Source:
the gain and bias of Ba et al., "Layer Normalization", arXiv 1607.06450, which SliceGPT, arXiv 2401.15024, folds so.
"""

from torch import Tensor, fx, nn

from convert.fold.channels import MIXED, readers
from convert.fold.graph import bias_of, called, layer_at, set_bias, set_weight, weight_of, why_shared

CHANNELS = -1  # the dimension that both layers act on


def matches(model: fx.GraphModule, node: fx.Node) -> bool:
    """``node`` is the norm, and a linear layer among its readers."""
    norm = called(model, node, nn.LayerNorm)
    if norm is None or norm.weight is None:
        return False
    return any(called(model, reader, nn.Linear) is not None for reader, _ in readers(model, node, CHANNELS))


def check(model: fx.GraphModule, node: fx.Node) -> str | None:
    if len(layer_at(model, node, nn.LayerNorm).normalized_shape) > 1:
        return "the norm scales more than the channels"
    if reason := why_shared(model, node):
        return reason
    for reader, numbers in readers(model, node, CHANNELS):
        if called(model, reader, nn.Linear) is None:
            return "the normalised value is also read by what is no linear layer"
        if feature_channels(numbers) is None:
            return "a feature of the linear layer comes from several channels"
        if reason := why_shared(model, reader):
            return reason
    return None


def feature_channels(numbers: Tensor) -> Tensor | None:
    """``[inputs]``: the channel of the norm that each input feature is, or None if one is not the same everywhere."""
    rows = numbers.flatten(end_dim=-2)
    return rows[0] if (rows == rows[0]).all() and (rows[0] != MIXED).all() else None


def rewrite(model: fx.GraphModule, node: fx.Node) -> None:
    norm = layer_at(model, node, nn.LayerNorm)
    for reader, numbers in readers(model, node, CHANNELS):
        linear, channels = layer_at(model, reader, nn.Linear), feature_channels(numbers)
        assert channels is not None
        weight = weight_of(linear)
        if norm.bias is not None:
            set_bias(linear, weight @ norm.bias.detach().double()[channels] + bias_of(linear))
        set_weight(linear, weight * norm.weight.detach().double()[channels])
    bare = nn.LayerNorm(norm.normalized_shape, norm.eps, elementwise_affine=False)
    model.set_submodule(str(node.target), bare.train(norm.training))
