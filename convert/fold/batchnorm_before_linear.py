"""BatchNorm1d, then linear → one linear layer.

    W (s · x + t) + b = (W diag(s)) x + (W t + b)

s and t are the norm's scale and shift (``convert.fold.batchnorm``), s scales W by its input feature. Source: the
classifier of EfficientViT, arXiv 2305.07027, whose authors fuse it so for inference.
"""

from torch import fx, nn

from convert.fold.batchnorm import scale_and_shift, why_not_fixed
from convert.fold.graph import (
    USED_ELSEWHERE,
    bias_of,
    bypass,
    called,
    layer_at,
    rank,
    set_bias,
    set_weight,
    source,
    weight_of,
    why_shared,
)


def matches(model: fx.GraphModule, node: fx.Node) -> bool:
    """``node`` is the linear layer, and its input a norm."""
    return called(model, node, nn.Linear) is not None and called(model, source(node), nn.BatchNorm1d) is not None


def check(model: fx.GraphModule, node: fx.Node) -> str | None:
    if reason := why_not_fixed(layer_at(model, source(node), nn.BatchNorm1d)):
        return reason
    if rank(source(node)) != 2:
        return "the norm and the linear layer act on different dimensions"
    if len(source(node).users) > 1:
        return USED_ELSEWHERE
    return why_shared(model, node)


def rewrite(model: fx.GraphModule, node: fx.Node) -> None:
    norm, linear = source(node), layer_at(model, node, nn.Linear)
    scale, shift = scale_and_shift(layer_at(model, norm, nn.BatchNorm1d))
    weight = weight_of(linear)
    set_weight(linear, weight * scale)
    set_bias(linear, weight @ shift + bias_of(linear))
    bypass(model, norm, source(norm))
