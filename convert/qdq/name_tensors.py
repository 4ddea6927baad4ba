"""Give every grid in an ONNX file the name of its tensor, so that it can be read back and compared.

After this pass the scale of tensor ``t`` is the initializer ``t.scale``, its zero point ``t.zero_point``, and the
quantised value itself is called ``t.quantized``; the node that takes it off the grid is called ``t``.
Exporters number these and share equal constants between tensors.
"""

from collections.abc import Mapping

import onnx_ir as ir

from convert.qdq.graph import add_initializer, constant, operand, quantize_nodes, weight_dequantize_nodes


def name_tensors(model: ir.Model, activations: Mapping[str, str]) -> None:
    """``activations``: name of a QuantizeLinear's result as exported → tensor name. In place."""
    for quantize in quantize_nodes(model):
        result = quantize.outputs[0]
        name = activations[str(result.name)]
        grid = own_grid(model, quantize, name)
        for index, (dequantize, _) in enumerate(list(result.uses())):
            replace_grid(dequantize, grid)
            dequantize.name = dequantize.outputs[0].name = f"{name}.{index}" if index else name
        result.name = f"{name}.quantized"
    for dequantize in weight_dequantize_nodes(model):
        name = str(operand(dequantize, 0).name)
        own_grid(model, dequantize, name)
        dequantize.name = f"{name}.dequantize"


def own_grid(model: ir.Model, node: ir.Node, name: str) -> tuple[ir.Value, ir.Value]:
    """Initializers of its own for the scale and zero point of ``node``."""
    scale = add_initializer(model, f"{name}.scale", constant(operand(node, 1)))
    zero_point = add_initializer(model, f"{name}.zero_point", constant(operand(node, 2)))
    replace_grid(node, (scale, zero_point))
    return scale, zero_point


def replace_grid(node: ir.Node, grid: tuple[ir.Value, ir.Value]) -> None:
    for index, value in enumerate(grid, start=1):
        node.replace_input_with(index, value)
