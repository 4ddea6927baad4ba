"""Hand-made ONNX models as an exporter would write them, and ONNX Runtime without its optimiser to run them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from convert.onnx import ort

Array = NDArray[Any]


def model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Array],
    inputs: Mapping[str, Sequence[int]],
    outputs: Sequence[str],
) -> ir.Model:
    """Float inputs and outputs; the shapes of everything between are inferred."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    made = onnx.shape_inference.infer_shapes(made)
    onnx.checker.check_model(made, full_check=True)
    return ir.from_proto(made)


def pair(source: str, name: str, scale: str, zero_point: str) -> list[NodeProto]:
    """``source`` → ``name``_q on a grid → ``name``_dq off it."""
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero_point], [f"{name}_q"], name=f"quantize_{name}"),
        helper.make_node(
            "DequantizeLinear", [f"{name}_q", scale, zero_point], [f"{name}_dq"], name=f"dequantize_{name}"
        ),
    ]


def weight(name: str) -> NodeProto:
    """The int8 constant ``name`` → ``name``_dq."""
    grid = [name, f"{name}_scale", f"{name}_zero_point"]
    return helper.make_node("DequantizeLinear", grid, [f"{name}_dq"], name=f"dequantize_{name}", axis=0)


def convolution(inputs: Sequence[str], output: str) -> NodeProto:
    return helper.make_node("Conv", list(inputs), [output], name=f"node_{output}")


def linear(tokens: str, weight: str, output: str) -> list[NodeProto]:
    """A linear layer of tokens without its bias; ``weight`` is ``[D_out, D_in]``."""
    transpose = helper.make_node("Transpose", [weight], [f"{output}_t"], name=f"transpose_{output}", perm=[1, 0])
    return [transpose, helper.make_node("MatMul", [tokens, f"{output}_t"], [output], name=f"node_{output}")]


def weight_constants(name: str, channels: int, seed: int) -> dict[str, Array]:
    """A pointwise weight ``[channels, channels, 1, 1]``."""
    random = np.random.default_rng(seed)
    return {
        name: random.integers(-127, 128, (channels, channels, 1, 1), np.int8),
        f"{name}_scale": random.uniform(0.01, 0.02, channels).astype(np.float32),
        f"{name}_zero_point": np.zeros(channels, np.int8),
    }


def run(made: ir.Model, **inputs: Array) -> list[Array]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = ir.to_proto(made)
    onnx.checker.check_model(proto, full_check=True)
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(None, inputs)
    return outputs


def node(made: ir.Model, name: str) -> ir.Node:
    (found,) = (n for n in made.graph if n.name == name)
    return found


def input_names(made: ir.Model, name: str) -> list[str]:
    return [str(value.name) for value in node(made, name).inputs if value is not None]


def op_types(made: ir.Model) -> list[str]:
    return [n.op_type for n in made.graph]
