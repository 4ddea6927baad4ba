"""Elementwise arithmetic, comparisons, type conversion and reductions. Both sides of a binary one broadcast."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from convert.mil.operations.registry import HELD, operation

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "identity": lambda x: x,
    "relu": torch.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tanh": torch.tanh,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "equal": torch.eq,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mul": torch.mul,
    "not_equal": torch.ne,
    "pow": torch.pow,
    "real_div": torch.div,
    "sub": torch.sub,
}


def register_unary(kind: str, function: Callable[[Tensor], Tensor]) -> None:
    @operation(kind)
    def unary(x: Tensor) -> Tensor:
        return function(x)


def register_binary(kind: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @operation(kind)
    def binary(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)


for _kind, _unary in UNARY.items():
    register_unary(_kind, _unary)
for _kind, _binary in BINARY.items():
    register_binary(_kind, _binary)


@operation("clip")
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.clamp(alpha, beta)


@operation("leaky_relu")
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return F.leaky_relu(x, alpha)


@operation("sigmoid_hard")
def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


@operation("gelu")
def gelu(x: Tensor, mode: Literal["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"] = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@operation("log")
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """Of ``x + epsilon``, so that log 0 is -103 and not -inf (but for an fp16 ``epsilon`` below 3e-8, which is 0)."""
    return torch.log(x + epsilon)


@operation("rsqrt")
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    return torch.rsqrt(x + epsilon)


@operation("cast")
def cast(x: Tensor, dtype: Literal["bool", "fp16", "fp32", "int8", "int16", "int32", "uint8", "uint16"]) -> Tensor:
    """From float to integer towards zero."""
    return x.to(HELD[dtype])


@operation("select")
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)


def register_reduction(kind: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    @operation(kind)
    def reduction(x: Tensor, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
        return function(x, list(range(x.ndim)) if axes is None else axes, keep_dims)


register_reduction("reduce_max", lambda x, axes, keep: x.amax(axes, keep))
register_reduction("reduce_mean", lambda x, axes, keep: x.mean(axes, keep))
register_reduction("reduce_min", lambda x, axes, keep: x.amin(axes, keep))
register_reduction("reduce_sum", lambda x, axes, keep: x.sum(axes, keep))


@operation("reduce_argmax")
def reduce_argmax(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: Literal["int32", "uint16"] = "int32"
) -> Tensor:
    """MIL promises no order among equals."""
    return x.argmax(axis, keep_dims)
