"""How quantisation looks in ONNX: the nodes of one tensor's grid, and the operators that can run in integers.

ONNX operators QuantizeLinear and DequantizeLinear, opset 21: ``y = saturate(round(x / scale) + zero_point)`` and back.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

WEIGHTED = {"Conv", "Gemm", "MatMul"}


def operand(node: ir.Node, index: int) -> ir.Value:
    """An input that the operator cannot do without."""
    value = node.inputs[index]
    assert value is not None, f"{node.name} has no input {index}"
    return value


def quantize_nodes(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "QuantizeLinear"]


def activation_dequantize_nodes(model: ir.Model) -> list[ir.Node]:
    """DequantizeLinear nodes that read a QuantizeLinear, in graph order."""
    return [node for node in model.graph if node.op_type == "DequantizeLinear" and quantize_of(node) is not None]


def weight_dequantize_nodes(model: ir.Model) -> list[ir.Node]:
    """DequantizeLinear nodes that read a constant, in graph order."""
    return [n for n in model.graph if n.op_type == "DequantizeLinear" and operand(n, 0).is_initializer()]


def quantize_of(dequantize: ir.Node) -> ir.Node | None:
    producer = operand(dequantize, 0).producer()
    return producer if producer is not None and producer.op_type == "QuantizeLinear" else None


def integer_weight(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear of the int8 constant that is ``node``'s weight, or None if the weight is float."""
    if node.op_type not in WEIGHTED:
        return None
    producer = before_layout(operand(node, 1), "Transpose").producer()
    if producer is None or producer.op_type != "DequantizeLinear" or not operand(producer, 0).is_initializer():
        return None
    return producer


def integer_input(node: ir.Node, index: int = 0) -> ir.Node | None:
    """The DequantizeLinear of the quantised activation that ``node`` reads, or None if it reads a float."""
    producer = before_layout(operand(node, index), "Reshape").producer()
    if producer is None or producer.op_type != "DequantizeLinear" or quantize_of(producer) is None:
        return None
    return producer


def before_layout(value: ir.Value, op_type: str) -> ir.Value:
    """What ``value`` was before a change of layout, where it is the result of one.

    A linear layer of tokens reads the Transpose of its weight, or, as a Gemm, the Reshape of its tokens to rows.
    """
    producer = value.producer()
    return operand(producer, 0) if producer is not None and producer.op_type == op_type else value


def bias_addition(product: ir.Node) -> ir.Node | None:
    """The Add of a constant vector that alone reads the result of a MatMul, or None if there is no such."""
    value = product.outputs[0]
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.op_type != "Add":
        return None
    addition, index = uses[0]
    bias = operand(addition, 1 - index)
    return addition if bias.is_initializer() and len(constant(bias).shape) == 1 else None


def seen_through_grid(value: ir.Value) -> ir.Node | None:
    """The node that computes ``value``, before it was put on a grid."""
    producer = value.producer()
    while producer is not None and producer.op_type in ("DequantizeLinear", "QuantizeLinear"):
        producer = operand(producer, 0).producer()
    return producer


def is_integer_weighted(node: ir.Node) -> bool:
    """Both operands are on a grid, so that an integer kernel can take them."""
    return integer_weight(node) is not None and integer_input(node) is not None


def is_integer_addition(node: ir.Node) -> bool:
    return node.op_type == "Add" and all(integer_input(node, i) is not None for i in (0, 1))


def constant(value: ir.Value) -> NDArray[np.generic]:
    assert value.const_value is not None
    return value.const_value.numpy()


def add_initializer(model: ir.Model, name: str, array: NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    model.graph.register_initializer(value)
    return value
