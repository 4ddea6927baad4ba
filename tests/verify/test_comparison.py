"""Two sets of grids: what counts as equal, as different, and as nothing to compare."""

import json
import math
from collections.abc import Mapping

import numpy as np
import pytest

from calibrate.program import TensorGrid
from edgevit.verify.comparison import Comparison, Differing, compare
from edgevit.verify.opened import Opened

GRIDS = {
    "a.weight": TensorGrid((0.5, 0.25), (0, 0), axis=0),
    "a.output": TensorGrid((0.1,), (-3,)),
    "b.output": TensorGrid((0.2,), (7,)),
}


def without(*names: str) -> dict[str, TensorGrid]:
    return {name: grid for name, grid in GRIDS.items() if name not in names}


def compared(
    a: Mapping[str, TensorGrid], b: Mapping[str, TensorGrid], programs: tuple[bool, bool] = (False, False)
) -> Comparison:
    return compare(Opened(a, programs[0]), Opened(b, programs[1]))


@pytest.mark.parametrize("programs", [(False, False), (True, False), (False, True), (True, True)])
def test_the_same_grids_are_equal(programs: tuple[bool, bool]) -> None:
    comparison = compared(GRIDS, dict(reversed(GRIDS.items())), programs)
    assert comparison == Comparison(3, (), (), (), ())
    assert comparison.broken() is None
    assert comparison.manifest() == {"equal": True, "compared": 3, "differing": [], "only_a": [], "only_b": []}


@pytest.mark.parametrize(
    "other",
    [
        TensorGrid((float(np.nextafter(np.float32(0.1), np.float32(1))),), (-3,)),
        TensorGrid((0.1,), (-2,)),
        TensorGrid((0.1,), (-3,), axis=0),
        TensorGrid((0.1, 0.1), (-3, -3)),
    ],
)
def test_a_tensor_on_another_grid_is_given_with_both(other: TensorGrid) -> None:
    comparison = compared(GRIDS, GRIDS | {"a.output": other})
    assert comparison.differing == (Differing("a.output", GRIDS["a.output"], other),)
    assert comparison.broken() == "of 3 tensors these differ: 1 (a.output)"
    manifest = comparison.manifest()
    assert not manifest["equal"]
    assert manifest["differing"] == [
        {"tensor": "a.output", "a": {"scale": [0.1], "zero_point": [-3]}, "b": other.manifest()}
    ]


def test_artifacts_may_each_have_dropped_something() -> None:
    comparison = compared(without("b.output"), without("a.output"))
    assert (comparison.compared, comparison.only_a, comparison.only_b) == (1, ("a.output",), ("b.output",))
    assert comparison.broken() is None
    assert comparison.manifest()["only_a"] == ["a.output"]
    assert comparison.manifest()["only_b"] == ["b.output"]


def test_a_target_may_have_dropped_what_the_program_has() -> None:
    assert compared(GRIDS, without("b.output"), (True, False)).broken() is None
    assert compared(without("b.output"), GRIDS, (False, True)).broken() is None


@pytest.mark.parametrize("other", [True, False])
def test_a_program_has_dropped_nothing(other: bool) -> None:
    reason = "an export's program has no grid for 1 (b.output)"
    for comparison in (
        compared(without("b.output"), GRIDS, (True, other)),
        compared(GRIDS, without("b.output"), (other, True)),
    ):
        assert comparison.broken() == reason
        assert not comparison.manifest()["equal"]


@pytest.mark.parametrize(("a", "b"), [(without("a.weight"), without("a.output", "b.output")), ({}, {}), (GRIDS, {})])
def test_nothing_in_common_is_not_equal(a: Mapping[str, TensorGrid], b: Mapping[str, TensorGrid]) -> None:
    comparison = compared(a, b)
    assert comparison.compared == 0
    assert comparison.broken() == "they have no tensor in common, so there is nothing to compare"
    assert not comparison.manifest()["equal"]


def test_a_scale_that_is_no_number_differs_from_itself_and_fits_json() -> None:
    odd = {"a.output": TensorGrid((math.nan, math.inf, 0.5), (0, 0, 0), axis=0)}
    comparison = compared(odd, odd)
    assert len(comparison.differing) == 1
    entry = json.loads(json.dumps(comparison.manifest(), allow_nan=False))["differing"][0]
    assert entry["a"] == entry["b"] == {"scale": ["nan", "inf", 0.5], "zero_point": [0, 0, 0], "axis": 0}


def test_a_sentence_names_the_first_three() -> None:
    names = [f"{i}.output" for i in range(5)]
    a, b = ({name: TensorGrid((scale,), (0,)) for name in names} for scale in (0.5, 0.25))
    assert compared(a, b).broken() == "of 5 tensors these differ: 5 (0.output, 1.output, 2.output, ...)"
    few = compared({name: a[name] for name in names[:3]}, b)
    assert few.broken() == "of 3 tensors these differ: 3 (0.output, 1.output, 2.output)"
