import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from convert.mil.operations.arithmetic import BINARY, UNARY
from tests.convert.mil.programs import Case, Cases, by_opset, check

X = torch.tensor([[-2.5, -1.0, -0.3, 0.0], [0.2, 0.7, 1.5, 7.0]])
POSITIVE = X.abs() + 0.1
CUBE = torch.tensor([[[1.5, -2.0], [0.25, 3.0]], [[-1.0, -4.0], [2.0, 5.0]]])
Y = torch.tensor([[0.5, -1.5, 2.0, 0.0]])
INTEGERS = torch.tensor([[3, -4, 0], [7, 2, -1]], dtype=torch.int32)
erf = np.vectorize(math.erf)


def unary(kind: str, expected: Any, x: Tensor = X, **constants: Any) -> Case:
    """``expected`` computes with float64 arrays."""
    return Case(kind, {"x": x}, constants, lambda x: torch.from_numpy(expected(x.double().numpy())))


def binary(kind: str, expected: Any, x: Tensor = X, y: Tensor = Y) -> Case:
    return Case(kind, {"x": x, "y": y}, {}, lambda x, y: torch.from_numpy(expected(x.numpy(), y.numpy())))


def reduction(kind: str, expected: Any, x: Tensor = CUBE, **constants: Any) -> Case:
    return Case(kind, {"x": x}, constants, lambda x: torch.as_tensor(expected(x.numpy())))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


CASES = [
    unary("abs", np.abs),
    Case("abs", {"x": INTEGERS}, {}, lambda x: torch.tensor([[3, 4, 0], [7, 2, 1]])),
    unary("erf", erf),
    unary("exp", np.exp),
    unary("floor", np.floor),
    unary("identity", lambda x: x),
    unary("relu", lambda x: np.maximum(x, 0)),
    unary("relu6", lambda x: np.clip(x, 0, 6)),
    unary("sigmoid", sigmoid),
    unary("silu", lambda x: x * sigmoid(x)),
    unary("softplus", lambda x: np.log1p(np.exp(x)), X * 8),
    unary("sqrt", np.sqrt, POSITIVE),
    unary("square", np.square),
    unary("tanh", np.tanh),
    unary("clip", lambda x: np.clip(x, -0.5, 1.25), alpha=-0.5, beta=1.25),
    unary("leaky_relu", lambda x: np.where(x < 0, 0.125 * x, x), alpha=0.125),
    unary("sigmoid_hard", lambda x: np.clip(0.25 * x + 0.5, 0, 1), alpha=0.25, beta=0.5),
    unary("gelu", lambda x: x / 2 * (1 + erf(x / math.sqrt(2)))),
    unary("gelu", lambda x: x / 2 * (1 + erf(x / math.sqrt(2))), mode="EXACT"),
    unary(
        "gelu",
        lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        mode="TANH_APPROXIMATION",
    ),
    unary("gelu", lambda x: x * sigmoid(1.702 * x), mode="SIGMOID_APPROXIMATION"),
    unary("log", np.log, POSITIVE),
    unary("log", lambda x: np.full(x.shape, np.log(float(np.float32(1e-45)))), torch.zeros(2, 2)),
    unary("log", lambda x: np.log(x + 0.5), POSITIVE, epsilon=0.5),
    unary("rsqrt", lambda x: x**-0.5, POSITIVE),
    unary("rsqrt", lambda x: np.full(x.shape, 1e6), torch.zeros(2, 2)),
    unary("rsqrt", lambda x: (x + 0.5) ** -0.5, POSITIVE, epsilon=0.5),
    binary("add", np.add),
    binary("add", np.add, INTEGERS, INTEGERS[:1]),
    binary("sub", np.subtract),
    binary("mul", np.multiply),
    binary("real_div", np.divide, X, POSITIVE),
    binary("maximum", np.maximum),
    binary("minimum", np.minimum),
    binary("pow", np.power, POSITIVE, Y),
    binary("equal", np.equal),
    binary("not_equal", np.not_equal),
    binary("less", np.less),
    binary("less_equal", np.less_equal),
    binary("greater", np.greater),
    binary("greater_equal", np.greater_equal),
    Case("add", {"x": X}, {"y": np.float32(3)}, lambda x: x + 3),
    Case("select", {"cond": X > 0, "a": X, "b": Y}, {}, lambda cond, a, b: torch.where(cond, a, b)),
    Case(
        "select",
        {"a": X, "b": Y},
        {"cond": np.array([[True], [False]])},
        lambda a, b: torch.stack([a[0], b[0]]),
    ),
    Case("cast", {"x": X}, {"dtype": "int32"}, lambda x: torch.tensor([[-2, -1, 0, 0], [0, 0, 1, 7]])),
    Case("cast", {"x": X}, {"dtype": "bool"}, lambda x: x != 0),
    Case("cast", {"x": X}, {"dtype": "fp16"}, lambda x: x.half()),
    Case("cast", {"x": X > 0}, {"dtype": "fp32"}, lambda x: torch.tensor([[0.0, 0, 0, 0], [1, 1, 1, 1]])),
    *(
        Case("cast", {"x": INTEGERS.abs()}, {"dtype": dtype}, lambda x: x)
        for dtype in ("int8", "int16", "int32", "uint8", "uint16", "fp16", "fp32")
    ),
    reduction("reduce_mean", lambda x: x.mean((1, 2)), axes=[1, 2]),
    reduction("reduce_mean", lambda x: x.mean((0, 2), keepdims=True), axes=[0, -1], keep_dims=True),
    reduction("reduce_mean", lambda x: x.mean()),
    reduction("reduce_sum", lambda x: x.sum(-2), axes=[-2]),
    reduction("reduce_sum", lambda x: x.sum(1), INTEGERS, axes=[1]),
    reduction("reduce_max", lambda x: x.max((0, 1)), axes=[0, 1]),
    reduction("reduce_max", lambda x: x.max(), keep_dims=False),
    reduction("reduce_min", lambda x: x.min(2, keepdims=True), axes=[2], keep_dims=True),
    reduction("reduce_argmax", lambda x: x.argmax(-1)),
    reduction("reduce_argmax", lambda x: x.argmax(1, keepdims=True), axis=1, keep_dims=True),
    reduction("reduce_argmax", lambda x: x.argmax(0), axis=0, output_dtype="uint16"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cases]:
    return by_opset(tmp_path_factory.mktemp("arithmetic"), CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation(case: Case, saved: dict[str, Cases]) -> None:
    check(saved, case)


def test_every_elementwise_operation_is_tried() -> None:
    assert {case.kind for case in CASES} >= UNARY.keys() | BINARY.keys()
