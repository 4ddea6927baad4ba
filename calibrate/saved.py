"""A quantised program as named tensors, and back: what a calibration leaves in a file.

``state/<name>`` is a parameter or buffer of the program: int8 weights with their scales, and what stays in float, as
calibration left it. ``grids/<tensor>/scale`` and ``.../zero_point`` are an activation's grid. The graph is not kept,
because the same folded model and the same recipe give it again.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from calibrate.prepared import capture, check_names, convert, freeze, observe, with_observers
from calibrate.program import QuantizedProgram, TensorGrid, quantize_nodes, with_fixed_batch
from calibrate.recipe import Recipe
from edgevit.errors import InputError

STATE, GRIDS = "state/", "grids/"


def tensors_of(quantized: QuantizedProgram) -> dict[str, Tensor]:
    """All that calibration decided, by name; contiguous copies."""
    state = {STATE + name: value.detach() for name, value in quantized.module.state_dict().items()}
    for name in quantized.nodes.values():
        grid = quantized.tensors[name]
        state[f"{GRIDS}{name}/scale"] = torch.tensor(grid.scale, dtype=torch.float32)
        state[f"{GRIDS}{name}/zero_point"] = torch.tensor(grid.zero_point, dtype=torch.int32)
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}


def restore(model: nn.Module, recipe: Recipe, tensors: dict[str, Tensor], example: Tensor) -> QuantizedProgram:
    """The program that ``tensors`` were taken from, of the same folded ``model`` and ``recipe``.

    Raises InputError if they are of another model or another fold: if a name, a shape or a type differs.
    """
    captured = capture(model, example)
    check_names(captured, recipe)
    prepared = with_observers(captured, replace(recipe, observer="minmax"), example)
    observe(prepared, [example])  # so that every grid has the shape that it will have
    freeze(prepared)
    blank = convert(prepared)
    check_same(tensors_of(blank), tensors)
    module, names = blank.module, list(blank.nodes.values())
    module.load_state_dict({name.removeprefix(STATE): value for name, value in tensors.items() if STATE in name[:6]})
    grids = {name: grid_from(tensors, name) for name in names}
    for quantize, name in zip(quantize_nodes(module.graph), names, strict=True):
        for node in (quantize, *quantize.users):
            node.args = (node.args[0], grids[name].scale[0], grids[name].zero_point[0], *node.args[3:])
    module.recompile()
    weights = {name: weight_grid(tensors, name) for name in blank.tensors if name not in grids}
    return with_fixed_batch(module, example, weights | grids, names, blank.asked)


def check_same(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name in sorted(expected.keys() | found.keys()):
        here, there = (
            f"{value.dtype} of {list(value.shape)}".removeprefix("torch.") if value is not None else "nothing"
            for value in (expected.get(name), found.get(name))
        )
        if here != there:
            raise InputError(
                f"the calibration is of another model or another fold: {name} is {there} in it and {here} here, "
                "so calibrate this model with this version of edgevit"
            )


def grid_from(tensors: dict[str, Tensor], name: str) -> TensorGrid:
    scale, zero_point = (tensors[f"{GRIDS}{name}/{part}"] for part in ("scale", "zero_point"))
    return TensorGrid(tuple(scale.tolist()), tuple(zero_point.tolist()))


def weight_grid(tensors: dict[str, Tensor], name: str) -> TensorGrid:
    scale, zero_point = (tensors[f"{STATE}{name}_{part}"] for part in ("scale", "zero_point"))
    return TensorGrid(tuple(scale.tolist()), tuple(zero_point.tolist()), axis=0)
