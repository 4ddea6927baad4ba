"""A program through a file and back: the same bits, or a sentence that says why not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from calibrate.program import QuantizedProgram
from calibrate.recipe import Recipe
from calibrate.recipes import EFFICIENTVIT
from calibrate.saved import restore, tensors_of
from edgevit.errors import InputError
from tests.calibrate.subjects import (
    FLOAT_RESIDUAL,
    INT8_RESIDUAL,
    SIDE,
    TOKENS,
    images,
    net,
    quantized_net,
    quantized_token_net,
    quantized_vit,
    token_net,
    vit,
)

EXAMPLE = images(1, 3, 16)
SUBJECTS = {
    "net": (net, FLOAT_RESIDUAL, lambda: quantized_net(FLOAT_RESIDUAL), 16),
    "net, sums in int8": (net, INT8_RESIDUAL, lambda: quantized_net(INT8_RESIDUAL), 16),
    "efficientvit": (vit, EFFICIENTVIT, quantized_vit, SIDE),
    "tokens": (token_net, TOKENS, quantized_token_net, 16),
}


@pytest.mark.parametrize(("model", "recipe", "quantized", "side"), SUBJECTS.values(), ids=SUBJECTS.keys())
def test_restores_every_bit(model, recipe: Recipe, quantized, side: int) -> None:  # type: ignore[no-untyped-def]
    made: QuantizedProgram = quantized()
    restored = restore(model(), recipe, load(save(tensors_of(made))), images(1, 3, side))
    assert restored.tensors == made.tensors
    assert restored.asked == made.asked
    assert restored.nodes == made.nodes
    x = images(4, 5, side)
    for one, other in zip(made.outputs(x), restored.outputs(x), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(made.program.module()(x[:1])[0], restored.program.module()(x[:1])[0])
    assert tensors_of(restored).keys() == tensors_of(made).keys()


def test_the_example_fixes_the_batch_alone() -> None:
    made = quantized_net(FLOAT_RESIDUAL)
    restored = restore(net(), FLOAT_RESIDUAL, tensors_of(made), 100 * images(2, 3, 16))
    assert restored.tensors == made.tensors
    assert restored.program.module()(images(2, 1, 16)).shape == (2, 5)


def test_the_weights_are_those_of_the_file_not_of_the_model() -> None:
    made, model = quantized_net(FLOAT_RESIDUAL), net()
    with torch.no_grad():
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        for value in model.parameters():
            value.zero_()
        restored = restore(model, FLOAT_RESIDUAL, tensors_of(made), EXAMPLE)
        model.load_state_dict(kept)
    x = images(4, 5, 16)
    assert torch.equal(restored.run(x), made.run(x))


CHANGES = {
    "a tensor is missing": lambda tensors: tensors.pop("state/a.c.weight"),
    "a grid is missing": lambda tensors: tensors.pop("grids/a.c.input/scale"),
    "another shape": lambda tensors: tensors.update({"state/head.bias": torch.zeros(6)}),
    "another type": lambda tensors: tensors.update({"state/head.weight": torch.zeros(5, 8)}),
    "a tensor too many": lambda tensors: tensors.update({"state/tail.bias": torch.zeros(6)}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_refuses_what_does_not_fit(change) -> None:  # type: ignore[no-untyped-def]
    tensors = tensors_of(quantized_net(FLOAT_RESIDUAL))
    change(tensors)
    with pytest.raises(InputError, match=r"of another model or another fold: .* in it and .* here"):
        restore(net(), FLOAT_RESIDUAL, tensors, EXAMPLE)


def test_refuses_the_tensors_of_another_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.c\.residual\.output"):
        restore(net(), FLOAT_RESIDUAL, tensors_of(quantized_net(INT8_RESIDUAL)), EXAMPLE)
