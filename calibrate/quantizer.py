"""Placement: which tensors of an exported float program get a scale.

The program holds the superset of scales that any target may use: input, weight and output of every linear
and convolution that the recipe names, and both inputs and the output of residual additions where it says so.
A ReLU that follows an operator belongs to it: the output is observed after it. Neighbours that observe the same
tensor share one scale.
"""

from dataclasses import dataclass

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

from calibrate.observers import activation_spec, weight_spec
from calibrate.recipe import Recipe

aten = torch.ops.aten
CONVOLUTIONS = {aten.conv2d.default, aten.convolution.default}
WEIGHTED = CONVOLUTIONS | {aten.linear.default}
ACTIVATIONS = {aten.relu.default, aten.relu_.default}
ADDITIONS = {aten.add.Tensor, aten.add_.Tensor}
OPERATOR_META = "edgevit_operator"  # node.meta key: the operator's name, kept through conversion


@dataclass(frozen=True)
class Operator:
    """A node that a recipe can name."""

    name: str
    kind: str  # "convolution", "depthwise", "linear" or "add"
    node: Node


def operators(graph: torch.fx.Graph) -> list[Operator]:
    """Every weighted linear and convolution and every residual addition of an exported program, in graph order."""
    weighted = [Operator(weight_owner(n), weighted_kind(n), n) for n in graph.nodes if is_weighted(n)]
    names = {op.node: op.name for op in weighted}
    additions = [
        Operator(f"{names[branch]}.residual", "add", n)
        for n in graph.nodes
        if (branch := residual_branch(n, names)) is not None
    ]
    order = {node: i for i, node in enumerate(graph.nodes)}
    return sorted(weighted + additions, key=lambda op: order[op.node])


def is_weighted(node: Node) -> bool:
    return node.op == "call_function" and node.target in WEIGHTED and weight_of(node).op == "get_attr"


def weight_of(node: Node) -> Node:
    weight = node.args[1]
    assert isinstance(weight, Node)
    return weight


def weight_owner(node: Node) -> str:
    return str(weight_of(node).target).removesuffix(".weight")


def weighted_kind(node: Node) -> str:
    if node.target not in CONVOLUTIONS:
        return "linear"
    inputs_per_group = weight_of(node).meta["val"].shape[1]
    channels = value_of(node.args[0]).shape[1]
    return "depthwise" if inputs_per_group == 1 and channels > 1 else "convolution"


def value_of(node: object) -> torch.Tensor:
    assert isinstance(node, Node)
    value = node.meta["val"]
    assert isinstance(value, torch.Tensor)
    return value


def residual_branch(node: Node, weighted: dict[Node, str]) -> Node | None:
    """The weighted operator whose result ``node`` adds to a tensor of the same shape, or None."""
    if node.op != "call_function" or node.target not in ADDITIONS:
        return None
    left, right = node.args[:2]
    if not isinstance(left, Node) or not isinstance(right, Node) or left is right:
        return None
    if value_of(left).shape != value_of(right).shape:
        return None
    return next((operand for operand in (right, left) if operand in weighted), None)


class RecipeQuantizer(Quantizer):  # type: ignore[misc]
    """Annotates an exported program by a recipe. ``asked`` lists the operators to be quantised."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.asked: list[Operator] = []

    def annotate(self, model: GraphModule) -> GraphModule:
        activation, weight = activation_spec(self.recipe.observer), weight_spec()
        for op in operators(model.graph):
            op.node.meta[OPERATOR_META] = op.name
            if self.recipe.precision(op.name) == "float":
                continue
            self.asked.append(op)
            annotation = annotation_of(op.node)
            for operand in op.node.args[:2]:
                is_weight = op.kind != "add" and operand is op.node.args[1]
                annotation.input_qspec_map[operand] = weight if is_weight else activation
            annotation_of(result_of(op.node)).output_qspec = activation
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to refuse: every annotation above is on the one grid."""


def annotation_of(node: Node) -> QuantizationAnnotation:
    key = "quantization_annotation"
    if key not in node.meta:
        node.meta[key] = QuantizationAnnotation(_annotated=True)
    return node.meta[key]


def result_of(node: Node) -> Node:
    """The node whose value leaves the operator: the ReLU where one follows alone."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in ACTIVATIONS else node


__all__ = ["OPERATOR_META", "Operator", "QuantizationSpec", "RecipeQuantizer", "operators"]
