"""Convolution, matrix products, attention, normalisation and pooling. Activations are ``[N, C, *spatial]``."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from convert.mil.operations.registry import operation

PadType = Literal["valid", "custom", "same", "same_lower"]
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@operation("conv")
def conv(
    x: Tensor,
    weight: Tensor,
    strides: list[int] | None = None,
    pad_type: PadType = "valid",
    pad: list[int] | None = None,
    dilations: list[int] | None = None,
    groups: int = 1,
    bias: Tensor | None = None,
) -> Tensor:
    """``weight`` is ``[C_out, C_in / groups, *kernel]``; ``pad`` is read with the custom ``pad_type`` only."""
    ones = [1] * (x.ndim - 2)
    strides, dilations = strides or ones, dilations or ones
    padding = window_padding(x, list(weight.shape[2:]), strides, dilations, pad_type, pad)
    padded = F.pad(x, padding) if any(padding) else x
    return CONVOLUTIONS[x.ndim - 2](padded, weight, bias, strides, 0, dilations, groups)


def window_padding(
    x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], pad_type: PadType, pad: list[int] | None
) -> list[int]:
    """Before and after each spatial dimension, the last one first, as torch wants it.

    "same" pads to ``ceil(size / stride)`` outputs, an odd rest at the end, "same_lower" at the start. (The operations'
    text has a second formula for it, of the kernel alone, that contradicts the stated output shape for some strides.)
    """
    given = (pad or []) if pad_type == "custom" else []
    pairs = [given[i : i + 2] for i in range(0, len(given), 2)]
    if pad_type in ("same", "same_lower"):
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        totals = [max(0, -(-n // s) * s - s + span - n) for n, s, span in zip(x.shape[2:], strides, spans, strict=True)]
        pairs = [[n // 2, n - n // 2] if pad_type == "same" else [n - n // 2, n // 2] for n in totals]
    return [n for pair in reversed(pairs) for n in pair]


@operation("max_pool")
def max_pool(
    x: Tensor,
    kernel_sizes: list[int],
    pad_type: PadType,
    strides: list[int] | None = None,
    pad: list[int] | None = None,
    ceil_mode: Literal[False] = False,
) -> Tensor:
    ones = [1] * len(kernel_sizes)
    strides = strides or ones
    padding = window_padding(x, kernel_sizes, strides, ones, pad_type, pad)
    return MAX_POOLS[len(kernel_sizes)](F.pad(x, padding, value=-math.inf), kernel_sizes, strides)


@operation("avg_pool")
def avg_pool(
    x: Tensor,
    kernel_sizes: list[int],
    pad_type: PadType,
    strides: list[int] | None = None,
    pad: list[int] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: Literal[False] = False,
) -> Tensor:
    ones = [1] * len(kernel_sizes)
    strides = strides or ones
    padding = window_padding(x, kernel_sizes, strides, ones, pad_type, pad)
    pool = AVG_POOLS[len(kernel_sizes)]
    averages = pool(F.pad(x, padding), kernel_sizes, strides)
    if not exclude_padding_from_average:
        return averages
    inside = torch.ones_like(x)
    return averages / pool(F.pad(inside, padding), kernel_sizes, strides)


@operation("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``weight`` is ``[D_out, D_in]``."""
    return F.linear(x, weight, bias)


@operation("matmul")
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Transposing a vector has no effect."""
    return torch.matmul(x.mT if transpose_x and x.ndim > 1 else x, y.mT if transpose_y and y.ndim > 1 else y)


@operation("scaled_dot_product_attention")
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """A bool mask says what takes part, a float one is added to the scores."""
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ value


@operation("softmax")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(axis)


@operation("batch_norm")
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    channels = [-1] + [1] * (x.ndim - 2)
    normal = (x - mean.reshape(channels)) * torch.rsqrt(variance.reshape(channels) + epsilon)
    return affine(normal, gamma, beta, channels)


@operation("instance_norm")
def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    variance, mean = torch.var_mean(x, list(range(2, x.ndim)), correction=0, keepdim=True)
    return affine((x - mean) * torch.rsqrt(variance + epsilon), gamma, beta, [-1] + [1] * (x.ndim - 2))


@operation("layer_norm")
def layer_norm(
    x: Tensor,
    axes: list[int] | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """``gamma`` and ``beta`` have the sizes of ``axes``, in the order of ``x``."""
    over = [axis % x.ndim for axis in axes] if axes is not None else list(range(x.ndim))
    variance, mean = torch.var_mean(x, over, correction=0, keepdim=True)
    normal = (x - mean) * torch.rsqrt(variance + epsilon)
    return affine(normal, gamma, beta, [size if axis in over else 1 for axis, size in enumerate(x.shape)])


def affine(x: Tensor, gamma: Tensor | None, beta: Tensor | None, shape: list[int]) -> Tensor:
    """``x * gamma + beta``, both given ``shape`` first."""
    if gamma is not None:
        x = x * gamma.reshape(shape)
    if beta is not None:
        x = x + beta.reshape(shape)
    return x
