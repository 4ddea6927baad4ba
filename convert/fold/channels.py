"""Where the channels of a value go: their numbers, sent through operations that move, drop or average entries.

An average of equals is that value, so each of these operations commutes with a scale and a shift of every channel, as
long as no entry of its result comes from several channels. Evaluated on a tensor that holds, at every entry, the number
of its channel, the operation says which channel each entry of its result comes from.
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from convert.fold.graph import computes

MIXED = -1  # an entry of several channels, or of one that only the input decides

LAYOUT_NAMES = ("flatten", "reshape", "transpose", "permute", "unsqueeze", "squeeze")
LAYOUTS = (*LAYOUT_NAMES, "view", "contiguous", operator.getitem, *(getattr(torch, name) for name in LAYOUT_NAMES))
MEANS = ("mean", torch.mean)
PICKS = ("gather", "index_select", torch.gather, torch.index_select)


def moved(node: fx.Node) -> fx.Node | None:
    """The value of which ``node`` is nothing but entries or their averages, or None."""
    if not computes(node, (*LAYOUTS, *MEANS, *PICKS)) or not node.args or "dtype" in node.kwargs:
        return None
    value = node.args[0]
    return value if isinstance(value, fx.Node) and picked_dimensions(node) is not None else None


def picked_dimensions(node: fx.Node) -> tuple[int, ...] | None:
    """The dimensions along which integers of the graph pick entries, or None where that is not to be seen."""
    indices = [other for other in node.all_input_nodes if is_tensor(other) and other is not node.args[0]]
    if not indices:
        return ()
    if any(index.meta["tensor_meta"].dtype != torch.int64 for index in indices):
        return None
    if computes(node, PICKS):
        dimension = node.args[1] if len(node.args) > 1 else node.kwargs["dim"]
        return (dimension,) if isinstance(dimension, int) else None
    if node.target is not operator.getitem:
        return None
    parts = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    if not all(isinstance(part, int | slice | fx.Node) for part in parts):
        return None
    return tuple(dimension for dimension, part in enumerate(parts) if isinstance(part, fx.Node) and is_tensor(part))


def is_tensor(node: fx.Node) -> bool:
    return hasattr(node.meta.get("tensor_meta"), "shape")


def readers(model: fx.GraphModule, start: fx.Node, dimension: int) -> list[tuple[fx.Node, Tensor]]:
    """Every node that reads entries of ``start`` and does more than move them, with the channel of each that it reads.

    ``dimension`` is that of the channels. The numbers are int64, of the shape that the probe gave the value; a node
    that reads several values is there several times.
    """
    shape = start.meta["tensor_meta"].shape
    along = [1] * len(shape)
    along[dimension] = -1
    numbers = {start: torch.arange(shape[dimension]).reshape(along).expand(shape).contiguous()}
    found = []
    for node in model.graph.nodes:
        if moved(node) in numbers:
            numbers[node] = follow(node, numbers[node.args[0]])
        elif not reads_shape(node):
            found += [(node, numbers[value]) for value in node.all_input_nodes if value in numbers]
    return found


def reads_shape(node: fx.Node) -> bool:
    return computes(node, ("size",)) or (node.target is getattr and node.args[1] == "shape")


def follow(node: fx.Node, numbers: Tensor) -> Tensor:
    """The numbers of what ``node`` makes of a value with these ``numbers``."""
    if picked := picked_dimensions(node):
        numbers = common(numbers, picked, keepdim=True)  # one entry each, which the indices below are for

    def stand_in(argument: fx.Node) -> Any:
        if argument is node.args[0]:
            return numbers
        return torch.zeros_like(shaped(argument), device="cpu") if is_tensor(argument) else static(argument)

    (_, *rest), options = fx.map_arg((node.args, node.kwargs), stand_in)
    if computes(node, MEANS):
        return common(numbers, *rest, **options)
    result: Tensor = call(node, [numbers, *rest], options)
    return result


def common(numbers: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """The number that all entries along the dimensions share, MIXED where they do not; arguments as of ``mean``."""
    low, high = numbers.amin(*arguments, **options), numbers.amax(*arguments, **options)
    return torch.where(low == high, low, MIXED)


def static(node: fx.Node) -> Any:
    """What ``node`` makes of shapes: no tensor in its past has a value here."""
    if is_tensor(node):
        return shaped(node)
    args, options = fx.map_arg((node.args, node.kwargs), static)
    return call(node, args, options)


def shaped(node: fx.Node) -> Tensor:
    """A tensor of the shape and type of the node's value, without memory."""
    found = node.meta["tensor_meta"]
    return torch.empty(found.shape, dtype=found.dtype, device="meta")


def call(node: fx.Node, args: Any, options: Any) -> Any:
    if isinstance(node.target, str):
        return getattr(args[0], node.target)(*args[1:], **options)
    return node.target(*args, **options)
