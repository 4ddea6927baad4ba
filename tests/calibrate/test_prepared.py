"""The frozen program is, bit for bit, what conversion makes of it, whichever of its operators are on."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from calibrate.prepared import Prepared, convert
from calibrate.ptq import calibrate, prepare
from calibrate.recipe import Recipe, Rule
from calibrate.recipes import EFFICIENTVIT
from edgevit.errors import InputError
from tests.calibrate.subjects import (
    FLOAT_RESIDUAL,
    INT8_RESIDUAL,
    SIDE,
    TOKENS,
    images,
    net,
    net_batches,
    token_net,
    vit,
)

EXAMPLE = images(1, 0, 16)
SUBJECTS = {
    "net, residual in float": (net, FLOAT_RESIDUAL, 16),
    "net, residual in int8": (net, INT8_RESIDUAL, 16),
    "efficientvit": (vit, EFFICIENTVIT, SIDE),
    "tokens": (token_net, TOKENS, 16),
}


def prepared_net(recipe: Recipe = INT8_RESIDUAL) -> Prepared:
    return prepare(net(), recipe, net_batches(), EXAMPLE)


@pytest.mark.parametrize(("subject", "recipe", "side"), SUBJECTS.values(), ids=SUBJECTS.keys())
def test_conversion_changes_no_bit(subject, recipe: Recipe, side: int) -> None:  # type: ignore[no-untyped-def]
    prepared = prepare(subject(), recipe, [images(4, seed, side) for seed in range(2)], images(1, 0, side))
    x = images(8, 9, side)
    frozen = prepared.logits(x)
    assert torch.equal(convert(prepared).run(x), frozen)


def only(names: set[str]) -> Recipe:
    return Recipe((*(Rule(name, "int8", "") for name in sorted(names)), Rule("*", "float", "")), "minmax")


@pytest.mark.parametrize("names", [{"a.c"}, {"b.c"}, {"head"}, {"a.c", "head"}, {"a.c", "b.c", "dw.c"}])
def test_operators_quantised_alone_are_those_of_a_recipe_that_names_them(names: set[str]) -> None:
    prepared, x = prepared_net(FLOAT_RESIDUAL), images(8, 9, 16)
    everything = prepared.logits(x)
    prepared.quantise(names)
    expected = calibrate(net(), only(names), net_batches(), EXAMPLE).run(x)
    assert torch.equal(prepared.logits(x), expected)
    assert not torch.equal(everything, expected)
    prepared.quantise(prepared.asked.keys())
    assert torch.equal(prepared.logits(x), everything)


def test_refuses_a_sum_of_which_both_sides_are_float() -> None:
    with pytest.raises(InputError, match=r"two tensors would be called b\.c\.residual\.input"):
        calibrate(net(), only({"b.c.residual"}), net_batches(), EXAMPLE)


def test_with_no_operator_quantised_it_is_the_float_program() -> None:
    prepared, x = prepared_net(), images(8, 9, 16)
    prepared.quantise(set())
    with torch.no_grad():
        assert torch.allclose(prepared.logits(x), net()(x), atol=1e-6)


def test_every_operator_has_its_grids() -> None:
    found = prepared_net().grids()
    assert {name: (len(grids.inputs), len(grids.outputs)) for name, grids in found.items()} == dict.fromkeys(
        ("a.c", "b.c", "b.c.residual", "dw.c", "head"), (2, 1)
    )
    assert found["b.c"].outputs[0] in found["b.c.residual"].inputs  # a tensor has one grid
    assert {grid.ch_axis for grids in found.values() for grid in grids.inputs} == {0, None}


def test_gradients_pass_a_grid_and_stop_beyond_its_ends() -> None:
    grid = prepared_net().grids()["head"].inputs[0]
    low, high = ((end - int(grid.zero_point)) * float(grid.scale) for end in (grid.quant_min, grid.quant_max))
    x = torch.tensor([low - 1, (low + high) / 2, high + 1], requires_grad=True)
    grid(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 0]


def test_a_layer_of_one_channel_has_one_scale_along_its_axis() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x).mean((2, 3))

    torch.manual_seed(0)
    recipe = replace(INT8_RESIDUAL, rules=(Rule("*", "int8", ""),))
    prepared = prepare(Single().eval(), recipe, net_batches(), EXAMPLE)
    x = images(3, 9, 16)
    frozen = prepared.logits(x)
    quantized = convert(prepared)
    assert torch.equal(quantized.run(x), frozen)
    assert quantized.tensors["a.weight"].axis == 0
