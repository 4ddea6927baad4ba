"""OpenVINO IR, read from the QDQ ONNX form of the quantised program.

Its CPU plugin fuses a requantisation into the operator before it and wants grids on the inputs of integer operators
only; the rest of the superset is dropped.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

# OpenVINO reports its own import to its vendor and keeps an identity under the home folder; its documented opt-out does
# both once more. Where its telemetry package cannot be imported, it takes its own stub, which does neither.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino as ov  # noqa: E402

from calibrate.program import TensorGrid  # noqa: E402
from convert.qdq.drop_pairs import drop_pairs  # noqa: E402
from convert.qdq.graph import is_integer_weighted  # noqa: E402
from convert.registry import TARGETS  # noqa: E402
from convert.source import Source  # noqa: E402
from convert.target import Census, Run, RunAll, logits_of, readable  # noqa: E402
from edgevit.errors import ClaimError  # noqa: E402

FILE = TARGETS["openvino"].file
BATCH = 1

KINDS = {"Convolution": "conv", "FullyConnected": "linear", "MatMul": "matmul"}
NOT_OPERATORS = {"Input", "Output", "Const", "Result", "Parameter"}
INTEGER = {"u8", "i8"}


def lower(source: Source, folder: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Write ``folder / model.xml`` and ``model.bin``; see ``convert.target``."""
    onnx = source.onnx()
    dropped: list[str] = []
    if source.precision == "int8":
        dropped = drop_pairs(onnx, lambda quantize, reader: is_integer_weighted(reader))
    onnx.graph.sort()
    staged = folder / "model.onnx"
    ir.save(onnx, staged)
    model = core().read_model(staged)
    for output, result, name in zip(model.outputs, onnx.graph.outputs, source.outputs, strict=True):
        operator = result.producer()
        assert operator is not None
        output.get_node().input_value(0).get_node().set_friendly_name(operator.name)  # it was called after its result
        output.get_tensor().set_names({name})
    number_unnamed(model)
    for key, value in metadata.items():
        model.set_rt_info(value, ["edgevit", key])
    ov.save_model(model, folder / FILE, compress_to_fp16=source.precision == "fp16")
    staged.unlink()
    return tuple(dropped)


def number_unnamed(model: Any) -> None:
    """Count operators without a name through the model, where OpenVINO counts through the process.

    So one program gives the same bytes each time.
    """
    for index, operator in enumerate(model.get_ordered_ops()):
        if operator.get_friendly_name() == operator.get_name():
            operator.set_friendly_name(f"{operator.get_type_name()}_{index}")


@cache
def core() -> Any:
    """One for the whole process.

    Its CPU plugin gives the thread a stack for signals, and takes it away when it goes: of two that go in the wrong
    order the second puts the first one's back, and the next signal, a Ctrl-C, ends in a segmentation fault.
    """
    return ov.Core()


def compiled(folder: Path, threads: int, counting: bool = False) -> Any:
    """Compiled for the CPU, with performance counters if it is ``counting``.

    Float operators stay float32, where the plugin would take bfloat16 on some hosts.
    """
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    settings["PERF_COUNT"] = counting
    with readable(folder / FILE):
        return core().compile_model(folder / FILE, "CPU", settings)


def load(folder: Path, threads: int = 1) -> Run:
    """See ``convert.target``."""
    return logits_of(load_all(folder, threads))


def load_all(folder: Path, threads: int = 1) -> RunAll:
    """See ``convert.target``."""
    request = compiled(folder, threads).create_infer_request()

    def run(x: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        outputs: tuple[NDArray[Any], ...] = request.infer({0: x}).to_tuple()  # copies: the request reuses its memory
        return outputs

    return run


def census(folder: Path, asked: Mapping[str, str]) -> Census:
    """From the execution graph of the CPU plugin on this host."""
    integer, floats, delivered = Counter[str](), Counter[str](), set[str]()
    for node in compiled(folder, 1).get_runtime_model().get_ops():
        info = {key: value.astype(str) for key, value in node.get_rt_info().items()}
        kind = info["layerType"]
        if kind in NOT_OPERATORS:
            continue
        if kind in KINDS and info["runtimePrecision"] in INTEGER:
            integer[KINDS[kind]] += 1
            delivered |= set(info["originalLayersNames"].replace("/WithoutBiases", "").split(","))
        else:
            floats[KINDS.get(kind, kind.lower())] += 1
    missing = tuple(name for name in asked if name not in delivered)
    return Census(dict(integer), dict(floats), tuple(asked), missing)


def grid(folder: Path) -> dict[str, TensorGrid]:
    """From the constants of each ``(q - zero_point) * scale``.

    Raises ClaimError if the FakeQuantize before one covers another range than its scale and zero point say.
    """
    grids = {}
    with readable(folder / FILE):
        for node in core().read_model(folder / FILE).get_ops():
            if node.get_type_name() != "Multiply" or (quantized := quantized_value(node)) is None:
                continue
            scale, zero_point = constant(node, 1), constant(node.input_value(0).get_node(), 1)
            if quantized.get_type_name() == "Constant":
                grids[quantized.get_friendly_name()] = TensorGrid(scale, tuple(map(int, zero_point)), axis=0)
            else:
                check_range(node.get_friendly_name(), quantized, scale[0], zero_point[0])
                grids[node.get_friendly_name()] = TensorGrid(scale, (int(zero_point[0]) - 128,))
    return grids


def quantized_value(multiply: Any) -> Any | None:
    """The int8 Constant or the FakeQuantize whose value ``multiply`` takes off its grid, or None."""
    subtract = multiply.input_value(0).get_node()
    if subtract.get_type_name() != "Subtract":
        return None
    node = subtract.input_value(0).get_node()
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    integer = node.get_type_name() == "FakeQuantize" or node.get_output_element_type(0) == ov.Type.i8
    return node if integer else None


def check_range(name: str, fake_quantize: Any, scale: float, zero_point: float) -> None:
    """``fake_quantize`` takes the reals that the grid covers to 0..255."""
    found = [constant(fake_quantize, index)[0] for index in (1, 2, 3, 4)]
    expected = [-zero_point * scale, (255 - zero_point) * scale, 0, 255]
    if not np.allclose(found, expected, rtol=1e-6, atol=0):
        raise ClaimError(f"{name} is clipped to {found}, but its grid says {expected}: export it again")


def constant(node: Any, index: int) -> tuple[float, ...]:
    """The values of a constant operand, seen through conversions and reshapes."""
    source = node.input_value(index).get_node()
    while source.get_type_name() in ("Convert", "Reshape"):
        source = source.input_value(0).get_node()
    return tuple(np.asarray(source.data).reshape(-1).tolist())
