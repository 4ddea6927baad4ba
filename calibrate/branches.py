"""Many programs that quantise different operators, on the same images: each shares a run up to where it departs.

The trunk is one run of a frozen program with some operators quantised. A branch quantises others; up to the first
node that this changes it computes what the trunk computes, so it starts there, with the values that the trunk then
holds. The logits are, bit for bit, those of ``Prepared.quantise`` and a run from the start. In memory are the weights
as the trunk has them, and what is alive at one node of the trunk and of one branch.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Interpreter, Node

from calibrate.fake_quantize import FakeQuantize
from calibrate.prepared import Prepared


@dataclass(frozen=True)
class Branch:
    name: str
    quantised: Set[str]
    weights: tuple[Node, ...]  # those that are not as in the trunk


class Trunk(Interpreter):
    """``prepared`` with the operators ``quantised``; ``branches`` are operators too, each under a name of its own.

    A branch that changes nothing is the trunk itself.
    """

    def __init__(self, prepared: Prepared, quantised: Set[str], branches: Mapping[str, Set[str]]) -> None:
        super().__init__(prepared.module)
        self.prepared, self.quantised = prepared, quantised
        self.fixed = fixed_nodes(self.graph)
        (self.images,) = self.graph.find_nodes(op="placeholder")
        self.moving = [node for node in self.graph.nodes if node not in self.fixed and node is not self.images]
        self.branches: defaultdict[Node, list[Branch]] = defaultdict(list)  # by the node where they depart
        for name, others in branches.items():
            changed = changed_nodes(prepared, quantised, others)
            departure = next((node for node in self.moving if node in changed), self.moving[-1])
            self.branches[departure].append(Branch(name, others, tuple(n for n in self.fixed if n in changed)))
        prepared.quantise(quantised)
        self.weights = {}
        for node in self.fixed:
            self.weights[node] = self.env[node] = self.run_node(node)

    def logits(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Name and logits, ``[B, classes]``, of each branch, in the order of departure.

        Until the last of them has come, nothing else may quantise ``prepared``.
        """
        self.prepared.quantise(self.quantised)
        self.env = {**self.weights, self.images: x}
        for position, node in enumerate(self.moving):
            for branch in self.branches[node]:
                yield branch.name, self.follow(branch, position)
            self.step(node)

    def follow(self, branch: Branch, position: int) -> Tensor:
        trunk, self.env = self.env, dict(self.env)
        self.prepared.quantise(branch.quantised)
        for node in branch.weights:
            self.env[node] = self.run_node(node)
        for node in self.moving[position:]:
            self.step(node)
        outputs: tuple[Tensor, ...] = self.env[self.moving[-1]]
        self.env = trunk
        self.prepared.quantise(self.quantised)
        return outputs[0]

    def step(self, node: Node) -> None:
        self.env[node] = self.run_node(node)
        for read in self.user_to_last_uses.get(node, ()):
            if read not in self.fixed:
                del self.env[read]

    def run_node(self, n: Node) -> Any:
        with torch.no_grad():
            return super().run_node(n)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation in place gets copies: what it would overwrite, other branches read too."""
        if isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable:
            args = tuple(arg.clone() if isinstance(arg, Tensor) else arg for arg in args)
        return super().call_function(target, args, kwargs)


def fixed_nodes(graph: Graph) -> dict[Node, None]:
    """The nodes that no image reaches, weights and their grids, in their order."""
    fixed: dict[Node, None] = {}
    for node in graph.nodes:
        if node.op != "placeholder" and all(read in fixed for read in node.all_input_nodes):
            fixed[node] = None
    return fixed


def changed_nodes(prepared: Prepared, before: Set[str], after: Set[str]) -> set[Node]:
    """Whose value is another where ``after`` are quantised rather than ``before``."""
    grids = prepared.grids()
    old, new = ({grid for name in names for grid in grids[name].all()} for names in (before, after))
    switched: Set[FakeQuantize | None] = old ^ new
    changed: set[Node] = set()
    for node in prepared.module.graph.nodes:
        if prepared.grid(node) in switched or not changed.isdisjoint(node.all_input_nodes):
            changed.add(node)
    return changed
