from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.convert.mil.programs import Case, Cases, by_opset, check

HALVES = torch.tensor([[-1.25, -0.75, -0.25], [0.25, 0.75, 1.25]])  # in steps of 0.5: -2.5 -1.5 -0.5 0.5 1.5 2.5
FAR = torch.tensor([-1e30, -64.5, -64.0, 63.0, 63.5, 64.0, 1e30])  # in steps of 0.5: int8 ends at -64 and 63.5
STEPS = torch.tensor([[-128, -3], [0, 127]], dtype=torch.int8)
UNSIGNED = torch.tensor([[0, 3], [128, 255]], dtype=torch.uint8)
GRID = torch.linspace(-6, 6, 97).reshape(1, 97)
TENTH, THIRD = np.float16(0.1), np.float16(1 / 3)
WEIGHT = np.arange(-12, 12, dtype=np.int8).reshape(2, 3, 4)
SCALES = np.array([0.5, 0.25, 2], np.float32)
BLOCK_SCALES = np.array([THIRD, TENTH]).reshape(2, 1, 1)
BLOCK_OFFSETS = np.array([1, 2], np.uint8).reshape(2, 1, 1)


def quantize(x: Tensor, expected: Any, output_dtype: str, scale: Any, **options: Any) -> Case:
    constants = {"scale": scale, "output_dtype": output_dtype, **options}
    return Case("quantize", {"input": x}, constants, lambda input: torch.tensor(expected))


def dequantize(steps: Tensor, expected: Any, scale: Any, **options: Any) -> Case:
    constants = {"scale": scale, **options}
    return Case("dequantize", {"input": steps}, constants, lambda input: torch.tensor(expected))


def constant(kind: str, expected: Any, opset: str = "iOS17", **constants: Any) -> Case:
    """An operation without any input."""
    return Case(kind, {}, constants, lambda: torch.tensor(np.asarray(expected)), opset)


def in_float32(x: Tensor, scale: np.float16) -> list[list[int]]:
    """Steps of ``x``, at most 127, without any rounding but the last."""
    exact = x.half().numpy().astype(np.float64) / np.float64(scale)
    return np.clip(np.round(exact), -128, 127).astype(np.int8).tolist()


half = np.float32(0.5)
CASES = [
    quantize(HALVES, [[-2, -2, 0], [0, 2, 2]], "int8", half),
    quantize(HALVES, [[1, 1, 3], [3, 5, 5]], "int8", half, zero_point=np.int8(3)),
    quantize(HALVES, [[126, 126, 128], [128, 130, 130]], "uint8", half, zero_point=np.uint8(128)),
    quantize(HALVES, [[0, 0, 0], [0, 2, 2]], "uint8", half),
    quantize(FAR, [-128, -128, -128, 126, 127, 127, 127], "int8", half),
    quantize(FAR, [-128, -124, -123, 127, 127, 127, 127], "int8", half, zero_point=np.int8(5)),
    quantize(FAR, [0, 0, 0, 127, 128, 129, 255], "uint8", half, zero_point=np.uint8(1)),
    quantize(HALVES, [[-2, -1, -1], [0, 1, 5]], "int8", np.array([0.5, 1, 0.25], np.float32), axis=1),
    quantize(HALVES, [[-2, -2, 0], [1, 3, 5]], "int8", np.array([0.5, 0.25], np.float32), axis=-2),
    quantize(
        HALVES,
        [[0, 0, 2], [1, 3, 5]],
        "uint8",
        np.array([0.5, 0.25], np.float32),
        zero_point=np.array([2, 0], np.uint8),
        axis=0,
    ),
    quantize(GRID.half(), in_float32(GRID, TENTH), "int8", TENTH),
    quantize(GRID.half() * 8, in_float32(GRID * 8, THIRD), "int8", THIRD),
    dequantize(STEPS, [[-64.0, -1.5], [0, 63.5]], half),
    dequantize(STEPS, [[-65.5, -3], [-1.5, 62]], half, zero_point=np.int8(3)),
    dequantize(STEPS, [[0.0, 62.5], [64, 127.5]], half, zero_point=np.int8(-128)),
    dequantize(UNSIGNED, [[0.0, 1.5], [64, 127.5]], half),
    dequantize(UNSIGNED, [[-127.5, -126], [-63.5, 0]], half, zero_point=np.uint8(255)),
    dequantize(STEPS, [[-64.0, -6], [0, 254]], np.array([0.5, 2], np.float32), axis=1),
    dequantize(
        STEPS,
        [[-64.5, -2.0], [4, 258]],
        np.array([0.5, 2], np.float32),
        zero_point=np.array([1, -2], np.int8),
        axis=0,
    ),
    dequantize(STEPS, (STEPS.numpy().astype(np.float64) * np.float64(THIRD)).astype(np.float16), THIRD),
    constant(
        "constexpr_affine_dequantize",
        (WEIGHT - 1.0) * SCALES[:, None],
        quantized_data=WEIGHT,
        zero_point=np.int8(1),
        scale=SCALES,
        axis=np.int32(1),
    ),
    constant(
        "constexpr_affine_dequantize",
        (WEIGHT - np.array([-128.0, 127])[:, None, None]) * 0.5,
        opset="iOS16",
        quantized_data=WEIGHT,
        zero_point=np.array([-128, 127], np.int8),
        scale=half,
        axis=np.int32(-3),
    ),
    constant(
        "constexpr_affine_dequantize",
        (WEIGHT.view(np.uint8).astype(np.float64) * np.float64(THIRD)).astype(np.float16),
        quantized_data=WEIGHT.view(np.uint8),
        zero_point=np.uint8(0),
        scale=THIRD,
        axis=np.int32(0),
    ),
    constant(
        "constexpr_blockwise_shift_scale",
        WEIGHT * SCALES.astype(np.float64)[:, None],
        opset="iOS18",
        data=WEIGHT,
        scale=SCALES.reshape(1, 3, 1),
    ),
    constant(
        "constexpr_blockwise_shift_scale",
        np.concatenate(((WEIGHT[..., :2] + 128.0) * 0.5, (WEIGHT[..., 2:] - 7.0) * 0.25), 2),
        opset="iOS18",
        data=WEIGHT,
        scale=np.array([0.5, 0.25], np.float32).reshape(1, 1, 2),
        offset=np.array([-128, 7], np.int8).reshape(1, 1, 2),
    ),
    constant(
        "constexpr_blockwise_shift_scale",
        ((WEIGHT.view(np.uint8) - BLOCK_OFFSETS.astype(np.float64)) * BLOCK_SCALES).astype(np.float16),
        opset="iOS18",
        data=WEIGHT.view(np.uint8),
        scale=BLOCK_SCALES,
        offset=BLOCK_OFFSETS,
    ),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cases]:
    return by_opset(tmp_path_factory.mktemp("quantised"), CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation(case: Case, saved: dict[str, Cases]) -> None:
    check(saved, case)
