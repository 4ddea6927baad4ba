"""Drop quantize/dequantize pairs, edge by edge, where the target has no integer kernel that would use them.

The program holds the superset of scales; a pair that feeds only float kernels costs a pass over memory and accuracy and
buys nothing. ``dequantize(quantize(x))`` is replaced by ``x`` on that edge: the tensor gets more precise,
every other scale stays as it was.
"""

from collections.abc import Callable

import onnx_ir as ir

from convert.qdq.graph import activation_dequantize_nodes, operand, quantize_of

Keeps = Callable[[ir.Node, ir.Node], bool]


def drop_pairs(model: ir.Model, keeps: Keeps) -> list[str]:
    """Drop every edge from a DequantizeLinear to a reader for which ``keeps(quantize, reader)`` is false.

    An edge to the graph's output is dropped too. In place; returns the names of the tensors that lost their grid
    altogether.
    """
    outputs = set(model.graph.outputs)
    for dequantize in activation_dequantize_nodes(model):
        quantize = quantize_of(dequantize)
        assert quantize is not None
        source, value = operand(quantize, 0), dequantize.outputs[0]
        for reader, index in list(value.uses()):
            if not keeps(quantize, reader):
                reader.replace_input_with(index, source)
        if value in outputs:
            source.name, value.name = value.name, f"{value.name}.dropped"
            model.graph.outputs[model.graph.outputs.index(value)] = source
    return remove_unread(model)


def remove_unread(model: ir.Model) -> list[str]:
    dropped = []
    outputs = set(model.graph.outputs)
    for node in reversed(list(model.graph)):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        value = node.outputs[0]
        if not value.uses() and value not in outputs:
            if node.op_type == "QuantizeLinear":
                dropped.append(str(value.name).removesuffix(".quantized"))
            model.graph.remove(node, safe=True)
    return dropped[::-1]
