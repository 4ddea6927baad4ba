"""Post-training calibration: a float model and images → the one quantised program.

torch.export captures the model, PT2E inserts observers where the recipe asks, the images run through once, and
the observers' grids become quantize/dequantize nodes. Nothing is random: one list of images gives one program.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from calibrate.program import QuantizedProgram, name_activations, name_weights, quantize_nodes, scale_of
from calibrate.quantizer import OPERATOR_META, RecipeQuantizer, operators
from calibrate.recipe import Recipe
from edgevit.errors import InputError


def calibrate(model: nn.Module, recipe: Recipe, batches: Iterable[Tensor], example: Tensor) -> QuantizedProgram:
    """Quantise ``model`` ([B, 3, S, S] → [B, classes], folded, in eval mode) with the ranges that ``batches`` show.

    ``example`` fixes the shape of the program. Raises InputError if a rule of the recipe names no operator of the model,
    or if an activation is not finite.
    """
    captured = torch.export.export(model, (example,)).module(check_guards=False)
    unused = recipe.unused(op.name for op in operators(captured.graph))
    if unused:
        raise InputError(f"the recipe's rule {unused[0].operators!r} names no operator of this model: correct it")
    quantizer = RecipeQuantizer(recipe)
    prepared = prepare_pt2e(captured, quantizer)
    with torch.no_grad():
        for batch in batches:
            if not prepared(batch).isfinite().all():
                raise InputError("the model's output on a calibration image is not finite: check its weights")
    return convert(prepared, quantizer, example)


def convert(prepared: torch.fx.GraphModule, quantizer: RecipeQuantizer, example: Tensor) -> QuantizedProgram:
    """Observers → quantize and dequantize nodes, captured again as a program with tensors that have names."""
    converted = convert_pt2e(prepared)
    named = {node: node.meta[OPERATOR_META] for node in converted.graph.nodes if OPERATOR_META in node.meta}
    tensors = name_weights(converted, named)
    activations = name_activations(converted, named)
    tensors |= dict(activations)
    program = torch.export.export(converted, (example,))
    nodes = {}
    for node, (name, grid) in zip(quantize_nodes(program.graph), activations, strict=True):
        assert math.isclose(scale_of(node), grid.scale[0]), f"{name} changed its place during export"
        nodes[node.name] = name
    return QuantizedProgram(program, tensors, nodes, {op.name: op.kind for op in quantizer.asked})
