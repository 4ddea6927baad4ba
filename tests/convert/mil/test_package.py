import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert.mil.blob import NUMPY
from convert.mil.package import Input, Package, Var, read
from edgevit.errors import ClaimError, MissingError
from tests.convert.mil.programs import ct, mb, save

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
X = torch.zeros(2, 12)
WEIGHT = np.linspace(-1, 1, 36, dtype=np.float32).reshape(3, 12)


def operations(x: Any) -> Any:
    y = mb.linear(x=x, weight=WEIGHT, bias=np.float32([1, 2, 3]), name="fc")
    first, second = mb.split(x=y, split_sizes=[1, 2], axis=-1, name="parts")
    return mb.concat(values=(second, first), axis=1, name="joined"), mb.softmax(x=y, axis=1, name="scores")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("package") / "m.mlpackage", operations, {"x": X})


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "m.mlpackage"))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Apply ``change`` to the protobuf ``Model``."""
    model = ct.proto.Model_pb2.Model()
    model.ParseFromString((path / MODEL).read_bytes())
    change(model)
    (path / MODEL).write_bytes(model.SerializeToString())


def block(model: Any) -> Any:
    (function,) = model.mlProgram.functions.values()
    return function.block_specializations[function.opset]


def entry(model: Any, kind: str) -> Any:
    """The first operation of a kind."""
    return next(operation for operation in block(model).operations if operation.type == kind)


def constant(model: Any, output: str) -> Any:
    (found,) = (o for o in block(model).operations if o.type == "const" and o.outputs[0].name == output)
    return found.attributes["val"]


# What is read


def test_reads_a_program(original: Path) -> None:
    package = read(original)
    assert package.path == original
    assert (package.specification_version, package.opset) == (8, "CoreML7")
    assert package.inputs == (Input("x", "fp32", (2, 12), None),)
    assert package.outputs == ("joined", "scores")
    assert [(o.kind, o.name) for o in package.operations] == [
        ("linear", "fc"),
        ("split", "parts_0"),
        ("concat", "joined"),
        ("softmax", "scores"),
    ]
    linear, split, concat, softmax = package.operations
    assert linear.inputs.keys() == {"x", "weight", "bias"}
    assert linear.inputs["x"] == "x"
    assert np.array_equal(linear.inputs["weight"], WEIGHT)
    assert linear.inputs["weight"].dtype == np.float32
    assert split.outputs == (Var("parts_0", "fp32", (2, 1)), Var("parts_1", "fp32", (2, 2)))
    assert split.inputs["split_sizes"].tolist() == [1, 2]
    assert concat.inputs["values"] == ("parts_1", "parts_0")
    assert softmax.inputs["axis"].shape == ()
    assert package.producers["parts_1"] is split
    assert package.producers.keys() == {"fc", "parts_0", "parts_1", "joined", "scores"}


@pytest.mark.parametrize("count", [3, 40], ids=["in the program", "in the weight file"])
@pytest.mark.parametrize("dtype", sorted(NUMPY.keys() - {"string", "int64"}))
def test_reads_constants_of_every_type(dtype: str, count: int, tmp_path: Path) -> None:
    values = (np.arange(count) % 2 if dtype == "bool" else np.arange(count) * 3).astype(NUMPY[dtype])

    def program(x: Any) -> Any:
        mb.identity(x=values, name="constant")
        return mb.relu(x=x)

    path = save(tmp_path / "m.mlpackage", program, {"x": X}, "iOS18")
    operation = read(path).producers["constant"]
    assert operation.outputs == (Var("constant", dtype, (count,)),)
    assert operation.inputs["x"].dtype == NUMPY[dtype]
    assert np.array_equal(operation.inputs["x"], values)
    in_file = (path / WEIGHTS).exists() and (path / WEIGHTS).stat().st_size > 64
    assert in_file == (count == 40 and dtype != "bool")


@pytest.mark.parametrize("opset", ["iOS17", "iOS18"])
def test_reads_what_constexpr_operations_hold(opset: str, tmp_path: Path) -> None:
    """As attributes up to iOS 17, as values in place since."""
    steps, scale = np.arange(12, dtype=np.int8).reshape(3, 4), np.float16([1, 2, 3])

    def program(x: Any) -> Any:
        if opset == "iOS18":
            w = mb.constexpr_blockwise_shift_scale(data=steps, scale=scale.reshape(3, 1), name="w")
        else:
            grid = {"zero_point": np.int8(0), "scale": scale, "axis": np.int32(0)}
            w = mb.constexpr_affine_dequantize(quantized_data=steps, **grid, name="w")
        return mb.matmul(x=x, y=w)

    package = read(save(tmp_path / "m.mlpackage", program, {"x": torch.zeros(2, 3).half()}, opset))
    operation = package.producers["w"]
    assert operation.outputs[0].dtype == "fp16"
    assert np.array_equal(operation.inputs["data" if opset == "iOS18" else "quantized_data"], steps)
    assert operation.inputs["scale"].dtype == np.float16
    assert np.array_equal(operation.inputs["scale"].ravel(), scale)
    assert "name" not in operation.inputs
    assert package.producers[package.outputs[0]].inputs["y"] == "w"


def test_reads_names_and_text(tmp_path: Path) -> None:
    path = save(tmp_path / "m.mlpackage", lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"), {"x": X})
    assert read(path).operations[0].inputs["mode"].item() == "TANH_APPROXIMATION"


# What is refused


def remove(name: Path) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def write(name: Path, data: bytes) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(data) and None


def halve(name: Path) -> Callable[[Path], None]:
    return lambda path: (
        (path / name).write_bytes((path / name).read_bytes()[: (path / name).stat().st_size // 2]) and None
    )


def manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        entries = json.loads((path / "Manifest.json").read_text())
        change(entries)
        (path / "Manifest.json").write_text(json.dumps(entries))

    return damage


def program(change: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda path: edit(path, change)


def program_outside(path: Path) -> None:
    shutil.copy(path / MODEL, path.parent / "elsewhere.mlmodel")
    manifest(lambda m: m["itemInfoEntries"][m["rootModelIdentifier"]].update(path="../../elsewhere.mlmodel"))(path)


def weights_outside(path: Path) -> None:
    shutil.copy(path / WEIGHTS, path.parent / "elsewhere.bin")
    name = "@model_path/../../../elsewhere.bin"
    edit(path, lambda m: setattr(constant(m, "fc_weight_0").blobFileValue, "fileName", name))


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no package": (shutil.rmtree, "Manifest.json"),
    "no manifest": (remove(Path("Manifest.json")), "Manifest.json"),
    "an empty manifest": (write(Path("Manifest.json"), b""), "Manifest.json"),
    "half a manifest": (halve(Path("Manifest.json")), "Manifest.json"),
    "a binary manifest": (write(Path("Manifest.json"), b"\xff\x00\x80"), "Manifest.json"),
    "a manifest that is a list": (write(Path("Manifest.json"), b"[]"), "Manifest.json"),
    "a manifest without a root": (manifest(lambda m: m.pop("rootModelIdentifier")), "Manifest.json"),
    "a manifest without its entry": (manifest(lambda m: m["itemInfoEntries"].clear()), "Manifest.json"),
    "a program outside": (program_outside, "elsewhere.mlmodel outside of it"),
    "no program": (remove(MODEL), "model.mlmodel"),
    "an empty program": (write(MODEL, b""), "m.mlpackage holds nothing"),
    "half a program": (halve(MODEL), "model.mlmodel"),
    "a program of noise": (write(MODEL, bytes(range(256)) * 4), "model.mlmodel"),
    "no weights": (remove(WEIGHTS), "weight.bin is missing"),
    "empty weights": (write(WEIGHTS, b""), "weight.bin is damaged"),
    "half the weights": (halve(WEIGHTS), "weight.bin is damaged"),
    "weights of noise": (write(WEIGHTS, bytes(range(256)) * 4), "weight.bin is damaged"),
    "weights outside": (weights_outside, "elsewhere.bin outside of it"),
    "weights without a root": (
        program(lambda m: setattr(constant(m, "fc_weight_0").blobFileValue, "fileName", "weights/weight.bin")),
        "model.mlmodel",
    ),
    "weights at another offset": (
        program(lambda m: setattr(constant(m, "fc_weight_0").blobFileValue, "offset", 128)),
        "weight.bin is damaged",
    ),
    "weights of another shape": (
        program(lambda m: setattr(constant(m, "fc_weight_0").type.tensorType.dimensions[0].constant, "size", 4)),
        "weight.bin is damaged",
    ),
    "weights of another type": (
        program(lambda m: setattr(constant(m, "fc_weight_0").type.tensorType, "dataType", 10)),
        "weight.bin is damaged",
    ),
    "a constant of another shape": (
        program(lambda m: setattr(constant(m, "fc_bias_0").type.tensorType.dimensions[0].constant, "size", 2)),
        "model.mlmodel",
    ),
    "a constant without a type": (
        program(lambda m: constant(m, "fc_bias_0").type.ClearField("tensorType")),
        "model.mlmodel",
    ),
    "a constant without a value": (
        program(lambda m: constant(m, "fc_bias_0").ClearField("immediateValue")),
        "model.mlmodel",
    ),
    "a value from nowhere": (
        program(lambda m: setattr(entry(m, "linear").inputs["x"].arguments[0], "name", "z")),
        "model.mlmodel",
    ),
    "a value from later": (
        program(lambda m: setattr(entry(m, "linear").inputs["x"].arguments[0], "name", "scores")),
        "model.mlmodel",
    ),
    "an output from nowhere": (program(lambda m: block(m).outputs.append("z")), "model.mlmodel"),
    "a constant output": (program(lambda m: block(m).outputs.append("fc_bias_0")), "model.mlmodel"),
    "no output": (program(lambda m: block(m).ClearField("outputs")), "model.mlmodel"),
    "an operation without outputs": (program(lambda m: block(m).operations.add(type="relu")), "model.mlmodel"),
    "another opset's block": (
        program(lambda m: setattr(m.mlProgram.functions["main"], "opset", "CoreML5")),
        "model.mlmodel",
    ),
    "an input without a description": (program(lambda m: m.description.ClearField("input")), "model.mlmodel"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_refuses_a_damaged_package(damage: str, path: Path) -> None:
    break_it, named = DAMAGES[damage]
    break_it(path)
    with pytest.raises(ClaimError, match=r": export it again$") as caught:
        read(path)
    assert named in str(caught.value)


def test_refuses_a_program_cut_anywhere(path: Path) -> None:
    whole = (path / MODEL).read_bytes()
    for size in range(0, len(whole), 97):
        (path / MODEL).write_bytes(whole[:size])
        with pytest.raises(ClaimError, match="export it again"):
            read(path)


def two_functions(model: Any) -> None:
    model.mlProgram.functions["second"].CopyFrom(model.mlProgram.functions["main"])


def flexible(model: Any) -> None:
    entry(model, "linear").outputs[0].type.tensorType.dimensions[0].unknown.variadic = False


UNSUPPORTED: dict[str, tuple[Callable[[Any], object], str]] = {
    "functions": (two_functions, "has 2 functions"),
    "state": (lambda m: m.description.state.add(name="cache"), "keeps state"),
    "a state input": (
        lambda m: m.mlProgram.functions["main"].inputs[0].type.stateType.wrappedType.tensorType.SetInParent(),
        "has 'x' of stateType",
    ),
    "shapes": (flexible, "has 'fc' of a flexible shape"),
    "types": (
        lambda m: setattr(entry(m, "linear").outputs[0].type.tensorType, "dataType", 25),
        "has 'fc' of int4",
    ),
    "floats": (
        lambda m: setattr(entry(m, "linear").outputs[0].type.tensorType, "dataType", 13),
        "has 'fc' of bfp16",
    ),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_refuses_by_name_what_it_does_not_run(what: str, path: Path) -> None:
    change, reason = UNSUPPORTED[what]
    edit(path, change)
    with pytest.raises(ClaimError, match=rf"m\.mlpackage {reason}, which .* does not run: check it on a Mac"):
        read(path)


def test_refuses_control_flow(tmp_path: Path) -> None:
    def branches(x: Any) -> Any:
        positive = mb.greater(x=mb.reduce_sum(x=x), y=0.0)
        return mb.cond(pred=positive, _true_fn=lambda: mb.relu(x=x), _false_fn=lambda: mb.exp(x=x))

    path = save(tmp_path / "m.mlpackage", branches, {"x": X})
    with pytest.raises(ClaimError, match=r"has control flow \(cond\), which"):
        read(path)


@pytest.mark.parametrize("kind", ["neuralNetwork", "pipeline", "glmClassifier"])
def test_refuses_a_model_that_is_no_ml_program(kind: str, path: Path) -> None:
    edit(path, lambda model: getattr(model, kind).SetInParent())
    with pytest.raises(ClaimError, match=rf"m\.mlpackage holds {kind} where an mlProgram is needed: export it again"):
        read(path)


def test_refuses_a_newer_specification_by_its_number(path: Path) -> None:
    edit(path, lambda model: setattr(model, "specificationVersion", 10))
    assert read(path).specification_version == 10
    edit(path, lambda model: setattr(model, "specificationVersion", 11))
    with pytest.raises(MissingError, match=r"version 11, .* up to 10, a runtime older than the artifact: install"):
        read(path)


def test_is_a_value_of_its_own(original: Path, path: Path) -> None:
    """Constants stay what they were when the files are overwritten."""
    package: Package = read(path)
    (path / WEIGHTS).write_bytes(b"\0" * 4096)
    assert np.array_equal(package.operations[0].inputs["weight"], WEIGHT)
    assert np.array_equal(read(original).operations[0].inputs["weight"], WEIGHT)
