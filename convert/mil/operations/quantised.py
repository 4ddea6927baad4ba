"""Grids: ``q = saturate(round(x / scale) + zero_point)``, half to even, and ``x = scale * (q - zero_point)``.

A scale is used as it is stored, in fp16 where the program says so; the arithmetic is float32, in which no product of
an fp16 scale and an 8-bit integer is rounded. (coremltools' own code for a constant divides in fp16 there, and may land
one step beside this.)
"""

from typing import Literal

import torch
from torch import Tensor

from convert.mil.operations.registry import HELD, operation


@operation("quantize")
def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: Literal["int8", "uint8"],
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    dtype = HELD[output_dtype]
    steps = (input / along(scale, input, axis)).round()
    if zero_point is not None:
        steps = steps + along(zero_point, input, axis)
    return steps.clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max).to(dtype)


@operation("dequantize")
def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    steps = input.float()
    if zero_point is not None:
        steps = steps - along(zero_point, input, axis)
    return steps * along(scale, input, axis)


@operation("constexpr_affine_dequantize")
def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """Each of ``scale`` and ``zero_point`` is a scalar or a vector along ``axis``."""
    return dequantize(quantized_data, scale, zero_point, axis)


@operation("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """``scale * (data - offset)``; each entry of ``scale`` and ``offset`` is for a block of ``data``."""
    steps = data.float()
    if offset is not None:
        steps = steps - blocks(offset, data)
    return steps * blocks(scale, data)


def along(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """``parameter``, a scalar or a vector along ``axis`` of ``x``, so that it broadcasts with ``x``."""
    if parameter.ndim == 0:
        return parameter
    if axis is None:
        raise ValueError("a vector of scales or zero points without its axis")
    shape = [1] * x.ndim
    shape[axis] = -1
    return parameter.reshape(shape)


def blocks(parameter: Tensor, data: Tensor) -> Tensor:
    """``parameter`` repeated to the shape of ``data``, whose dimensions are multiples of its own."""
    for axis, size in enumerate(data.shape):
        parameter = parameter.repeat_interleave(size // parameter.shape[axis], axis)
    return parameter
