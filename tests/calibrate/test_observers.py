"""The grids themselves, against the ranges that the float model shows on the calibration images."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node

from calibrate.observers import MIN_SCALE, half_at_least
from calibrate.program import QuantizedProgram
from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from tests.calibrate.subjects import FLOAT_RESIDUAL, images, net, net_batches, quantized_net

HISTOGRAM, HESSIAN = (replace(FLOAT_RESIDUAL, observer=observer) for observer in ("histogram", "hessian"))
every = pytest.mark.parametrize("recipe", [FLOAT_RESIDUAL, HISTOGRAM, HESSIAN], ids=lambda recipe: recipe.observer)
ACTIVATIONS = {  # tensor → the node of the folded net that computes it
    "a.c.input": "relu",
    "a.c.output": "relu_1",
    "b.c.output": "b_c",
    "dw.c.input": "add",
    "dw.c.output": "dw_c",
    "head.input": "mean",
    "head.output": "head",
}


@cache
def float_values() -> dict[str, Tensor]:
    """Every value of the float net on the calibration images, by the name of its node."""
    values: dict[str, list[Tensor]] = {}

    class Recorder(Interpreter):
        def run_node(self, n: Node) -> Tensor:
            value: Tensor = super().run_node(n)
            values.setdefault(n.name, []).append(value.detach())
            return value

    for batch in net_batches():
        Recorder(net()).run(batch)
    return {name: torch.cat(batches) for name, batches in values.items() if name != "output"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_minmax_covers_what_calibration_saw_and_zero(name: str) -> None:
    values, grid = float_values()[ACTIVATIONS[name]], quantized_net(FLOAT_RESIDUAL).tensors[name]
    low, high = min(float(values.min()), 0), max(float(values.max()), 0)
    (scale,), (zero_point,) = grid.scale, grid.zero_point
    assert (high - low) / 255 <= scale <= (high - low) / 255 * (1 + 2**-10)
    assert zero_point == round(-128 - low / scale)
    assert grid.axis is None


@every
def test_every_scale_is_a_float16_number(recipe: Recipe) -> None:
    scales = torch.tensor([scale for grid in quantized_net(recipe).tensors.values() for scale in grid.scale])
    assert torch.equal(scales.half().float(), scales)


@pytest.mark.parametrize("scale", [2**-16, 2**-16 * 1.0001, 0.0123, 1.0, 1.0000001, 0.99999, 3.14159, 65504.0])
def test_half_at_least_is_the_next_float16_number(scale: float) -> None:
    found = half_at_least(torch.tensor([scale]))
    below = np.nextafter(np.float16(found.item()), np.float16(0))
    assert found.dtype == torch.float32
    assert float(below) < np.float32(scale) <= found.item() == float(np.float16(found.item()))


def test_half_at_least_has_no_number_beyond_the_end_of_float16() -> None:
    assert half_at_least(torch.tensor([65505.0, 1e9])).isinf().all()


@every
def test_zero_is_on_every_activation_grid_and_starts_that_of_a_relu(recipe: Recipe) -> None:
    tensors = quantized_net(recipe).tensors
    assert all(-128 <= tensors[name].zero_point[0] <= 127 for name in ACTIVATIONS)
    assert {name for name in ACTIVATIONS if tensors[name].zero_point == (-128,)} == {"a.c.input", "a.c.output"}


@pytest.mark.parametrize("name", ["a.c", "b.c", "dw.c", "head"])
def test_weights_are_symmetric_with_one_scale_an_output_channel(name: str) -> None:
    quantized = quantized_net(FLOAT_RESIDUAL)
    weight, grid = net().get_parameter(f"{name}.weight"), quantized.tensors[f"{name}.weight"]
    expected = weight.detach().flatten(1).abs().amax(1) / 127
    assert (torch.tensor(grid.scale) >= expected).all()
    assert (torch.tensor(grid.scale) <= expected * (1 + 2**-10)).all()
    assert grid.zero_point == (0,) * len(weight)
    assert grid.axis == 0
    stored = quantized.program.constants | quantized.program.state_dict
    integers = stored[f"{name}.weight"].flatten(1).int()
    assert integers.abs().amax(1).tolist() == [127] * len(weight)
    assert integers.min() >= -127


def test_the_observer_decides_the_activations_and_leaves_the_weights() -> None:
    minmax, histogram = quantized_net(FLOAT_RESIDUAL).tensors, quantized_net(HISTOGRAM).tensors
    assert set(minmax) == set(histogram)
    differing = {name for name in minmax if minmax[name] != histogram[name]}
    assert differing
    assert differing <= set(ACTIVATIONS)


@every
def test_the_same_images_give_the_same_grids(recipe: Recipe) -> None:
    again = calibrate(net(), recipe, net_batches(), images(1, 0, 16))
    assert again.tensors == quantized_net(recipe).tensors
    assert again.nodes == quantized_net(recipe).nodes


def test_minmax_does_not_depend_on_the_order_of_the_images() -> None:
    again = calibrate(net(), FLOAT_RESIDUAL, net_batches()[::-1], images(1, 0, 16))
    assert again.tensors == quantized_net(FLOAT_RESIDUAL).tensors


def test_other_images_give_other_grids() -> None:
    again = calibrate(net(), FLOAT_RESIDUAL, net_batches()[:1], images(1, 0, 16))
    assert again.tensors != quantized_net(FLOAT_RESIDUAL).tensors


def dead() -> QuantizedProgram:
    """The first layer's output is always 0, and so is one channel of the second's weight."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    nn.init.constant_(model[0].bias, -100)
    nn.init.zeros_(model[2].weight[1])
    return calibrate(model, Recipe((Rule("*", "int8", ""),), "minmax"), [images(2, 0, 8)], images(1, 0, 8))


def test_a_tensor_that_is_always_zero_still_has_a_usable_scale() -> None:
    quantized = dead()
    assert quantized.tensors["0.output"].scale == (MIN_SCALE,)
    assert quantized.tensors["2.weight"].scale[1] == MIN_SCALE
    assert quantized.run(images(1, 1, 8)).isfinite().all()
