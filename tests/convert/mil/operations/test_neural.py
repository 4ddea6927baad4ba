import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.convert.mil.programs import Case, Cases, assert_same, by_opset, check

torch.manual_seed(0)
MAP = torch.randn(2, 4, 7, 6)
LINE = torch.randn(1, 4, 9)
VOLUME = torch.randn(1, 2, 4, 5, 3)
WEIGHT = torch.randn(6, 4, 3, 2)
GROUPED = torch.randn(8, 2, 3, 3)
BIAS = torch.randn(6)
TOKENS = torch.randn(2, 5, 8)
GAMMA, BETA = torch.randn(4), torch.randn(4)
MEAN, VARIANCE = torch.randn(4), torch.rand(4) + 0.5
QUERY, KEY, VALUE = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 7)
MASK = torch.rand(5, 6) > 0.4
MASK[:, 0] = True  # a query that sees nothing has no defined answer


def given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value.numpy() if isinstance(value, Tensor) else value for name, value in options.items()}


def case(kind: str, x: Tensor, expected: Any, opset: str = "iOS17", **constants: Any) -> Case:
    return Case(kind, {"x": x}, given(constants), expected, opset)


def pool(kind: str, x: Tensor, expected: Any, kernel_sizes: list[int], pad_type: str = "valid", **options: Any) -> Case:
    return case(kind, x, expected, kernel_sizes=kernel_sizes, pad_type=pad_type, **options)


def product(x: Tensor, y: Tensor, expected: Any, **constants: Any) -> Case:
    return Case("matmul", {"x": x, "y": y}, constants, expected)


def attention(expected: Any, opset: str = "iOS18", **constants: Any) -> Case:
    inputs = {"query": QUERY, "key": KEY, "value": VALUE}
    return Case("scaled_dot_product_attention", inputs, given(constants), expected, opset)


def surrounded(x: Tensor, value: float, *pads: int) -> Tensor:
    """``pads`` before and after each of the last two dimensions, in their order."""
    top, bottom, left, right = pads
    return F.pad(x, (left, right, top, bottom), value=value)


