"""Ranges from a histogram whose ends are known: of the least error, and without the outermost values."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from calibrate.counted import BINS, CountedObserver
from calibrate.observers import ACTIVATION_OBSERVERS
from calibrate.percentile import LEFT_OUT
from calibrate.ptq import calibrate, passes
from calibrate.recipe import Recipe, Rule
from tests.calibrate.subjects import images, net

COUNTED = ["percentile", "sqnr", "hessian"]
EXAMPLE = images(1, 0, 16)


def observer(name: str) -> CountedObserver:
    made: Callable[..., CountedObserver] = ACTIVATION_OBSERVERS[name]  # type: ignore[index]
    return made(dtype=torch.int8, quant_min=-128, quant_max=127, qscheme=torch.per_tensor_affine, eps=2**-16)


def shown(name: str, values: torch.Tensor) -> CountedObserver:
    seen = observer(name)
    seen(values)
    seen.count_from_here()
    seen(values)
    return seen


def reached(seen: CountedObserver) -> tuple[float, float]:
    scale, zero_point = (float(part) for part in seen.calculate_qparams())
    return (-128 - zero_point) * scale, (127 - zero_point) * scale


def test_counts_every_value_once_in_its_bin() -> None:
    seen = shown("sqnr", torch.tensor([-1.0, 0.0, 0.0, 3.0]))
    assert seen.counts is not None
    assert {int(i): float(seen.counts[i]) for i in seen.counts.nonzero()} == {
        0: 1,
        round((BINS - 1) / 4): 2,
        BINS - 1: 1,
    }


def test_sqnr_takes_the_range_of_the_least_error(random: np.random.Generator) -> None:
    values = torch.from_numpy(random.standard_normal(200_000).astype(np.float32) ** 3)
    seen = shown("sqnr", values)

    def error(low: float, high: float) -> float:
        scale = (high - low) / 255
        zero_point = round(-128 - low / scale)
        rounded = torch.fake_quantize_per_tensor_affine(values, scale, max(-128, min(127, zero_point)), -128, 127)
        return float((rounded - values).square().mean())

    low, high = reached(seen)
    assert error(low, high) < 0.9 * error(float(values.min()), float(values.max()))
    tried = [error(low * a, high * b) for a in (0.8, 0.9, 1, 1.1, 1.25) for b in (0.8, 0.9, 1, 1.1, 1.25)]
    assert error(low, high) <= 1.03 * min(tried)


def test_percentile_leaves_out_the_outermost_values() -> None:
    values = torch.linspace(-1, 2, 1_000_000)
    values[:5], values[-5:] = -50, 100  # fewer than are left out
    low, high = reached(shown("percentile", values))
    bin_width = 150 / BINS
    assert low == pytest.approx(-1, abs=2 * bin_width)
    assert high == pytest.approx(2, abs=2 * bin_width)
    values[-int(3e6 * LEFT_OUT) :] = 100  # and more than that
    assert reached(shown("percentile", values))[1] == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize("name", ["percentile", "sqnr"])
@pytest.mark.parametrize("value", [0.0, 2.0, -3.0])
def test_a_constant_tensor_has_a_range_that_holds_it(name: str, value: float) -> None:
    low, high = reached(shown(name, torch.full((100,), value)))
    assert low <= value * 0.99 + 1e-6
    assert high >= value * 0.99 - 1e-6
    assert low <= 0 <= high


@pytest.mark.parametrize("name", COUNTED)
def test_neither_order_nor_batches_of_the_images_matter(name: str) -> None:
    recipe = Recipe((Rule("*", "int8", ""),), name)  # type: ignore[arg-type]
    x = images(12, 1, 16)
    one = calibrate(net(), recipe, [x[:4], x[4:]], EXAMPLE)
    other = calibrate(net(), recipe, list(x[torch.randperm(12)].split(5)), EXAMPLE)
    for tensor, grid in one.tensors.items():
        assert grid.scale == pytest.approx(other.tensors[tensor].scale, rel=0.03), tensor


@pytest.mark.parametrize("name", COUNTED)
def test_goes_through_the_images_twice(name: str) -> None:
    recipe = Recipe((Rule("*", "int8", ""),), name)  # type: ignore[arg-type]
    assert passes(recipe) == 2
