"""The one quantised program, and the name and grid of every quantised tensor in it.

Tensors are named after the operator they belong to, so that any artifact lowered from the program can be
compared with it tensor by tensor: ``<operator>.weight``; ``<operator>.output`` for what an operator between grids
produces, after the ReLU that belongs to it; ``<operator>.input``, after the first that reads it, for any other tensor.
What a float operator produces is not named after it, because a target may drop the change of layout behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
import torchao.quantization.pt2e  # noqa: F401 - registers the quantized_decomposed operators
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node

decomposed = torch.ops.quantized_decomposed
QUANTIZE = decomposed.quantize_per_tensor.default
DEQUANTIZE = decomposed.dequantize_per_tensor.default
DEQUANTIZE_WEIGHT = decomposed.dequantize_per_channel.default
WEIGHTED = {torch.ops.aten.conv2d.default, torch.ops.aten.convolution.default, torch.ops.aten.linear.default}
RELUS = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}


@dataclass(frozen=True)
class TensorGrid:
    """Scale and zero point of one tensor on the int8 grid: ``value = (q - zero_point) * scale``.

    One entry each, or one an output channel along ``axis``.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    def manifest(self) -> dict[str, Any]:
        grid: dict[str, Any] = {"scale": list(self.scale), "zero_point": list(self.zero_point)}
        return grid if self.axis is None else grid | {"axis": self.axis}


@dataclass(frozen=True)
class QuantizedProgram:
    """What calibration hands to every target."""

    program: ExportedProgram
    module: GraphModule  # the same graph before its last capture, which fixed the batch size
    tensors: dict[str, TensorGrid]  # by tensor name
    nodes: dict[str, str]  # name of an activation's quantize node in ``program`` → tensor name
    asked: dict[str, str]  # name of a quantised operator → its kind

    def run(self, x: Tensor) -> Tensor:
        """``[B, 3, S, S]`` → logits ``[B, classes]``, for any B."""
        return self.outputs(x)[0]

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """``[B, 3, S, S]`` → logits ``[B, classes]``, then what else the model returns, for any B."""
        with torch.no_grad():
            return outputs_of(self.module, x)


@overload
def logits_only(program: QuantizedProgram) -> QuantizedProgram: ...
@overload
def logits_only(program: ExportedProgram) -> ExportedProgram: ...
def logits_only(program: ExportedProgram | QuantizedProgram) -> ExportedProgram | QuantizedProgram:
    """The same program without what it returns beside its logits and what only that needs; names and grids stay."""
    if isinstance(program, QuantizedProgram):
        return quantized_logits(program)
    assert program.example_inputs is not None
    return torch.export.export(first_output(program.module(check_guards=False)), *program.example_inputs)


def quantized_logits(quantized: QuantizedProgram) -> QuantizedProgram:
    assert quantized.program.example_inputs is not None
    (example,) = quantized.program.example_inputs[0]
    nodes = zip(quantize_nodes(quantized.module.graph), quantized.nodes.values(), strict=True)
    names = {node.name: name for node, name in nodes}
    module = first_output(quantized.module)
    activations = [names[node.name] for node in quantize_nodes(module.graph)]
    left = {*activations, *(str(node.target) for node in module.graph.find_nodes(op="get_attr"))}
    tensors = {name: grid for name, grid in quantized.tensors.items() if name in left}
    asked = {name: kind for name, kind in quantized.asked.items() if left & {f"{name}.weight", f"{name}.output"}}
    return with_fixed_batch(module, example, tensors, activations, asked)


def with_fixed_batch(
    module: GraphModule,
    example: Tensor,
    tensors: dict[str, TensorGrid],
    activations: Sequence[str],
    asked: dict[str, str],
) -> QuantizedProgram:
    """Capture ``module`` for the batch of ``example``; ``activations`` names its quantize nodes in their order."""
    program = torch.export.export(module, (example,))
    nodes = {}
    for node, name in zip(quantize_nodes(program.graph), activations, strict=True):
        assert grid_of(node) == tensors[name], f"{name} changed its place during export"
        nodes[node.name] = name
    return QuantizedProgram(program, module, tensors, nodes, asked)


