"""Which operator of a model a target cannot express: read from the error of its exporter, said in the model's words."""

import re
from collections.abc import Iterator

from torch.export import ExportedProgram
from torch.fx import Node

from edgevit.errors import InputError

# How the exporters write an operator: aten.cummax, fx node special_i0, %bessel_i0 : [num_users=1], Torch `inv` op.
WRITTEN = re.compile(r"(?:\b(?:aten|prims)\.|\bfx node |%|`)(\w+)")
MEND = "write it without that, or leave the target out"


def inexpressible(target: str, program: ExportedProgram, error: Exception) -> InputError | None:
    """The sentence for the user, or None if ``error`` is not about an operator."""
    words = [found for message in messages(error) if (found := WRITTEN.search(message))]
    nodes = operators(program.run_decompositions()) | operators(program)
    node = next((nodes[word[1]] for word in words if word[1] in nodes), None)
    if node is not None:
        return InputError(f"target {target} cannot express {operator(node)} in {module(node)}: {MEND}")
    # An exporter's own decomposition may come to an operator that the program has under no name.
    name = next((word[1] for word in words if word[0].startswith(("aten.", "prims."))), None)
    return None if name is None else InputError(f"target {target} cannot express {name} in the model: {MEND}")


def messages(error: BaseException | None) -> Iterator[str]:
    """Of an error and its causes, the first cause first: it is the most exact."""
    if error is not None:
        yield from messages(error.__cause__)
        yield str(error)


def operators(program: ExportedProgram) -> dict[str, Node]:
    """Nodes by what an exporter may call them: their own name or that of their operator."""
    nodes = [node for node in reversed(program.graph.nodes) if node.op == "call_function"]
    return {operator(node): node for node in nodes} | {node.name: node for node in nodes}


def operator(node: Node) -> str:
    """``cummax`` for ``torch.ops.aten.cummax.default``."""
    name = getattr(node.target, "__name__", str(node.target))
    return name.split(".")[0]


def module(node: Node) -> str:
    """The module that calls the operator: its path in the model and its class."""
    path, kind = list(node.meta.get("nn_module_stack", {"": ("", "the model")}).values())[-1]
    kind = getattr(kind, "__name__", str(kind)).rpartition(".")[2]
    return f"{path} ({kind})" if path else str(kind)
