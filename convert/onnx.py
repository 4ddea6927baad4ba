"""ONNX for ONNX Runtime: the quantised program in QDQ form, with what its CPU kernels need and nothing else.

An integer convolution needs a grid on its output (QLinearConv), so pairs after one stay; a classifier (QGemm) does not.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the library is loaded; it would write files under the home folder
import onnxruntime as ort

from calibrate.program import TensorGrid
from convert.qdq.drop_pairs import drop_pairs
from convert.qdq.graph import (
    constant,
    is_integer_addition,
    is_integer_weighted,
    operand,
    quantize_nodes,
    weight_dequantize_nodes,
)
from convert.qdq.integer_bias import integer_bias
from convert.qdq.linear_as_gemm import linear_as_gemm
from convert.registry import TARGETS
from convert.source import INPUT, Source
from convert.target import Census, Run, RunAll, logits_of, readable

FILE = TARGETS["onnx"].file
BATCH = 1
PROVIDERS = ["CPUExecutionProvider"]

INTEGER_KINDS = {"QLinearConv": "conv", "QGemm": "linear", "QLinearMatMul": "matmul", "QLinearAdd": "add"}
FLOAT_KINDS = {"Conv": "conv", "Gemm": "linear", "MatMul": "matmul", "FusedMatMul": "matmul"}


def lower(source: Source, folder: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Write ``folder / model.onnx``; see ``convert.target``."""
    model = source.onnx()
    dropped: list[str] = []
    if source.precision == "int8":
        dropped = drop_pairs(model, keeps)
        linear_as_gemm(model)
        integer_bias(model)
    elif source.precision == "fp16":
        model = half(model)
    for value, name in zip(model.graph.outputs, source.outputs, strict=True):
        value.name = name
    model.metadata_props.update(metadata)
    model.producer_name = "edgevit"
    model.graph.sort()
    ir.save(model, folder / FILE)
    return tuple(dropped)


def keeps(quantize: ir.Node, reader: ir.Node) -> bool:
    """Whether ONNX Runtime has an integer kernel that starts or ends with the pair between these nodes."""
    producer = operand(quantize, 0).producer()
    if producer is not None and producer.op_type == "Relu":
        producer = operand(producer, 0).producer()
    ends = producer is not None and producer.op_type in ("Conv", "Add") and is_integer(producer)
    return ends or is_integer(reader)


def is_integer(node: ir.Node) -> bool:
    return is_integer_weighted(node) or is_integer_addition(node)


def half(model: ir.Model) -> ir.Model:
    """Weights and arithmetic in float16, input and output in float32 (onnxruntime's own converter)."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted: ir.Model = ir.from_proto(convert_float_to_float16(ir.to_proto(model), keep_io_types=True))
    return converted


def session(path: Path, threads: int, optimized: Path | None = None) -> ort.InferenceSession:
    """Leaves the graph that it runs in ``optimized``."""
    options = session_options(threads)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(str(path), options, providers=PROVIDERS)


def profiled_session(path: Path, threads: int, events: Path) -> ort.InferenceSession:
    """Runs the graph as it is; ``events`` is how the name of the file starts to which it writes its profile."""
    options = session_options(threads)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling, options.profile_file_prefix = True, str(events)
    return ort.InferenceSession(str(path), options, providers=PROVIDERS)


def session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return options


def load(folder: Path, threads: int = 1) -> Run:
    """See ``convert.target``."""
    return logits_of(load_all(folder, threads))


def load_all(folder: Path, threads: int = 1) -> RunAll:
    """See ``convert.target``."""
    with readable(folder / FILE):
        runtime = session(folder / FILE, threads)

    def run(x: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        return tuple(runtime.run(None, {INPUT: x}))

    return run


def census(folder: Path, asked: Mapping[str, str]) -> Census:
    """From the graph that ONNX Runtime runs after its own optimisation on this host."""
    with tempfile.TemporaryDirectory(prefix="edgevit-") as scratch, readable(folder / FILE):
        optimized = Path(scratch) / "optimized.onnx"
        session(folder / FILE, 1, optimized)
        model = ir.load(optimized)
        integer, floats, delivered = Counter[str](), Counter[str](), set[str]()
        for node in model.graph:
            if node.op_type in INTEGER_KINDS:
                integer[INTEGER_KINDS[node.op_type]] += 1
                delivered |= operator_names(node)
            else:
                floats[FLOAT_KINDS.get(node.op_type, node.op_type.lower())] += 1
    missing = tuple(name for name in asked if name not in delivered)
    return Census(dict(integer), dict(floats), tuple(asked), missing)


def operator_names(node: ir.Node) -> set[str]:
    """The operator that an integer node computes.

    An addition keeps its name through every fusion; the others do not, but their weights' scales do.
    """
    if node.op_type == "QLinearAdd":
        return {str(node.name)}
    names = {str(value.name) for value in node.inputs if value is not None}
    return {name.removesuffix(".weight.scale") for name in names if name.endswith(".weight.scale")}


def grid(folder: Path) -> dict[str, TensorGrid]:
    """Read from the initializers; uint8 zero points are moved back to the int8 grid."""
    grids = {}
    with readable(folder / FILE):
        model = ir.load(folder / FILE)
        if not model.graph.outputs:
            raise ValueError("an empty file is a valid protobuf, but no model")
        for node in quantize_nodes(model):
            name = str(node.outputs[0].name).removesuffix(".quantized")
            grids[name] = read_grid(node, offset=128, axis=None)
        for node in weight_dequantize_nodes(model):
            if constant(operand(node, 0)).dtype == np.int8:
                grids[str(operand(node, 0).name)] = read_grid(node, offset=0, axis=0)
    return grids


def read_grid(node: ir.Node, offset: int, axis: int | None) -> TensorGrid:
    scale, zero_point = (constant(operand(node, index)).reshape(-1) for index in (1, 2))
    return TensorGrid(tuple(scale.tolist()), tuple(int(z) - offset for z in zero_point), axis)
