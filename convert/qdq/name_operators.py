"""Name ONNX nodes after the modules that hold their weights, as the recipe, the manifest and every profiler call them."""

import onnx_ir as ir

from convert.qdq.graph import WEIGHTED, integer_weight, seen_through_grid


def name_operators(model: ir.Model) -> None:
    """``Conv``, ``Gemm`` and ``MatMul`` get their weight's owner, residual additions ``<branch>.residual``. In place."""
    names: dict[ir.Node, str] = {}
    for node in model.graph:
        if node.op_type in WEIGHTED and (weight := weight_name(node)) is not None:
            names[node] = node.name = weight.removesuffix(".weight")
        elif node.op_type == "Add":
            branches = [producer for value in node.inputs if (producer := seen_through_grid(value)) in names]
            if branches:
                node.name = f"{names[branches[-1]]}.residual"


def weight_name(node: ir.Node) -> str | None:
    dequantize = integer_weight(node)
    weight = node.inputs[1] if dequantize is None else dequantize.inputs[0]
    return str(weight.name) if weight is not None and weight.is_initializer() else None
