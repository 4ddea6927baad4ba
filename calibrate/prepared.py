"""A program before conversion: float weights, and a module wherever conversion will round.

These modules are observers first. Once they have seen the images the program is *frozen*: each becomes the grid that it
chose, and the program computes what conversion will make of it. Corrections, sensitivity and training work on this.
"""

import copy
import math
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.observer import ObserverBase
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from calibrate.counted import CountedObserver
from calibrate.fake_quantize import FakeQuantize
from calibrate.hessian import HessianObserver, backwards
from calibrate.program import QuantizedProgram, name_activations, name_weights, outputs_of, with_fixed_batch
from calibrate.quantizer import OPERATOR_META, RecipeQuantizer, operators, result_of
from calibrate.recipe import Recipe
from edgevit.errors import InputError


@dataclass(frozen=True)
class Prepared:
    """``module`` takes ``[B, 3, S, S]`` to logits ``[B, classes]``, or a tuple that starts with them, for any B."""

    module: GraphModule
    asked: dict[str, str]  # name of each operator that the recipe quantises → its kind
    example: Tensor  # of the shape that the converted program will have

    def logits(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return outputs_of(self.module, x)[0]

    def grids(self) -> dict[str, "Grids"]:
        """Of a frozen program: what each quantised operator needs, by its name."""
        return {
            node.meta[OPERATOR_META]: Grids(
                inputs=tuple(grid for value in node.args[:2] if (grid := self.grid(value)) is not None),
                outputs=tuple(grid for user in result_of(node).users if (grid := self.grid(user)) is not None),
            )
            for node in self.module.graph.nodes
            if node.meta.get(OPERATOR_META) in self.asked
        }

    def grid(self, node: object) -> FakeQuantize | None:
        if not isinstance(node, Node) or node.op != "call_module":
            return None
        module = self.module.get_submodule(str(node.target))
        return module if isinstance(module, FakeQuantize) else None

    def quantise(self, names: Set[str]) -> None:
        """Let a frozen program compute as if the recipe named these operators alone; all other grids are passed by.

        But for one thing: a tensor that several quantised operators read is on its grid for all of them or none.
        """
        grids = self.grids()
        for grid in {grid for found in grids.values() for grid in found.all()}:
            grid.enable_fake_quant(False)
        for grid in (grid for name in names for grid in grids[name].all()):
            grid.enable_fake_quant(True)


@dataclass(frozen=True)
class Grids:
    """``inputs``: of the input and the weight, or of both summands."""

    inputs: tuple[FakeQuantize, ...]
    outputs: tuple[FakeQuantize, ...]

    def all(self) -> tuple[FakeQuantize, ...]:
        return self.inputs + self.outputs


def capture(model: nn.Module, example: Tensor) -> GraphModule:
    """``model`` for any number of images: it may ask its input for theirs, to have as many class tokens.

    Captured with two of them, because torch.export takes a dimension of one for a constant. The parameters are copies,
    which calibration may change.
    """
    images = torch.cat([example[:1], example[:1]])
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(copy.deepcopy(model), (images,), dynamic_shapes=batch)
    return program.module(check_guards=False)


def check_names(captured: GraphModule, recipe: Recipe) -> None:
    """A name stands for one operator, and a rule for at least one name. Raises InputError otherwise."""
    names = [op.name for op in operators(captured.graph)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"the model uses {twice[0]!r} more than once: give each use a layer of its own")
    unused = recipe.unused(names)
    if unused:
        raise InputError(f"the recipe's rule {unused[0].operators!r} names no operator of this model: correct it")


def with_observers(captured: GraphModule, recipe: Recipe, example: Tensor) -> Prepared:
    """``captured``, an observer wherever the recipe asks for a grid."""
    quantizer = RecipeQuantizer(recipe)
    module = prepare_pt2e(captured, quantizer)
    return Prepared(module, {op.name: op.kind for op in quantizer.asked}, example)


def observe(prepared: Prepared, batches: Iterable[Tensor]) -> None:
    """Show the images to the observers. Raises InputError if there is none, or if logits are not finite."""
    images = 0
    for batch in batches:
        images += len(batch)
        if not prepared.logits(batch).isfinite().all():
            raise InputError("the model's output on a calibration image is not finite: check its weights")
    if images == 0:
        raise InputError("there is no image to calibrate with: give at least one")


def count(prepared: Prepared, batches: Iterable[Tensor]) -> None:
    """Show the images once more to those observers that want it, and send gradients back where they do."""
    observers = [module for module in prepared.module.modules() if isinstance(module, CountedObserver)]
    if not all(end.isfinite() for observer in observers for end in observer.ends):
        return  # conversion will name the tensor
    for observer in observers:
        observer.count_from_here()
    for batch in batches if observers else ():
        if isinstance(observers[0], HessianObserver):
            backwards(prepared.module, batch)
        else:
            prepared.logits(batch)


def freeze(prepared: Prepared) -> None:
    """Every observer → the grid that it chose, in place."""
    observers = dict(prepared.module.named_modules(remove_duplicate=False))
    grids: dict[ObserverBase, FakeQuantize] = {}
    for name, observer in observers.items():
        if isinstance(observer, ObserverBase):
            grids.setdefault(observer, FakeQuantize(observer))
            prepared.module.set_submodule(name, grids[observer])


def convert(prepared: Prepared) -> QuantizedProgram:
    """Grids → quantize and dequantize nodes, captured again as a program whose tensors have names.

    Raises InputError if a grid is not finite, or if both summands of a sum come from operators in float.
    """
    converted = convert_pt2e(prepared.module)
    named = {node: node.meta[OPERATOR_META] for node in converted.graph.nodes if OPERATOR_META in node.meta}
    tensors = name_weights(converted, named)
    activations = name_activations(converted, named)
    if len(dict(activations)) < len(activations):
        name = Counter(name for name, _ in activations).most_common(1)[0][0]
        raise InputError(
            f"two tensors would be called {name}: the recipe must quantise what one of them comes from too"
        )
    tensors |= dict(activations)
    for name, grid in tensors.items():
        if not all(map(math.isfinite, grid.scale)):
            raise InputError(f"the values of {name} are not finite: check the model's weights")
    return with_fixed_batch(converted, prepared.example, tensors, [name for name, _ in activations], prepared.asked)
