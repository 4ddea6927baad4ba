"""Post-training calibration: a float model and images → the one quantised program.

torch.export captures the model for any number of images, PT2E inserts observers where the recipe asks, the images run
through, and the observers' grids become quantize/dequantize nodes. Nothing is random: one list of images gives one
program, in any order.
"""

from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from calibrate.hessian import weigh
from calibrate.migrate import migrate
from calibrate.prepared import Prepared, capture, check_names, convert, freeze, observe, with_observers
from calibrate.program import QuantizedProgram
from calibrate.recipe import Recipe


def calibrate(model: nn.Module, recipe: Recipe, batches: Iterable[Tensor], example: Tensor) -> QuantizedProgram:
    """Quantise ``model`` ([B, 3, S, S] → [B, classes], folded, in eval mode) with the ranges that ``batches`` show.

    It may return a tuple that starts with the logits. ``example`` fixes the shape of the program. The images are gone
    through as often as ``passes`` says. Raises InputError if a rule of the recipe names no operator of the model, if
    the model uses one layer twice, if there is no image, or if an activation is not finite, and TypeError if
    ``batches`` can be gone through only once.
    """
    return convert(prepare(model, recipe, batches, example))


def prepare(model: nn.Module, recipe: Recipe, batches: Iterable[Tensor], example: Tensor) -> Prepared:
    """``calibrate`` up to its last step: the frozen program that is left to convert."""
    if isinstance(batches, Iterator):
        raise TypeError("the images are needed several times: give a list, or what makes a new iterator each time")
    captured = capture(model, example)
    check_names(captured, recipe)
    migrate(captured, recipe, batches)
    prepared = with_observers(captured, recipe, example)
    observe(prepared, batches)
    weigh(prepared.module, batches)
    freeze(prepared)
    return prepared


def passes(recipe: Recipe) -> int:
    """How often calibration goes through the images."""
    return 1 + (recipe.migration is not None) + (recipe.observer == "hessian")
