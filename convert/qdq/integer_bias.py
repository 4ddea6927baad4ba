"""Biases as int32 on the accumulator's grid: ``b ≈ round(b / (s_x * s_w)) * (s_x * s_w)``, zero point 0.

ONNX Runtime selects QLinearConv and QGemm only when the bias is given so (its QDQ selectors), and computes the
same product itself. The step is the accumulator's own, so the rounding is below anything that the weights resolve.
"""

import numpy as np
import onnx_ir as ir

from convert.qdq.graph import add_initializer, constant, integer_input, integer_weight, operand
from edgevit.errors import ClaimError

INT32 = np.iinfo(np.int32)


def integer_bias(model: ir.Model) -> int:
    """In place; returns how many biases were rewritten. Raises ClaimError if one does not fit int32."""
    count = 0
    for node in list(model.graph):
        weight, activation = integer_weight(node), integer_input(node)
        if weight is None or activation is None or len(node.inputs) < 3 or not operand(node, 2).is_initializer():
            continue
        name = f"{node.name}.bias"  # the operator's: another one may share the constant, on another grid
        step = constant(operand(activation, 1)).astype(np.float32) * constant(operand(weight, 1)).astype(np.float32)
        rounded = np.round(constant(operand(node, 2)).astype(np.float64) / step.astype(np.float64))
        if rounded.max() > INT32.max or rounded.min() < INT32.min:
            raise ClaimError(f"{name} does not fit int32 on its accumulator's grid: have the recipe leave it in float")
        values = [
            add_initializer(model, f"{name}.int32", rounded.astype(np.int32)),
            add_initializer(model, f"{name}.scale", step),
            add_initializer(model, f"{name}.zero_point", np.zeros(len(step), np.int32)),
        ]
        dequantize = ir.node("DequantizeLinear", values, attributes={"axis": 0}, name=f"{name}.dequantize")
        dequantize.outputs[0].name = f"{name}.dequantized"
        model.graph.insert_before(node, dequantize)
        node.replace_input_with(2, dequantize.outputs[0])
        count += 1
    return count
