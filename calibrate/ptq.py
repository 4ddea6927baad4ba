"""Post-training calibration: a float model and images → the one quantised program.

torch.export captures the model for any number of images, PT2E inserts observers where the recipe asks, the images run
through, and the observers' grids become quantize/dequantize nodes. Nothing is random: one list of images gives one
program.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from calibrate.hessian import weigh
from calibrate.program import QuantizedProgram, name_activations, name_weights, outputs_of, with_fixed_batch
from calibrate.quantizer import OPERATOR_META, RecipeQuantizer, operators
from calibrate.recipe import Recipe
from edgevit.errors import InputError


def calibrate(model: nn.Module, recipe: Recipe, batches: Iterable[Tensor], example: Tensor) -> QuantizedProgram:
    """Quantise ``model`` ([B, 3, S, S] → [B, classes], folded, in eval mode) with the ranges that ``batches`` show.

    It may return a tuple that starts with the logits. ``example`` fixes the shape of the program. The images are gone
    through as often as ``passes`` says. Raises InputError if a rule of the recipe names no operator of the model, if
    the model uses one layer twice, if there is no image, or if an activation is not finite, and TypeError if
    ``batches`` can be gone through only once.
    """
    if isinstance(batches, Iterator):
        raise TypeError("the images are needed several times: give a list, or what makes a new iterator each time")
    captured = capture(model, example)
    check_names([op.name for op in operators(captured.graph)], recipe)
    quantizer = RecipeQuantizer(recipe)
    prepared = prepare_pt2e(captured, quantizer)
    observe(prepared, batches)
    weigh(prepared, batches)
    return convert(prepared, quantizer, example)


def passes(recipe: Recipe) -> int:
    """How often calibration goes through the images."""
    return 1 + (recipe.observer == "hessian")


def capture(model: nn.Module, example: Tensor) -> GraphModule:
    """``model`` for any number of images: it may ask its input for theirs, to have as many class tokens.

    Captured with two of them, because torch.export takes a dimension of one for a constant.
    """
    images = torch.cat([example[:1], example[:1]])
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    return program.module(check_guards=False)


def check_names(names: list[str], recipe: Recipe) -> None:
    """A name stands for one operator, and a rule for at least one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"the model uses {twice[0]!r} more than once: give each use a layer of its own")
    unused = recipe.unused(names)
    if unused:
        raise InputError(f"the recipe's rule {unused[0].operators!r} names no operator of this model: correct it")


def observe(prepared: GraphModule, batches: Iterable[Tensor]) -> None:
    images = 0
    with torch.no_grad():
        for batch in batches:
            images += len(batch)
            if not outputs_of(prepared, batch)[0].isfinite().all():
                raise InputError("the model's output on a calibration image is not finite: check its weights")
    if images == 0:
        raise InputError("there is no image to calibrate with: give at least one")


def convert(prepared: GraphModule, quantizer: RecipeQuantizer, example: Tensor) -> QuantizedProgram:
    """Observers → quantize and dequantize nodes, captured again as a program with tensors that have names."""
    converted = convert_pt2e(prepared)
    named = {node: node.meta[OPERATOR_META] for node in converted.graph.nodes if OPERATOR_META in node.meta}
    tensors = name_weights(converted, named)
    activations = name_activations(converted, named)
    tensors |= dict(activations)
    for name, grid in tensors.items():
        if not all(map(math.isfinite, grid.scale)):
            raise InputError(f"the values of {name} are not finite: check the model's weights")
    asked = {op.name: op.kind for op in quantizer.asked}
    return with_fixed_batch(converted, example, tensors, [name for name, _ in activations], asked)
