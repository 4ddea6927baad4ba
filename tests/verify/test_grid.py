"""The grid diff: equal scales as float32, equal zero points, nothing added."""

import json
import math

import numpy as np
import pytest

from calibrate.program import TensorGrid
from edgevit.verify import grid

PROGRAM = {
    "a.weight": TensorGrid((0.5, 0.25), (0, 0), axis=0),
    "a.output": TensorGrid((0.1,), (-3,)),
    "b.output": TensorGrid((0.2,), (7,)),
}


def test_equal_grids_match_and_what_is_missing_was_dropped() -> None:
    found = {name: PROGRAM[name] for name in ("a.weight", "a.output")}
    assert grid.diff(PROGRAM, found).manifest() == {
        "matches": True,
        "tensors_compared": 2,
        "differing": [],
        "dropped": ["b.output"],
    }


@pytest.mark.parametrize(
    "other",
    [
        TensorGrid((float(np.nextafter(np.float32(0.1), np.float32(1))),), (-3,)),
        TensorGrid((0.1,), (-2,)),
        TensorGrid((0.1,), (-3,), axis=0),
        TensorGrid((0.1, 0.1), (-3, -3)),
        TensorGrid((math.nan,), (-3,)),
    ],
)
def test_a_grid_that_differs_in_anything_is_named(other: TensorGrid) -> None:
    difference = grid.diff(PROGRAM, PROGRAM | {"a.output": other})
    assert not difference.matches
    assert difference.differing == ("a.output",)
    assert difference.tensors_compared == 3


def test_float64_is_read_as_the_float32_that_artifacts_hold() -> None:
    assert grid.same(TensorGrid((0.1,), (0,)), TensorGrid((float(np.float32(0.1)),), (0,)))


def test_nan_equals_nothing() -> None:
    nan = TensorGrid((math.nan,), (0,))
    assert not grid.same(nan, nan)


def test_a_tensor_that_only_the_artifact_has_differs() -> None:
    difference = grid.diff(PROGRAM, PROGRAM | {"stray": PROGRAM["a.output"]})
    assert difference.differing == ("stray",)
    assert difference.tensors_compared == 3


def test_the_manifest_gives_the_grids_back() -> None:
    stored = json.loads(json.dumps({name: entry.manifest() for name, entry in PROGRAM.items()}))
    assert grid.from_manifest(stored) == PROGRAM
