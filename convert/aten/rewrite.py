"""Apply rewrites to a captured program."""

from collections.abc import Callable, Sequence

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.passes.shape_prop import ShapeProp

Rewrite = Callable[[GraphModule], int]


def rewritten(program: ExportedProgram, rewrites: Sequence[Rewrite]) -> ExportedProgram:
    """``program`` after ``rewrites``, captured again; itself, where none of them applies."""
    assert program.example_inputs is not None
    (arguments, _), module = program.example_inputs, program.module(check_guards=False)
    with torch.no_grad():
        ShapeProp(module).propagate(*arguments)
        if not sum(rewrite(module) for rewrite in rewrites):
            return program
        module.graph.eliminate_dead_code()
        module.recompile()
        return torch.export.export(module, arguments)


def shape(node: Node) -> tuple[int, ...]:
    """Of the value of a node that was there before any rewrite."""
    return tuple(node.meta["tensor_meta"].shape)
