"""The gather of an attention bias from its table → the gathered bias as a constant.

    table[head][offsets], with offsets [N, N] fixed → a buffer [N, N]

Neither operand depends on the input, so the values are the same bits. Source: EfficientViT,
arXiv 2305.07027, whose bias is a table over relative positions as in LeViT, arXiv 2104.01136, section 4.2.
"""

import operator

from torch import Tensor, fx

from convert.fold.graph import bypass, discard


def constant(model: fx.GraphModule, node: fx.Node) -> Tensor:
    """The parameter or buffer that a ``get_attr`` node reads."""
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(model.get_submodule(owner), name)
    assert isinstance(value, Tensor)
    return value.detach()


def operands(node: fx.Node) -> tuple[fx.Node, int, fx.Node, fx.Node] | None:
    """The table, the head, its row and the offsets of ``table[head][offsets]``, or None."""
    if node.target is not operator.getitem:
        return None
    row, offsets = node.args
    if not (isinstance(row, fx.Node) and row.target is operator.getitem and isinstance(offsets, fx.Node)):
        return None
    table, head = row.args
    if not (isinstance(table, fx.Node) and table.op == "get_attr" and isinstance(head, int)):
        return None
    return table, head, row, offsets


def matches(model: fx.GraphModule, node: fx.Node) -> bool:
    """``node`` is the gather."""
    return operands(node) is not None


def check(model: fx.GraphModule, node: fx.Node) -> str | None:
    found = operands(node)
    assert found is not None
    table, head, _, offsets = found
    if offsets.op != "get_attr":
        return "the offsets are not constant"
    owner, _, name = str(table.target).rpartition(".")
    if hasattr(model.get_submodule(owner), f"{name}_{head}"):
        return "the gathered bias has no free name beside its table"
    return None


def rewrite(model: fx.GraphModule, node: fx.Node) -> None:
    """The bias of head 0 of ``attention_biases`` becomes the buffer ``attention_biases_0`` beside it."""
    found = operands(node)
    assert found is not None
    table, head, row, offsets = found
    bias = constant(model, table)[head][constant(model, offsets)]
    owner, _, name = str(table.target).rpartition(".")
    model.get_submodule(owner).register_buffer(f"{name}_{head}", bias)
    with model.graph.inserting_before(node):
        gathered = model.graph.get_attr(f"{table.target}_{head}")
    bypass(model, node, gathered)
    for operand in (row, table, offsets):
        discard(model, operand)
