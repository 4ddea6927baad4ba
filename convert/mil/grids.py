"""A Core ML program joined to the operators of the quantised program that it came from, and their grids in it."""

from collections.abc import Sequence

import numpy as np

from calibrate.program import TensorGrid
from convert.mil.package import Operation, Package, Value
from edgevit.errors import ClaimError

WEIGHTED = {"conv", "linear"}
WEIGHTS = {"constexpr_affine_dequantize": "quantized_data", "constexpr_blockwise_shift_scale": "data"}
QUANTIZED = {"quantize", "dequantize", *WEIGHTS}


class View:
    """``operators`` names the weighted ones in their order, which every lowering keeps.

    Raises ValueError if the package has more or fewer.
    """

    def __init__(self, package: Package, operators: Sequence[str]) -> None:
        self.package = package
        self.readers: dict[str, list[Operation]] = {}
        for operation in package.operations:
            for name in names_read(operation):
                self.readers.setdefault(name, []).append(operation)
        weighted = [operation for operation in package.operations if operation.kind in WEIGHTED]
        self.names = dict(zip(weighted, operators, strict=True))

    def grids(self) -> dict[str, TensorGrid]:
        """See ``calibrate.program`` for the names; a grid that belongs to no operator has one of its own.

        Raises ClaimError if one tensor stands on two grids.
        """
        found: dict[str, TensorGrid] = {}
        for operation in self.package.operations:
            if operation.kind in QUANTIZED:
                name, grid = self.tensor(operation) or f"unnamed {operation.name}", self.read_grid(operation)
                if found.setdefault(name, grid) != grid:
                    raise ClaimError(f"{self.package.path} holds {name} on two grids: export it again")
        return found

    def tensor(self, operation: Operation) -> str | None:
        """The name of what a quantized operation puts on a grid, or takes off it."""
        if operation.kind in WEIGHTS:
            reader = self.reader(operation, {"cast"})
            return f"{reader}.weight" if reader else None
        if operation.kind == "dequantize":
            quantize = self.trace(operation.inputs["input"], set())
            return self.tensor(quantize) if quantize is not None else None
        origin = self.trace(operation.inputs["input"], {"relu", "cast"})
        producer = self.operator(origin) if origin is not None and self.is_integer(origin) else None
        reader = self.reader(operation, {"dequantize", "cast"})
        return f"{producer}.output" if producer else f"{reader}.input" if reader else None

    def read_grid(self, operation: Operation) -> TensorGrid:
        inputs = operation.inputs
        scale = np.asarray(inputs["scale"], np.float32).reshape(-1)
        axis = 0 if operation.kind in WEIGHTS else None
        zero_point = inputs.get("zero_point", inputs.get("offset", np.zeros(scale.shape)))
        points = np.broadcast_to(np.asarray(zero_point, np.int64).reshape(-1), scale.shape)
        if operation.kind == "quantize":
            unsigned = operation.outputs[0].dtype == "uint8"
        else:
            value = inputs[WEIGHTS.get(operation.kind, "input")]
            unsigned = self.dtype(value) == "uint8"
        return TensorGrid(tuple(scale.tolist()), tuple((points - 128 * unsigned).tolist()), axis)

    def dtype(self, value: Value | tuple[Value, ...]) -> str:
        if isinstance(value, np.ndarray):
            return str(value.dtype)
        operation = self.package.producers[str(value)]
        return next(output.dtype for output in operation.outputs if output.name == value)

    def operator(self, operation: Operation | None) -> str | None:
        """Its name: its own, or for an addition that of the branch that it adds."""
        if operation is None or operation in self.names:
            return None if operation is None else self.names[operation]
        if operation.kind != "add":
            return None
        branches = [self.trace(operation.inputs[key], {"dequantize", "quantize", "cast"}) for key in "yx"]
        return next((f"{self.names[branch]}.residual" for branch in branches if branch in self.names), None)

    def reader(self, operation: Operation, through: set[str]) -> str | None:
        """The first operator that reads what ``operation`` gives, seen through kinds of operations."""
        for other in self.readers.get(operation.name, []):
            name = self.reader(other, through) if other.kind in through else self.operator(other)
            if name is not None:
                return name
        return None

    def trace(self, value: Value | tuple[Value, ...], through: set[str]) -> Operation | None:
        """What computes ``value``, seen back through kinds of operations; None for a constant or an input."""
        operation = self.package.producers.get(value) if isinstance(value, str) else None
        while operation is not None and operation.kind in through:
            (name,) = (name for name in names_read(operation))
            operation = self.package.producers.get(name)
        return operation

    def is_integer(self, operation: Operation) -> bool:
        """Whether all that it computes from came off a grid: weights and input, or both summands of a quantised sum."""
        if operation in self.names:
            return self.kind(operation, "weight") in WEIGHTS and self.kind(operation, "x") == "dequantize"
        if operation.kind != "add" or self.operator(operation) is None:
            return False
        summands = all(self.kind(operation, key) == "dequantize" for key in "xy")
        return summands and all(reader.kind == "quantize" for reader in self.readers[operation.name])

    def kind(self, operation: Operation, name: str) -> str | None:
        """Of what computes the operand ``name``."""
        source = self.trace(operation.inputs[name], {"cast"})
        return None if source is None else source.kind


def names_read(operation: Operation) -> list[str]:
    parts = (value if isinstance(value, tuple) else (value,) for value in operation.inputs.values())
    return [value for part in parts for value in part if isinstance(value, str)]
