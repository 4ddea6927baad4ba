"""What Python reads of bundles and results: the golden ones, and each thing that may be wrong with them."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle.contract import BUNDLE, check_bundle, check_result, read_bundle
from edgevit.errors import ClaimError, InputError
from tests.bench.devices.stand_in import RESULT

GOLDEN = json.loads((Path(__file__).parents[2] / "apps" / "golden" / "golden.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", GOLDEN["bundles"], ids=lambda entry: entry["problem"] or "none")
def test_golden_bundles_are_taken_and_refused(entry: dict[str, Any]) -> None:
    if entry["problem"] is None:
        check_bundle(entry["bundle"])
        return
    with pytest.raises(InputError, match=entry["problem"]):
        check_bundle(entry["bundle"])


def test_a_bundle_is_read_from_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no bundle\.json: make one with edgevit bundle"):
        read_bundle(tmp_path)
    (tmp_path / BUNDLE).write_text("{")
    with pytest.raises(ClaimError):
        read_bundle(tmp_path)
    (tmp_path / BUNDLE).write_text('{"schema": 1}')
    with pytest.raises(InputError, match=r"bundle.json is damaged .*: bundle the export again"):
        read_bundle(tmp_path)
    (tmp_path / BUNDLE).write_text(json.dumps(GOLDEN["bundles"][0]["bundle"]))
    assert read_bundle(tmp_path) == GOLDEN["bundles"][0]["bundle"]


def test_a_result_is_taken() -> None:
    check_result(RESULT, Path("result.json"))
    untimed = RESULT | dict.fromkeys(("latency", "start", "sustained", "thermal", "memory_mb", "threads"))
    check_result(untimed, Path("result.json"))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("schema", 2, "is not of schema 1"),
        ("app", "fridge", "app is fridge where one of runner, android, ios, web is needed"),
        ("created", 3, "created is 3 where text is needed"),
        ("device.cores", None, "device.cores is None where a whole number is needed"),
        ("device.name", 7, "device.name is 7 where text is needed"),
        ("parity.holds", "yes", "parity.holds is yes where true or false is needed"),
        ("parity.sqnr_db", float("nan"), "parity.sqnr_db is nan where a number is needed"),
        ("latency.p50_ms", "fast", "latency.p50_ms is fast where a number is needed"),
        ("latency.steady", 1, "latency.steady is 1 where true or false is needed"),
        ("sustained.minutes", None, "sustained.minutes is None where a number is needed"),
        ("thermal.after", ..., "thermal.after is missing"),
        ("start", ..., "start is missing"),
        ("memory_mb", "much", "memory_mb is much where a number is needed"),
    ],
)
def test_each_field_of_a_result_is_read_strictly(place: str, value: Any, said: str) -> None:
    result = copy.deepcopy(RESULT)
    *outer, last = place.split(".")
    inside = result
    for key in outer:
        inside = inside[key]
    if value is ...:
        del inside[last]
    else:
        inside[last] = value
    with pytest.raises(InputError, match=said):
        check_result(result, Path("result.json"))
