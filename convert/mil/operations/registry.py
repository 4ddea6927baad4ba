"""Which function computes which MIL operation.

A function's parameters are the operation's inputs, under MIL's names and with MIL's defaults. An annotation says what
each one takes: ``Tensor`` (also None, or a sequence of them) is what may be computed, anything else must be a constant
and comes as Python's own type, and a ``Literal`` lists the values that are implemented.

Tensors hold fp16 as float32 and every unsigned integer wider than 8 bits as the next wider signed one, because torch
computes little in those types; results are rounded to the type that the program states where they are kept
(``convert.mil.evaluator``), so that no function here sees to it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

HELD = {
    "bool": torch.bool,
    "fp16": torch.float32,
    "fp32": torch.float32,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "uint16": torch.int32,
    "uint32": torch.int64,
}

F = TypeVar("F", bound=Callable[..., Any])
FUNCTIONS: dict[str, Callable[..., Any]] = {}


def operation(kind: str) -> Callable[[F], F]:
    """Register a function for the operation that MIL calls ``kind``."""

    def register(function: F) -> F:
        FUNCTIONS[kind] = function
        return function

    return register
