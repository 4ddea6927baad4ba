"""Tokens picked whole, and not entry by entry: for one image, where every channel is picked by the same index,

    gather(X, 1, expand(unsqueeze(ids, 2), [1, K, C])) = index_select(X, 1, ids[0])

for X ``[1, N, C]`` and ids ``[1, K]``: both are X[0, ids[0, k], c]. ExecuTorch's ``gather`` works out the place of each
entry by itself, from an index as large as what it picks.
"""

import torch
from torch.fx import GraphModule, Node

from convert.aten.rewrite import shape

aten = torch.ops.aten


def gather_tokens(module: GraphModule) -> int:
    """In place; returns how many nodes were rewritten."""
    found = [(node, ids) for node in module.graph.nodes if (ids := picked_by(node)) is not None]
    for node, ids in found:
        with module.graph.inserting_before(node):
            row = module.graph.call_function(aten.view.default, (ids, [shape(ids)[1]]))
            picked = module.graph.call_function(aten.index_select.default, (node.args[0], 1, row))
        node.replace_all_uses_with(picked)
        module.graph.erase_node(node)
    return len(found)


def picked_by(node: Node) -> Node | None:
    """``ids`` of a node that picks whole tokens of one image, or None."""
    if node.target is not aten.gather.default or node.args[1] != 1:
        return None
    tokens, _, expand = node.args[:3]
    if not isinstance(tokens, Node) or len(shape(tokens)) != 3 or shape(tokens)[0] != 1:
        return None
    unsqueeze = expand.args[0] if isinstance(expand, Node) and expand.target is aten.expand.default else None
    if (
        not isinstance(unsqueeze, Node)
        or unsqueeze.target is not aten.unsqueeze.default
        or unsqueeze.args[1] not in (2, -1)
    ):
        return None
    ids = unsqueeze.args[0]
    assert isinstance(ids, Node)
    return ids
