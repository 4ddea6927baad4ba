"""A float convolution whose channels are only read in slices, as a convolution for each slice:

    Slice(Conv(X, W, b), s, e, axis=1) = Conv(X, W[s:e], b[s:e])

as channel k of the result comes from row k of W and entry k of b alone. OpenVINO keeps such tensors with their channels
innermost, where a slice is a copy with gaps, for which its CPU plugin has a reference kernel only; ONNX Runtime changes
its layout for one.
"""

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.convenience import replace_nodes_and_values
from onnx_ir.passes.common import RemoveUnusedNodesPass

from convert.qdq.graph import add_initializer, constant, operand


@dataclass(frozen=True)
class Slice:
    node: ir.Node
    start: int
    end: int


def convolve_slices(model: ir.Model) -> int:
    """In place; returns how many convolutions were divided. Expects static shapes."""
    found = [(node, slices) for node in model.graph if (slices := slices_of(node))]
    for convolution, slices in found:
        for part in slices:
            rewrite(model, convolution, part)
    RemoveUnusedNodesPass()(model)
    return len(found)


def slices_of(node: ir.Node) -> list[Slice]:
    """All readers of a convolution of float constants without groups, if each takes some of its channels."""
    if node.op_type != "Conv" or not all(operand(node, i).is_initializer() for i in range(1, len(node.inputs))):
        return []
    groups = node.attributes.get("group")
    if node.outputs[0].is_graph_output() or (groups is not None and groups.as_int() != 1):
        return []
    channels = constant(operand(node, 1)).shape[0]
    parts = [channels_taken(use.node, channels) for use in node.outputs[0].uses()]
    slices = [part for part in parts if part is not None]
    return slices if len(slices) == len(parts) else []


def channels_taken(node: ir.Node, channels: int) -> Slice | None:
    if node.op_type != "Slice" or not all(operand(node, i).is_initializer() for i in range(1, len(node.inputs))):
        return None
    start, end, axis, *step = (int(constant(operand(node, i)).item()) for i in range(1, len(node.inputs)))
    if axis != 1 or step not in ([], [1]):
        return None
    first, last, _ = slice(start, end).indices(channels)
    return Slice(node, first, last)


def rewrite(model: ir.Model, convolution: ir.Node, part: Slice) -> None:
    name, old = f"{convolution.name}.{part.start}", part.node.outputs[0]
    constants = [
        add_initializer(model, f"{name}.{kind}", constant(operand(convolution, index))[part.start : part.end].copy())
        for index, kind in enumerate(("weight", "bias")[: len(convolution.inputs) - 1], start=1)
    ]
    node = ir.node("Conv", [operand(convolution, 0), *constants], convolution.attributes, name=name)
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = old.name, old.type, old.shape
    replace_nodes_and_values(model.graph, part.node, [part.node], [node], [old], [node.outputs[0]])