WHOLE = case("layer_norm", TOKENS, lambda x: F.layer_norm(x, x.shape), axes=[0, 1, 2])
CASES = [
    case("conv", MAP, lambda x: F.conv2d(x, WEIGHT), weight=WEIGHT),
    case("conv", MAP, lambda x: F.conv2d(x, WEIGHT, BIAS), weight=WEIGHT, bias=BIAS, pad_type="valid"),
    case(
        "conv",
        MAP,
        lambda x: F.conv2d(x, WEIGHT, BIAS, (2, 1), (1, 2), (1, 2)),
        weight=WEIGHT,
        bias=BIAS,
        strides=[2, 1],
        pad_type="custom",
        pad=[1, 1, 2, 2],
        dilations=[1, 2],
    ),
    case(
        "conv",
        MAP,
        lambda x: F.conv2d(surrounded(x, 0, 0, 2, 3, 1), WEIGHT),
        weight=WEIGHT,
        pad_type="custom",
        pad=[0, 2, 3, 1],
    ),
    case("conv", MAP, lambda x: F.conv2d(x, WEIGHT), weight=WEIGHT, pad_type="valid", pad=[1, 1, 1, 1]),
    case(
        "conv",
        MAP,
        lambda x: F.conv2d(x, GROUPED, groups=2, padding=1, stride=2),
        weight=GROUPED,
        groups=2,
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
    ),
    case("conv", MAP, lambda x: F.conv2d(x, GROUPED[:4, :1], groups=4), weight=GROUPED[:4, :1], groups=4),
    # 7 rows at stride 2 are 4 of 3, so 1 + 1; 6 columns at stride 2 are 3 of 2, so none.
    case(
        "conv",
        MAP,
        lambda x: F.conv2d(surrounded(x, 0, 1, 1, 0, 0), WEIGHT, stride=2),
        weight=WEIGHT,
        pad_type="same",
        strides=[2, 2],
    ),
    # 7 rows of 3 at stride 2 are 4, so 1 + 1; 6 columns of 3 at stride 2 are 3, so 0 + 1.
    case(
        "conv",
        MAP,
        lambda x: F.conv2d(surrounded(x, 0, 1, 1, 0, 1), GROUPED, groups=2, stride=2),
        weight=GROUPED,
        groups=2,
        pad_type="same",
        strides=[2, 2],
    ),
    # 7 rows of 3 need 2; 6 columns of 2 need 1, which comes last, or first.
    case("conv", MAP, lambda x: F.conv2d(surrounded(x, 0, 1, 1, 0, 1), WEIGHT), weight=WEIGHT, pad_type="same"),
    case("conv", MAP, lambda x: F.conv2d(surrounded(x, 0, 1, 1, 1, 0), WEIGHT), weight=WEIGHT, pad_type="same_lower"),
    case(
        "conv",
        MAP,
        lambda x: F.conv2d(surrounded(x, 0, 2, 2, 1, 2), WEIGHT, dilation=(2, 3)),
        weight=WEIGHT,
        pad_type="same",
        dilations=[2, 3],
    ),
    case(
        "conv",
        LINE,
        lambda x: F.conv1d(F.pad(x, (2, 1)), WEIGHT[..., 0], BIAS, 2),
        weight=WEIGHT[..., 0],
        bias=BIAS,
        strides=[2],
        pad_type="custom",
        pad=[2, 1],
    ),
    case(
        "conv",
        VOLUME,
        lambda x: F.conv3d(x, torch.ones(3, 2, 2, 1, 2), padding=(1, 0, 1)),
        weight=torch.ones(3, 2, 2, 1, 2),
        pad_type="custom",
        pad=[1, 1, 0, 0, 1, 1],
    ),
    Case("conv", {"x": MAP, "weight": WEIGHT}, {}, lambda x, weight: F.conv2d(x, weight)),
    pool("max_pool", MAP, lambda x: F.max_pool2d(x, (2, 3)), [2, 3], strides=[2, 3]),
    pool("max_pool", MAP, lambda x: F.max_pool2d(x, (2, 3), 1), [2, 3]),
    pool(
        "max_pool",
        MAP - 9,
        lambda x: F.max_pool2d(surrounded(x, -math.inf, 1, 0, 0, 2), 3, 2),
        [3, 3],
        "custom",
        strides=[2, 2],
        pad=[1, 0, 0, 2],
    ),
    pool("max_pool", MAP - 9, lambda x: F.max_pool2d(surrounded(x, -math.inf, 0, 1, 0, 1), 2, 1), [2, 2], "same"),
    pool("max_pool", LINE, lambda x: F.max_pool1d(x, 3, 2), [3], strides=[2], ceil_mode=False),
    pool("max_pool", VOLUME, lambda x: F.max_pool3d(x, 2, 1), [2, 2, 2]),
    pool("avg_pool", MAP, lambda x: F.avg_pool2d(x, (2, 3), 2), [2, 3], strides=[2, 2]),
    pool(
        "avg_pool",
        MAP,
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=True),
        [3, 3],
        "custom",
        strides=[2, 2],
        pad=[1, 1, 1, 1],
    ),
    pool(
        "avg_pool",
        MAP,
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        [3, 3],
        "custom",
        strides=[2, 2],
        pad=[1, 1, 1, 1],
        exclude_padding_from_average=True,
    ),
    pool("avg_pool", MAP, lambda x: F.avg_pool2d(surrounded(x, 0, 1, 0, 1, 0), 2, 1), [2, 2], "same_lower"),
    pool("avg_pool", LINE, lambda x: F.avg_pool1d(x, 4, 1), [4]),
    pool("avg_pool", VOLUME, lambda x: F.avg_pool3d(x, 2), [2, 2, 2], strides=[2, 2, 2]),
    case("linear", TOKENS, lambda x: F.linear(x, KEY[0, 0].repeat(1, 2)), weight=KEY[0, 0].repeat(1, 2)),
    case(
        "linear",
        TOKENS,
        lambda x: F.linear(x, KEY[0, 0].repeat(1, 2), BIAS),
        weight=KEY[0, 0].repeat(1, 2),
        bias=BIAS,
    ),
    product(QUERY, KEY, lambda x, y: x @ y.transpose(2, 3), transpose_y=True),
    product(KEY, VALUE, lambda x, y: x.transpose(2, 3) @ y, transpose_x=True),
    product(QUERY, VALUE[0, :1, :4], lambda x, y: x @ y),
    product(KEY[0, 0], QUERY, lambda x, y: x @ y.transpose(2, 3), transpose_x=False, transpose_y=True),
    case("matmul", KEY, lambda x: x @ KEY[0, 0].mT, y=KEY[0, 0].mT.contiguous()),
    case("softmax", TOKENS * 9, lambda x: F.softmax(x, 2)),
    case("softmax", TOKENS, lambda x: F.softmax(x, 1), axis=1),
    case("softmax", TOKENS, lambda x: F.softmax(x, 1), axis=-2),
    attention(F.scaled_dot_product_attention),
    attention(lambda query, key, value: F.scaled_dot_product_attention(query, key, value, MASK), attn_mask=MASK),
    attention(
        lambda query, key, value: F.scaled_dot_product_attention(query, key, value, VALUE[0, :, :5, :6]),
        attn_mask=VALUE[0, :, :5, :6].contiguous(),
    ),
    case("batch_norm", MAP, lambda x: F.batch_norm(x, MEAN, VARIANCE), mean=MEAN, variance=VARIANCE),
    case(
        "batch_norm",
        MAP,
        lambda x: F.batch_norm(x, MEAN, VARIANCE, GAMMA, BETA, eps=0.1),
        mean=MEAN,
        variance=VARIANCE,
        gamma=GAMMA,
        beta=BETA,
        epsilon=np.float32(0.1),
    ),
    case("batch_norm", LINE, lambda x: F.batch_norm(x, MEAN, VARIANCE), mean=MEAN, variance=VARIANCE),
    case("instance_norm", MAP, lambda x: F.instance_norm(x)),
    case(
        "instance_norm",
        MAP,
        lambda x: F.instance_norm(x, None, None, GAMMA, BETA, eps=0.1),
        gamma=GAMMA,
        beta=BETA,
        epsilon=np.float32(0.1),
    ),
    case("layer_norm", TOKENS, lambda x: F.layer_norm(x, (8,)), axes=[-1]),
    WHOLE,
    case(
        "layer_norm",
        TOKENS,
        lambda x: F.layer_norm(x, (5, 8), TOKENS[0], TOKENS[1], 0.1),
        axes=[2, 1],
        gamma=TOKENS[0],
        beta=TOKENS[1],
        epsilon=np.float32(0.1),
    ),
    case(
        "layer_norm",
        MAP,
        lambda x: F.layer_norm(x.movedim(1, 3), (4,), GAMMA, BETA).movedim(3, 1),
        axes=[1],
        gamma=GAMMA,
        beta=BETA,
    ),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cases]:
    return by_opset(tmp_path_factory.mktemp("neural"), CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation(case: Case, saved: dict[str, Cases]) -> None:
    check(saved, case)


def test_layer_norm_is_over_all_axes_where_none_are_given(saved: dict[str, Cases]) -> None:
    """coremltools states the default itself, but cannot write it."""
    cases = saved[WHOLE.opset]
    program = cases.without(WHOLE, {"axes", "epsilon"})
    assert_same(cases.run(WHOLE, program, WHOLE.inputs), F.layer_norm(TOKENS, TOKENS.shape))
