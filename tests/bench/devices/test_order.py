"""A device's answer: what it may be called, that it is of this export, and where it is kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgevit import artifact
from edgevit.bench.devices.order import Answer, Order, answered, keep
from edgevit.errors import ClaimError, InputError
from tests.bench.devices.stand_in import RESULT, export

DEVICE = RESULT["device"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return export(tmp_path / "export")


def text(folder: Path, **changed: Any) -> str:
    return json.dumps(RESULT | {"export_sha256": artifact.sha256_of(folder / artifact.MANIFEST)} | changed)


@pytest.mark.parametrize(
    ("app", "emulated", "android", "kind"),
    [
        ("runner", None, None, "computer"),
        ("runner", "qemu-user", None, "emulator"),
        ("runner", None, {"name": "A B", "emulated": None}, "phone"),
        ("runner", None, {"name": "A B", "emulated": "Android emulator"}, "emulator"),
        ("web", None, None, "browser"),
        ("android", None, None, "phone"),
        ("android", "Android emulator", None, "emulator"),
        ("ios", None, None, "phone"),
        ("ios", "iOS Simulator", None, "emulator"),
    ],
)
def test_nothing_else_is_called_a_phone(
    app: str, emulated: str | None, android: dict[str, str | None] | None, kind: str, folder: Path
) -> None:
    answer = answered(text(folder, app=app, device=DEVICE | {"emulated": emulated}), "it", folder, android)
    assert answer.kind == kind
    assert answer.result["device"] == DEVICE | {"emulated": emulated} | (android or {})


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "it gave no valid result"),
        ("[]", "it gave no valid result"),
        ("{", "it gave no valid result"),
        ("[" * 100_000, "it gave no valid result"),
        ('{"schema": 1}', "it gave no valid result"),
        ('{"error": "no bundle"}', "it: no bundle"),
        (json.dumps(RESULT), "it has another export than"),
    ],
    ids=["nothing", "a list", "half", "deep", "too little", "an error", "another export"],
)
def test_what_is_no_answer_is_said(said: str, reason: str, folder: Path) -> None:
    with pytest.raises(ClaimError, match=reason):
        answered(said, "it", folder)


def test_an_answer_is_kept_once_for_its_device_runtime_and_threads(folder: Path) -> None:
    first = answered(text(folder), "ssh:pi@board/../x", folder)
    path = keep(first, folder)
    assert path.parent == folder / "devices"
    assert keep(answered(text(folder, created="later"), "ssh:pi@board/../x", folder), folder) == path
    assert keep(answered(text(folder, threads=4), "ssh:pi@board/../x", folder), folder) != path
    kept = json.loads(path.read_text())
    assert (kept["schema"], kept["device"], kept["kind"]) == (1, "ssh:pi@board/../x", "computer")
    assert kept["result"]["created"] == "later"


def test_parity_that_does_not_hold_is_a_failure() -> None:
    parity = {"sqnr_db": 8.0, "min_sqnr_db": 22.0, "top1_matches": False, "holds": False}
    assert Answer("it", "computer", RESULT).failure is None
    failure = Answer("it", "computer", RESULT | {"parity": parity}).failure
    assert failure == "onnxruntime on it: parity does not hold, 8.0 dB where 22.0 are needed, another class"
    failure = Answer("it", "computer", RESULT | {"parity": parity | {"sqnr_db": None}}).failure
    assert failure == "onnxruntime on it: parity does not hold, its answer is not finite"


def test_a_device_is_waited_for_as_long_as_it_was_asked_to_take() -> None:
    assert Order(seconds=60).patience > 60 + 10
    assert Order(minutes=10).patience == Order().patience + 600


def test_more_seconds_than_a_device_times_are_not_asked_for() -> None:
    with pytest.raises(InputError, match="a device is timed for 60 s at most: ask for fewer --seconds"):
        Order(seconds=61)
