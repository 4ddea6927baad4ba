"""Post-training calibration: a float model and images → the one quantised program.

torch.export captures the model for any number of images, PT2E inserts observers where the recipe asks, the images run
through, and the observers' grids become quantize/dequantize nodes. Nothing is random: one list of images gives one
program, in any order.
"""

from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from calibrate.bias_correction import correct_biases
from calibrate.counted import CountedObserver
from calibrate.equalize import equalize
from calibrate.migrate import migrate
from calibrate.observers import ACTIVATION_OBSERVERS
from calibrate.prepared import Prepared, capture, check_names, convert, count, freeze, observe, with_observers
from calibrate.program import QuantizedProgram
from calibrate.recipe import Recipe
from calibrate.rounding import choose_rounding, weights_of


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
    equalize(captured, recipe, batches)
    prepared = with_observers(captured, recipe, example)
    observe(prepared, batches)
    count(prepared, batches)
    freeze(prepared)
    weights = weights_of(prepared)
    if recipe.rounding:
        choose_rounding(prepared, batches)
    if recipe.bias_correction:
        correct_biases(prepared, batches, weights)
    return prepared


def passes(recipe: Recipe) -> int:
    """How often calibration goes through the images."""
    before = (recipe.migration is not None) + (recipe.equalisation is not None)
    counted = issubclass(ACTIVATION_OBSERVERS[recipe.observer], CountedObserver)
    return before + 1 + counted + recipe.rounding + recipe.bias_correction
