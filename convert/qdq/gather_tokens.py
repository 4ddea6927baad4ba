"""Tokens picked whole, and not entry by entry: for one image, where every channel is picked by the same index,

    GatherElements(X, Expand(Unsqueeze(ids, -1), [1, K, C]), axis=1) = Gather(X, Squeeze(ids, 0), axis=1)

for X ``[1, N, C]`` and ids ``[1, K]``: both are X[0, ids[0, k], c]. The first is how ``torch.gather`` is exported; it
writes an index for every entry, and reads each back.
"""

import numpy as np
import onnx_ir as ir
from onnx_ir.convenience import replace_nodes_and_values
from onnx_ir.passes.common import RemoveUnusedNodesPass

from convert.qdq.graph import add_initializer, constant, operand


def gather_tokens(model: ir.Model) -> int:
    """In place; returns how many nodes were rewritten. Expects static shapes."""
    found = [(node, ids) for node in model.graph if (ids := picked_by(node)) is not None]
    for node, ids in found:
        rewrite(model, node, ids)
    RemoveUnusedNodesPass()(model)
    return len(found)


def picked_by(node: ir.Node) -> ir.Value | None:
    """``ids`` of a node that picks whole tokens of one image, or None."""
    if node.op_type != "GatherElements" or node.attributes["axis"].as_int() != 1:
        return None
    tokens = operand(node, 0)
    if tokens.shape is None or len(tokens.shape) != 3 or tokens.shape[0] != 1:
        return None
    expand = operand(node, 1).producer()
    unsqueeze = operand(expand, 0).producer() if expand is not None and expand.op_type == "Expand" else None
    if unsqueeze is None or unsqueeze.op_type != "Unsqueeze":
        return None
    axes = constant(operand(unsqueeze, 1)).tolist() if operand(unsqueeze, 1).is_initializer() else None
    return operand(unsqueeze, 0) if axes in ([2], [-1]) else None


def rewrite(model: ir.Model, node: ir.Node, ids: ir.Value) -> None:
    first = add_initializer(model, f"{node.name}.image", np.array([0]))
    squeeze = ir.node("Squeeze", [ids, first], name=f"{node.name}.ids")
    squeeze.outputs[0].name = f"{node.name}.ids"
    gather = ir.node("Gather", [operand(node, 0), squeeze.outputs[0]], attributes={"axis": 1}, name=node.name)
    old = node.outputs[0]
    gather.outputs[0].name, gather.outputs[0].type, gather.outputs[0].shape = old.name, old.type, old.shape
    replace_nodes_and_values(model.graph, node, [node], [squeeze, gather], [old], [gather.outputs[0]])
