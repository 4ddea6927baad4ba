"""A ``.mlpackage`` as data: its program's inputs, operations and outputs, with constants as numpy arrays.

Read from the protobuf (coremltools' ``MIL.proto``) and the weight file directly, and nothing is computed: the library's
own way back to its objects infers every value again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.mil.blob import NUMPY, Blob
from convert.mil.quiet import coremltools
from convert.target import readable
from edgevit.errors import ClaimError, MissingError

MANIFEST = "Manifest.json"
WEIGHTS_ROOT = "@model_path"  # in a program: the folder that its file is in

Value = NDArray[Any] | str  # a constant (bool, string or number, any rank), or the name of what computes it


@dataclass(frozen=True)
class Var:
    """A value that is computed or fed: ``dtype`` is MIL's name for it ("fp16"), or "dictionary", whose shape is ()."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Input(Var):
    """``colour`` is the layout of an image input ("RGB", values 0..255), or None for a tensor."""

    colour: str | None


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation that is not a ``const``; it is named after its first output."""

    kind: str
    inputs: Mapping[str, Value | tuple[Value, ...]]  # attributes such as ``axis`` too
    outputs: tuple[Var, ...]

    @property
    def name(self) -> str:
        return self.outputs[0].name


@dataclass(frozen=True, eq=False)
class Package:
    """An ML Program of one function, in the order of its execution."""

    path: Path
    specification_version: int
    opset: str  # "CoreML7" is that of iOS 17
    inputs: tuple[Input, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    @cached_property
    def producers(self) -> Mapping[str, Operation]:
        """By the name of each output."""
        return {output.name: operation for operation in self.operations for output in operation.outputs}


def read(path: Path) -> Package:
    """The program in the folder ``path``.

    Raises ClaimError that names the file if one of its files is missing or damaged, or if it is no ML Program or one
    that needs control flow, state, flexible shapes or several functions; MissingError if it was written for a newer
    runtime than the installed coremltools knows.
    """
    file, model = model_file(path), coremltools().proto.Model_pb2.Model()
    with readable(file):
        model.ParseFromString(file.read_bytes())
    check_version(path, model)
    check_kind(path, model)
    with readable(file):
        return Reader(path, file, model).package()


def model_file(path: Path) -> Path:
    manifest = path / MANIFEST
    with readable(manifest):
        entries = json.loads(manifest.read_text())
        file = path / "Data" / entries["itemInfoEntries"][entries["rootModelIdentifier"]]["path"]
    return inside(path, file)


def inside(path: Path, file: Path) -> Path:
    """``file``. Raises ClaimError if it is not in the package."""
    if not file.resolve().is_relative_to(path.resolve()):
        raise ClaimError(f"{path} is damaged, it refers to {file} outside of it: export it again")
    return file


def check_version(path: Path, model: Any) -> None:
    known = max(coremltools()._OPSET)
    if model.specificationVersion > known:
        raise MissingError(
            f"{path} has specification version {model.specificationVersion}, and the installed coremltools knows up to "
            f"{known}, a runtime older than the artifact: install a newer coremltools"
        )


def check_kind(path: Path, model: Any) -> None:
    kind = model.WhichOneof("Type")
    if kind != "mlProgram":
        raise ClaimError(f"{path} holds {kind or 'nothing'} where an mlProgram is needed: export it again")
    functions = list(model.mlProgram.functions)
    if len(functions) != 1:
        raise unsupported(path, f"has {len(functions)} functions")
    if model.description.state:
        raise unsupported(path, "keeps state")


def unsupported(path: Path, reason: str) -> ClaimError:
    return ClaimError(f"{path} {reason}, which the reference evaluator does not run: check it on a Mac")


class Reader:
    """From a protobuf ``Model`` that passed ``check_kind``; any exception says that it is damaged."""

    def __init__(self, path: Path, file: Path, model: Any) -> None:
        (function,) = model.mlProgram.functions.values()
        self.path, self.file, self.model, self.function = path, file, model, function
        self.blobs: dict[str, Blob] = {}
        self.values: dict[str, Value] = {}  # by name: what an operation may refer to

    def package(self) -> Package:
        inputs = tuple(self.input(named) for named in self.function.inputs)
        self.values = {var.name: var.name for var in inputs}
        block = self.function.block_specializations[self.function.opset]
        operations = tuple(self.operation(entry) for entry in block.operations if not self.constant(entry))
        outputs = tuple(block.outputs)
        if not outputs or not all(isinstance(self.values[name], str) for name in outputs):
            raise ValueError("a program without outputs, or with a constant for one")
        return Package(self.path, self.model.specificationVersion, self.function.opset, inputs, operations, outputs)

    def input(self, named: Any) -> Input:
        var = self.var(named)
        (feature,) = (f.type for f in self.model.description.input if f.name == var.name)
        image = feature.imageType if feature.WhichOneof("Type") == "imageType" else None
        return Input(var.name, var.dtype, var.shape, image and image.ColorSpace.Name(image.colorSpace))

    def var(self, named: Any) -> Var:
        kind = named.type.WhichOneof("type")
        if kind == "dictionaryType":
            return Var(named.name, "dictionary", ())
        if kind != "tensorType":
            raise unsupported(self.path, f"has {named.name!r} of {kind}")
        return Var(named.name, *self.tensor_type(named.name, named.type.tensorType))

    def tensor_type(self, name: str, tensor: Any) -> tuple[str, tuple[int, ...]]:
        """``name`` is whose it is, for the error."""
        dtype = coremltools().proto.MIL_pb2.DataType.Name(tensor.dataType).lower().replace("float", "fp")
        if dtype not in NUMPY:
            raise unsupported(self.path, f"has {name!r} of {dtype}")
        if any(dimension.WhichOneof("dimension") != "constant" for dimension in tensor.dimensions):
            raise unsupported(self.path, f"has {name!r} of a flexible shape")
        return dtype, tuple(dimension.constant.size for dimension in tensor.dimensions)

    def constant(self, entry: Any) -> bool:
        """Whether ``entry`` is a ``const``; its value is kept for those that read it."""
        if entry.type != "const":
            return False
        self.values[entry.outputs[0].name] = self.literal(entry.outputs[0].name, entry.attributes["val"])
        return True

    def operation(self, entry: Any) -> Operation:
        if entry.blocks:
            raise unsupported(self.path, f"has control flow ({entry.type})")
        outputs = tuple(self.var(named) for named in entry.outputs)
        if not outputs:
            raise ValueError(f"{entry.type} without outputs")
        inputs: dict[str, Value | tuple[Value, ...]] = {
            name: self.literal(name, value) for name, value in entry.attributes.items() if name != "name"
        }
        for name, argument in entry.inputs.items():
            bound = tuple(self.bound(name, binding) for binding in argument.arguments)
            inputs[name] = bound if len(bound) != 1 else bound[0]
        self.values |= {var.name: var.name for var in outputs}
        return Operation(entry.type, inputs, outputs)

    def bound(self, name: str, binding: Any) -> Value:
        if binding.WhichOneof("binding") == "name":
            return self.values[binding.name]
        return self.literal(name, binding.value)

    def literal(self, name: str, value: Any) -> NDArray[Any]:
        """A constant; ``name`` is whose it is, for the error."""
        if value.type.WhichOneof("type") == "listType":
            return np.array([self.literal(name, item) for item in value.immediateValue.list.values])
        if value.type.WhichOneof("type") != "tensorType":
            raise ValueError(f"{name} is no constant")
        dtype, shape = self.tensor_type(name, value.type.tensorType)
        if value.WhichOneof("value") == "blobFileValue":
            return self.blob(value.blobFileValue.fileName).array(value.blobFileValue.offset, dtype, shape)
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        values = getattr(tensor, field).values
        flat = np.frombuffer(values, NUMPY[dtype]) if field == "bytes" else np.array(values, NUMPY[dtype])
        return flat.reshape(shape)

    def blob(self, name: str) -> Blob:
        if name not in self.blobs:
            root, _, rest = name.partition("/")
            if root != WEIGHTS_ROOT:
                raise ValueError(f"weights in {name}")
            self.blobs[name] = Blob(inside(self.path, self.file.parent / rest))
        return self.blobs[name]
