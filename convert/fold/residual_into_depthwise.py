"""A residual around a depthwise convolution → the convolution alone.

    x + (W ∗ x + b) = (W + δ) ∗ x + b

δ is 1 at the centre tap of every channel's kernel and 0 elsewhere, which is the identity where the convolution
keeps the shape and each output channel reads its own input channel alone. Source: Ding et al., "RepVGG",
arXiv 2101.03697, section 3.3 (the identity branch as a kernel).
"""

import operator

import torch
from torch import fx, nn

from convert.fold.graph import (
    USED_ELSEWHERE,
    bypass,
    called,
    computes,
    layer_at,
    set_weight,
    source,
    weight_of,
    why_shared,
)

ADDITIONS = (operator.add, torch.add, "add")


def residual_convolution(model: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The convolution of ``x + convolution(x)``, in either order of the sum, or None."""
    if not computes(node, ADDITIONS) or node.kwargs or len(node.args) != 2:
        return None
    for branch, skip in (node.args, node.args[::-1]):
        if isinstance(branch, fx.Node) and called(model, branch, nn.Conv2d) is not None and source(branch) is skip:
            return branch
    return None


def matches(model: fx.GraphModule, node: fx.Node) -> bool:
    """``node`` is the sum."""
    return residual_convolution(model, node) is not None


def check(model: fx.GraphModule, node: fx.Node) -> str | None:
    branch = residual_convolution(model, node)
    assert branch is not None
    if reason := why_no_identity_tap(layer_at(model, branch, nn.Conv2d)):
        return reason
    if len(branch.users) > 1:
        return USED_ELSEWHERE
    return why_shared(model, branch)


def why_no_identity_tap(convolution: nn.Conv2d) -> str | None:
    """Why no kernel of this convolution is the identity, or None."""
    if not convolution.groups == convolution.in_channels == convolution.out_channels:
        return "the convolution is not depthwise"
    if convolution.stride != (1, 1):
        return "the convolution has a stride"
    if any(size % 2 == 0 for size in convolution.kernel_size):
        return "the kernel has no centre tap"
    if convolution.dilation != (1, 1):
        return "the convolution is dilated"
    if convolution.padding not in ("same", tuple(size // 2 for size in convolution.kernel_size)):
        return "the padding does not keep the shape"
    if convolution.padding_mode != "zeros":
        return "the padding is not by zeros"
    return None


def rewrite(model: fx.GraphModule, node: fx.Node) -> None:
    branch = residual_convolution(model, node)
    assert branch is not None
    convolution = layer_at(model, branch, nn.Conv2d)
    height, width = convolution.kernel_size
    weight = weight_of(convolution).clone()
    weight[:, :, height // 2, width // 2] += 1
    set_weight(convolution, weight)
    bypass(model, node, branch)
