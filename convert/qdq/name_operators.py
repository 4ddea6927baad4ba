"""Name ONNX nodes after the modules that hold their weights, as the recipe and the manifest call them."""

import onnx_ir as ir

from convert.qdq.graph import WEIGHTED, integer_weight, operand, seen_through_grid


def name_operators(model: ir.Model) -> None:
    """``Conv``, ``Gemm`` and ``MatMul`` get their weight's owner, residual additions ``<branch>.residual``. In place.

    As in ``calibrate.quantizer``, an addition is residual if both operands have one shape: adding a bias is not.
    """
    names: dict[ir.Node | None, str] = {}
    for node in model.graph:
        if node.op_type in WEIGHTED and (weight := weight_name(node)) is not None:
            names[node] = node.name = weight.removesuffix(".weight")
        elif node.op_type == "Add" and operand(node, 0).shape == operand(node, 1).shape:
            producers = [seen_through_grid(operand(node, index)) for index in (1, 0)]
            branch = next((names[producer] for producer in producers if producer in names), None)
            if branch is not None:
                node.name = f"{branch}.residual"


def weight_name(node: ir.Node) -> str | None:
    dequantize = integer_weight(node)
    weight = operand(node, 1) if dequantize is None else operand(dequantize, 0)
    return str(weight.name) if weight.is_initializer() else None
