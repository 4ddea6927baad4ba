"""What a profile comes to: shares, the bound, and what of the artifact it lacks."""

from dataclasses import replace

import numpy as np
import pytest

from convert.profiling.profiler import Operator, Profiled
from convert.target import Census
from edgevit.bench.peak import Peak
from edgevit.bench.profile import Profile
from edgevit.bench.protocol import Timing

OPERATORS = (
    Operator("stem", "stem_1", "conv", "int8", 30.0, 6_000_000),
    Operator("after stem", "reorder", "layout", "float", 50.0, 0),
    Operator("head", "head", "linear", "float", 20.0, 1_000_000),
    Operator("before head", "reorder_2", "layout", "float", 60.0, 0),
)
CENSUS = Census({"conv": 1}, {"linear": 1, "reorder": 2}, ("stem",), ())


@pytest.fixture
def profile() -> Profile:
    profiled = Profiled(OPERATORS, np.array([0.5, 0.3, 0.4]), "It counts whole seconds", taken_off_us=12.0)
    peaks = {"int8": Peak(200.0, 1, 2, 3, 400), "float": Peak(50.0, 1, 2, 3, 400)}
    return Profile(1, Timing(100, 0.2, 0.3, 0.4, 0.1, 0.1), True, profiled, CENSUS, peaks, 10_000_000)


def test_shares_are_of_the_operators_and_sum_to_one(profile: Profile) -> None:
    manifest = profile.manifest("onnx")
    assert [operator["node"] for operator in manifest["operators"]] == ["reorder_2", "reorder", "stem_1", "head"]
    for rows in (manifest["operators"], manifest["kinds"]):
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert sum(row["us"] for row in rows) == 160
    assert manifest["kinds"][0] == {
        "kind": "layout",
        "precision": "float",
        "operators": 2,
        "us": 110.0,
        "share": 110 / 160,
        "macs": 0,
    }


def test_the_three_times_stand_beside_each_other(profile: Profile) -> None:
    manifest = profile.manifest("onnx")
    assert manifest["latency"]["p50_ms"] == 0.2
    assert manifest["profiled"]["p50_ms"] == 0.4
    assert manifest["profiled"]["operators_ms"] == 0.16
    assert manifest["profiled"]["operators_of_latency"] == pytest.approx(0.8)
    assert manifest["profiled"]["taken_off_ms"] == 0.012


def test_the_bound_counts_each_precision_at_its_own_peak(profile: Profile) -> None:
    bound = profile.manifest("onnx")["bound"]
    assert bound["ms"] == pytest.approx(6e6 / 200e6 + 1e6 / 50e6)
    assert bound["of_latency"] == pytest.approx(0.05 / 0.2)
    assert bound["macs"] == {"int8": 6_000_000, "float": 1_000_000}
    assert bound["of_model_macs"] == 0.7


def test_a_whole_profile_has_no_failure(profile: Profile) -> None:
    assert profile.failures("onnx") == []


def without(profile: Profile, node: str) -> Profile:
    kept = tuple(operator for operator in OPERATORS if operator.node != node)
    return replace(profile, profiled=replace(profile.profiled, operators=kept))


def test_a_missing_operator_is_said(profile: Profile) -> None:
    assert without(profile, "stem_1").failures("onnx") == [
        "onnx: 1 INT8 operators are not in the profile, such as stem",
        "onnx: the profile has 0 of the 1 conv in int8",
    ]
    assert without(profile, "head").failures("onnx") == ["onnx: the profile has 0 of the 1 linear in float"]
    uncounted = replace(profile, profiled=replace(profile.profiled, uncounted=("reorder_3",)))
    assert uncounted.failures("onnx") == ["onnx: the profiler has no time of 1 operators that run, such as reorder_3"]


def test_an_operator_that_the_runtime_left_in_float_is_no_gap_of_the_profile(profile: Profile) -> None:
    census = Census({"conv": 1}, {"linear": 1}, ("stem", "head"), ("head",))
    assert replace(profile, census=census).failures("onnx") == []