def first_output(module: GraphModule) -> GraphModule:
    """A captured module without all but its first output; the two share their tensors."""
    graph = Graph()
    outputs = graph.graph_copy(module.graph, {})
    assert isinstance(outputs, Sequence)
    graph.output(outputs[0])
    graph.eliminate_dead_code()
    return GraphModule(module, graph)


def outputs_of(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """What a model returns, which may be its logits alone."""
    outputs: Tensor | tuple[Tensor, ...] = model(x)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def weighted_operators(program: ExportedProgram) -> dict[Node, str]:
    """Every convolution and linear of a float or quantised program, in graph order, and its operator's name."""
    signature = program.graph_signature
    tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    named = {}
    for node in program.graph.nodes:
        if node.target not in WEIGHTED:
            continue
        weight = node.args[1].args[0] if node.args[1].target is DEQUANTIZE_WEIGHT else node.args[1]
        if weight.name in tensors:
            named[node] = tensors[weight.name].removesuffix(".weight")
    return named


def name_weights(converted: GraphModule, operators: dict[Node, str]) -> dict[str, TensorGrid]:
    """Give each frozen int8 weight, its scales and zero points the name of its operator, in place; return their grids.

    Conversion numbers them (``_frozen_param7``), and artifacts would inherit numbers that mean nothing.
    """
    grids = {}
    for node, name in operators.items():
        dequantize = node.args[1]
        if not isinstance(dequantize, Node) or dequantize.target is not DEQUANTIZE_WEIGHT:
            continue
        owner = converted.get_submodule(name)
        values = []
        for argument, suffix in zip(dequantize.args[:3], ("weight", "weight_scale", "weight_zero_point"), strict=True):
            assert isinstance(argument, Node)
            values.append(getattr(converted, str(argument.target)).detach())
            delattr(converted, str(argument.target))
            if hasattr(owner, suffix):
                delattr(owner, suffix)
            owner.register_buffer(suffix, values[-1])
            argument.target = f"{name}.{suffix}"
        grids[f"{name}.weight"] = TensorGrid(tuple(values[1].tolist()), tuple(values[2].tolist()), axis=0)
    converted.recompile()
    return grids


def name_activations(converted: GraphModule, operators: dict[Node, str]) -> list[tuple[str, TensorGrid]]:
    """Name and grid of every activation in the order of its quantize nodes."""
    named = []
    for node in quantize_nodes(converted.graph):
        producer, consumer = producer_of(node), consumer_of(node, operators)
        if producer in operators and is_between_grids(producer):
            name = f"{operators[producer]}.output"
        else:
            assert consumer is not None, f"{node} quantises a tensor that belongs to no operator"
            name = f"{operators[consumer]}.input"
        named.append((name, grid_of(node)))
    return named


def quantize_nodes(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.target is QUANTIZE]


def producer_of(quantize: Node) -> Node:
    """The node whose value is quantised, seen through a ReLU that is all that reads it."""
    value = quantize.args[0]
    assert isinstance(value, Node)
    if value.target not in RELUS:
        return value
    producer = value.args[0]
    assert isinstance(producer, Node)
    return producer if len(producer.users) == 1 else value


def is_between_grids(operator: Node) -> bool:
    """Whether weights and input, or both summands of a sum that is only quantised, came off a grid.

    Targets run such a sum in integers, asked or not.
    """
    operands = (value for value in operator.args[:2] if isinstance(value, Node))
    off_grids = all(value.target in (DEQUANTIZE, DEQUANTIZE_WEIGHT) for value in operands)
    return off_grids and (operator.target in WEIGHTED or all(user.target is QUANTIZE for user in operator.users))


def consumer_of(quantize: Node, operators: dict[Node, str]) -> Node | None:
    """The first operator that reads the dequantised value."""
    readers = [reader for dequantize in quantize.users for reader in dequantize.users]
    return next((node for node in operators if node in readers), None)


def grid_of(quantize: Node) -> TensorGrid:
    scale, zero_point = quantize.args[1:3]
    assert isinstance(scale, float)
    assert isinstance(zero_point, int)
    return TensorGrid((scale,), (zero_point,))
