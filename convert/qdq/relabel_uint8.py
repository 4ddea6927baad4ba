"""Relabel int8 activations as uint8: ``q_u8 = q_s8 + 128``, ``zero_point_u8 = zero_point_s8 + 128``, same scale.

Exact: ``(q + 128) - (zp + 128) = q - zp``, and both ranges saturate at the same real values. ONNX Runtime's and
OpenVINO's integer kernels on x86 multiply uint8 activations with int8 weights; int8 activations are refused or run
several times slower.
"""

import numpy as np
import onnx_ir as ir

from convert.qdq.graph import add_initializer, constant, operand, quantize_nodes


def relabel_uint8(model: ir.Model) -> int:
    """In place; returns how many tensors were relabelled. Expects grids that are not shared (``name_tensors``)."""
    count = 0
    for quantize in quantize_nodes(model):
        old = operand(quantize, 2)
        if constant(old).dtype != np.int8:
            continue
        shifted = (constant(old).astype(np.int16) + 128).astype(np.uint8)
        del model.graph.initializers[str(old.name)]
        new = add_initializer(model, str(old.name), shifted)
        quantize.replace_input_with(2, new)
        quantize.attributes.pop("output_dtype", None)
        quantize.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
        for dequantize, _ in quantize.outputs[0].uses():
            dequantize.replace_input_with(2, new)
        count += 1
    return count
