"""Questions about a traced model that several folding rules ask, and the two edits that they share."""

from typing import TypeVar

import torch
from torch import Tensor, fx, nn

Layer = TypeVar("Layer", bound=nn.Module)
WeightedLayer = nn.Conv2d | nn.Linear

USED_ELSEWHERE = "the value between the two is used elsewhere"


def called(model: fx.GraphModule, node: object, kind: type[Layer]) -> Layer | None:
    """The module that ``node`` calls, if it is exactly a ``kind``: a subclass may compute something else."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    module = model.get_submodule(str(node.target))
    return module if type(module) is kind else None


def layer_at(model: fx.GraphModule, node: object, kind: type[Layer]) -> Layer:
    """``called`` where a rule's ``matches`` has already established the kind."""
    layer = called(model, node, kind)
    assert layer is not None
    return layer


def computes(node: fx.Node, operations: tuple[object, ...]) -> bool:
    """Whether ``node`` calls one of these functions, or the tensor method of such a name."""
    return node.op in ("call_function", "call_method") and node.target in operations


def source(node: fx.Node) -> fx.Node:
    """The node whose value is the (first) input of ``node``."""
    return node.all_input_nodes[0]


def why_shared(model: fx.GraphModule, node: fx.Node) -> str | None:
    """Why the weights of the layer that ``node`` calls must stay as they are, or None if only this call sees them."""
    if sum(other.op == "call_module" and other.target == node.target for other in model.graph.nodes) > 1:
        return "the layer is used more than once"
    weights = {id(weight) for weight in model.get_submodule(str(node.target)).parameters()}
    owners = sum(id(weight) in weights for _, weight in model.named_parameters(remove_duplicate=False))
    read_directly = any(n.op == "get_attr" and str(n.target).startswith(f"{node.target}.") for n in model.graph.nodes)
    if owners > len(weights) or read_directly:
        return "the layer shares a weight with another place"
    return None


def weight_of(layer: WeightedLayer) -> Tensor:
    """The layer's weight, detached, in the float64 that folding calculates in."""
    return layer.weight.detach().double()


def bias_of(layer: WeightedLayer) -> Tensor:
    """The layer's bias ``[outputs]``, detached, float64; zeros where it has none."""
    return layer.weight.new_zeros(len(layer.weight)).double() if layer.bias is None else layer.bias.detach().double()


def set_weight(layer: WeightedLayer, weight: Tensor) -> None:
    """Round to the layer's dtype, as a fresh parameter: whoever holds the old one keeps it unchanged."""
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype))


def set_bias(layer: WeightedLayer, bias: Tensor) -> None:
    """As ``set_weight``; a layer without bias gets one."""
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype))


def bypass(model: fx.GraphModule, node: fx.Node, replacement: fx.Node) -> None:
    """Let the users of ``node`` read ``replacement``, and discard it."""
    node.replace_all_uses_with(replacement)
    discard(model, node)


def discard(model: fx.GraphModule, node: fx.Node) -> None:
    """Erase ``node`` and the module, parameter or buffer that it names, unless something still uses them."""
    if node.users:
        return
    model.graph.erase_node(node)
    if node.op in ("call_module", "get_attr"):
        forget(model, str(node.target))


def forget(model: fx.GraphModule, target: str) -> None:
    """Delete the submodule, parameter or buffer ``target``, unless the graph still uses it or a part of it."""
    for node in model.graph.nodes:
        used = str(node.target) if node.op in ("call_module", "get_attr") else ""
        if used == target or used.startswith(f"{target}.") or (used and target.startswith(f"{used}.")):
            return
    owner, _, name = target.rpartition(".")
    delattr(model.get_submodule(owner), name)


def rank(node: fx.Node) -> int:
    """The number of dimensions of ``node``'s value, as the probe found it."""
    shape: torch.Size = node.meta["tensor_meta"].shape
    return len(shape)
