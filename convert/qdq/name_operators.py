"""Name ONNX nodes after the modules that hold their weights, as the recipe and the manifest call them."""

import ast

import onnx_ir as ir

from convert.qdq.graph import WEIGHTED, before_layout, bias_addition, integer_weight, operand, seen_through_grid

FOLDED = "pkg.onnxscript.optimizer.folded_from"  # metadata of a constant: the names of those it was computed from


def name_operators(model: ir.Model) -> None:
    """``Conv``, ``Gemm`` and ``MatMul`` get their weight's owner, residual additions ``<branch>.residual``. In place.

    Where the exporter split a linear layer, its product has the name and the addition of its bias is
    ``<name>.bias_addition``. As in ``calibrate.quantizer``, an addition is residual if both operands have one shape:
    adding a bias is not.
    """
    names: dict[ir.Node | None, str] = {}
    for node in model.graph:
        if node.op_type in WEIGHTED and (weight := weight_name(node)) is not None:
            names[node] = node.name = weight.removesuffix(".weight")
            if node.op_type == "MatMul" and (addition := bias_addition(node)) is not None:
                names[addition] = names[node]
                addition.name = f"{node.name}.bias_addition"
        elif node.op_type == "Add" and operand(node, 0).shape == operand(node, 1).shape:
            producers = [seen_through_grid(operand(node, index)) for index in (1, 0)]
            branch = next((names[producer] for producer in producers if producer in names), None)
            if branch is not None:
                node.name = f"{branch}.residual"


def weight_name(node: ir.Node) -> str | None:
    """As the program calls it; the exporter may have transposed a float one in advance, under a name of its own."""
    dequantize = integer_weight(node)
    weight = before_layout(operand(node, 1), "Transpose") if dequantize is None else operand(dequantize, 0)
    if not weight.is_initializer():
        return None
    sources: list[str] = ast.literal_eval(weight.metadata_props.get(FOLDED, "[]"))
    return sources[0] if len(sources) == 1 else str(weight.name)
