"""Linear, then BatchNorm1d → one linear layer.

    s · (W x + b) + t = (diag(s) W) x + (s · b + t)

s and t are the norm's scale and shift (``convert.fold.batchnorm``), s scales W by its output feature. Source: as for
the convolution, of which this is the case without space: Jacob et al., arXiv 1712.05877, section 3.2.
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
    """``node`` is the norm, and its input a linear layer."""
    return called(model, node, nn.BatchNorm1d) is not None and called(model, source(node), nn.Linear) is not None


def check(model: fx.GraphModule, node: fx.Node) -> str | None:
    if reason := why_not_fixed(layer_at(model, node, nn.BatchNorm1d)):
        return reason
    if rank(node) != 2:
        return "the norm and the linear layer act on different dimensions"
    if len(source(node).users) > 1:
        return USED_ELSEWHERE
    return why_shared(model, source(node))


def rewrite(model: fx.GraphModule, node: fx.Node) -> None:
    linear = layer_at(model, source(node), nn.Linear)
    scale, shift = scale_and_shift(layer_at(model, node, nn.BatchNorm1d))
    set_weight(linear, scale[:, None] * weight_of(linear))
    set_bias(linear, scale * bias_of(linear) + shift)
    bypass(model, node, source(node))
