"""From an operation of a package to a step that can run: its function, and the constants among its arguments."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch
from numpy.typing import NDArray
from torch import Tensor

from convert.mil.blob import NUMPY
from convert.mil.operations import FUNCTIONS, HELD
from convert.mil.package import Operation
from edgevit.errors import ClaimError

NAMES = {numpy: name for name, numpy in NUMPY.items()}

Operand = Tensor | str  # a constant, or the name of what is computed


@dataclass(frozen=True, eq=False)
class Step:
    """An operation, its function, and the function's arguments by parameter."""

    operation: Operation
    function: Callable[..., Any]
    constants: Mapping[str, Any]
    operands: Mapping[str, Operand | list[Operand]]

    def reads(self) -> set[str]:
        """The names of what it needs computed before it."""
        parts = (part if isinstance(part, list) else [part] for part in self.operands.values())
        return {operand for part in parts for operand in part if isinstance(operand, str)}

    def run(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Its results; ``values`` has at least what it reads."""

        def value(operand: Operand) -> Any:
            return values[operand] if isinstance(operand, str) else operand

        arguments = {
            name: [value(part) for part in operand] if isinstance(operand, list) else value(operand)
            for name, operand in self.operands.items()
        }
        result = self.function(**self.constants, **arguments)
        return result if isinstance(result, tuple) else (result,)


def bind(path: Path, operation: Operation, computed: Mapping[str, Tensor]) -> Step:
    """``computed``: results that depend on no input of the program, by name.

    Raises ClaimError for an input, or a constant value of an input, that the operation's function does not know.
    """
    function = FUNCTIONS[operation.kind]
    try:
        constants, operands = arguments(operation, inspect.signature(function).parameters, computed)
    except (TypeError, ValueError) as error:
        raise refusal(path, operation, str(error)) from error
    return Step(operation, function, constants, operands)


def arguments(
    operation: Operation, parameters: Mapping[str, inspect.Parameter], computed: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Operand | list[Operand]]]:
    """Constants and operands. Raises ValueError with the reason where one does not fit its parameter."""
    if unknown := operation.inputs.keys() - parameters.keys():
        raise ValueError(f"has the input {min(unknown)}")
    if missing := {name for name, p in parameters.items() if p.default is p.empty} - operation.inputs.keys():
        raise ValueError(f"lacks its input {min(missing)}")
    constants: dict[str, Any] = {}
    operands: dict[str, Operand | list[Operand]] = {}
    for name, value in operation.inputs.items():
        hint = parameters[name].annotation
        parts = [known(part, computed) for part in (value if isinstance(value, tuple) else (value,))]
        if hint == Sequence[Tensor]:
            operands[name] = [held(part) for part in parts]
        elif len(parts) != 1:
            raise ValueError(f"has {len(parts)} values for {name}")
        elif Tensor in (hint, *get_args(hint)):
            operands[name] = held(parts[0])
        else:
            constants[name] = literal(name, parts[0], hint)
    return constants, operands


def known(value: NDArray[Any] | str, computed: Mapping[str, Tensor]) -> NDArray[Any] | Tensor | str:
    return computed.get(value, value) if isinstance(value, str) else value


def held(value: NDArray[Any] | Tensor | str) -> Operand:
    """A constant in the type that functions take (see ``convert.mil.operations.registry``); a name as it is."""
    if isinstance(value, Tensor | str):
        return value
    return torch.from_numpy(value.copy()).to(HELD[NAMES[value.dtype.type]])


def literal(name: str, value: NDArray[Any] | Tensor | str, hint: Any) -> Any:
    """A constant as Python's own type."""
    if isinstance(value, str):
        raise ValueError(f"computes its {name}")
    plain = value.tolist()
    if get_origin(hint) is Literal and plain not in get_args(hint):
        raise ValueError(f"has {name} = {plain!r}")
    return plain


def refusal(path: Path, operation: Operation, reason: str) -> ClaimError:
    whose = f"{path}: {operation.kind} {operation.name!r}"
    return ClaimError(f"{whose} {reason}, which the reference evaluator cannot run: check it on a Mac")
