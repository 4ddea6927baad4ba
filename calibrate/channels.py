"""What a scale between two places of a float program needs: how large its channels get, the scale, new parameters."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

LEAST = 1e-3  # of the largest channel: a channel that calibration saw at 0 may not stay there


def is_own(captured: GraphModule, parameter: object) -> bool:
    """Whether a parameter is read in one place alone."""
    if not isinstance(parameter, Node) or parameter.op != "get_attr" or len(parameter.users) != 1:
        return False
    places = [node for node in captured.graph.nodes if node.op == "get_attr" and node.target == parameter.target]
    return len(places) == 1


def largest_channels(
    captured: GraphModule, channels: Mapping[Node, int], batches: Iterable[Tensor]
) -> dict[Node, Tensor]:
    """``[C]`` float32 for each node of ``channels``: the largest absolute value of a channel on any image.

    ``channels`` says which dimension of the node's value they are. Goes through the images once, or not at all where
    there is no node; a node is missing where there is no image.
    """
    largest: dict[Node, Tensor] = {}

    class Watch(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if n in channels:
                found = value.abs().movedim(channels[n], -1).flatten(0, -2).amax(0)
                largest[n] = torch.maximum(largest[n], found) if n in largest else found
            return value

    with torch.no_grad():
        for batch in batches if channels else ():
            Watch(captured).run(batch)
    return largest


def balance(largest: Tensor, columns: Tensor, strength: float) -> Tensor:
    """s for ``[C]`` values and the ``[C]`` weights that read them: ``largest^strength / columns^(1 - strength)``."""
    return positive(largest.double()) ** strength / positive(columns.double()) ** (1 - strength)


def positive(channels: Tensor) -> Tensor:
    """None far below the largest; ones, where all are 0."""
    largest = float(channels.max())
    return channels.clamp(min=largest * LEAST) if largest else torch.ones_like(channels)


def parameter(captured: GraphModule, node: Node) -> Tensor:
    return captured.get_parameter(str(node.target)).detach().double()


def replace(captured: GraphModule, node: Node, value: Tensor) -> None:
    """A fresh parameter: whoever holds the old one keeps it unchanged."""
    owner, _, name = str(node.target).rpartition(".")
    setattr(captured.get_submodule(owner), name, nn.Parameter(value.float()))
