"""Convolution, then BatchNorm2d → one convolution with bias.

    s · (W ∗ x + b) + t = (s W) ∗ x + (s b + t)

s and t are the norm's scale and shift (``convert.fold.batchnorm``), s scales W by its output channel; stride,
padding and groups do not enter. Source: Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", arXiv 1712.05877, section 3.2.
"""

from torch import fx, nn

from convert.fold.batchnorm import scale_and_shift, why_not_fixed
from convert.fold.graph import (
    USED_ELSEWHERE,
    bias_of,
    bypass,
    called,
    layer_at,
    set_bias,
    set_weight,
    source,
    weight_of,
    why_shared,
)


def matches(model: fx.GraphModule, node: fx.Node) -> bool:
    """``node`` is the norm, and its input a convolution."""
    return called(model, node, nn.BatchNorm2d) is not None and called(model, source(node), nn.Conv2d) is not None


def check(model: fx.GraphModule, node: fx.Node) -> str | None:
    if reason := why_not_fixed(layer_at(model, node, nn.BatchNorm2d)):
        return reason
    if len(source(node).users) > 1:
        return USED_ELSEWHERE
    return why_shared(model, source(node))


def rewrite(model: fx.GraphModule, node: fx.Node) -> None:
    convolution = layer_at(model, source(node), nn.Conv2d)
    scale, shift = scale_and_shift(layer_at(model, node, nn.BatchNorm2d))
    set_weight(convolution, scale[:, None, None, None] * weight_of(convolution))
    set_bias(convolution, scale * bias_of(convolution) + shift)
    bypass(model, node, source(node))
