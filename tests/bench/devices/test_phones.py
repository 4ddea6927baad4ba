"""The apps on phones, by stand-ins for adb and xcrun that answer as the real ones do: no phone was ever at hand."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit import artifact
from edgevit.bench.devices import phones, ran
from edgevit.bench.devices.adb import Adb
from edgevit.bench.devices.order import Order
from edgevit.errors import ClaimError, MissingError
from tests.bench.devices.stand_in import RESULT, export

# `shell` gets its command line as one word; files of the phone lie in $PHONE.
ADB = """#!/bin/sh
[ "$1" = devices ] && { printf 'List of devices attached\\n%b' "$DEVICES"; exit 0; }
[ "$3" = shell ] || exit 9
case "$4" in
  "rm "*) rm -f "$PHONE/result.json";;
  "am start"*) echo "$4" > "$PHONE/started"; eval "$START";;
  "test "*) [ -f "$PHONE/result.json" ] && echo "edgevit-exit:0" || echo "edgevit-exit:1"; exit 0;;
  cat*) cat "$PHONE/result.json";;
  pidof*) [ -f "$PHONE/running" ] && echo "edgevit-exit:0" || echo "edgevit-exit:1"; exit 0;;
esac
echo "edgevit-exit:0"
"""
XCRUN = """#!/bin/sh
echo "$@" >> "$PHONE/asked"
case "$4" in
  launch) eval "$START";;
  *) for last; do :; done; cp "$PHONE/result.json" "$last" || exit 1;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return export(tmp_path / "export")


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``phone(START=...)``: programs that answer so; returns the folder of its files."""
    monkeypatch.setattr(phones, "EVERY", 0.01)

    def make(**settings: str) -> Path:
        programs, files = tmp_path / "programs", tmp_path / "phone"
        for path in (programs, files):
            path.mkdir(exist_ok=True)
        for name, text in (("adb", ADB), ("xcrun", XCRUN)):
            (programs / name).write_text(text)
            (programs / name).chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        for key, value in {"PHONE": str(files), "DEVICES": "A1\\tdevice\\n", "START": "true", **settings}.items():
            monkeypatch.setenv(key, value)
        return files

    return make


def result(folder: Path, app: str) -> str:
    return json.dumps(RESULT | {"app": app, "export_sha256": artifact.sha256_of(folder / artifact.MANIFEST)})


def test_an_android_phone_answers(phone: Callable[..., Path], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_text(result(folder, "android"))
    files = phone(START=f'cp {tmp_path}/answer.json "$PHONE/result.json"')
    (files / "result.json").write_text("of before")
    answer = phones.android(folder, "onnx", "A1", Order(threads=4, runs=99, seconds=2, minutes=3))
    assert (answer.kind, answer.device) == ("phone", "android:A1")
    started = (files / "started").read_text()
    assert "am start -W -n io.edgevit.app/.BenchmarkActivity --es runtime onnx --es result result.json" in started
    assert "--ei threads 4 --ei runs 99 --ef seconds 2 --ef minutes 3" in started
    assert not (files / "result.json").exists()


@pytest.mark.parametrize(
    ("settings", "kind", "reason"),
    [
        ({"DEVICES": "A1\\tunauthorized\\n"}, MissingError, "adb:A1: it asks for authorisation: unlock it and allow"),
        ({"DEVICES": "A1\\toffline\\n"}, MissingError, "adb:A1: it is offline: plug it in again"),
        ({"DEVICES": "A1\\tno permissions (x)\\n"}, MissingError, "this user may not use it: see adb's notes"),
        ({"DEVICES": "A1\\trecovery\\n"}, MissingError, "adb:A1: it is recovery"),
        ({"DEVICES": "A2\\tdevice\\n"}, MissingError, "adb:A1 is not there: adb devices lists those that are"),
        ({"START": "echo 'Error type 3'"}, MissingError, r"android:A1: the app does not start \(.*\): install it"),
        ({"START": "true"}, ClaimError, "android:A1: the app ended without a result: the system killed it"),
        ({"START": 'echo \'{"error": "no bundle"}\' > $PHONE/result.json'}, ClaimError, "android:A1: no bundle"),
        ({"START": "echo no > $PHONE/result.json"}, ClaimError, "android:A1 gave no valid result"),
        ({"START": "exit 1"}, MissingError, "adb:A1 vanished"),
    ],
)
def test_what_goes_wrong_with_an_android_phone(
    settings: dict[str, str], kind: type[Exception], reason: str, phone: Callable[..., Path], folder: Path
) -> None:
    phone(**settings)
    with pytest.raises(kind, match=reason):
        phones.android(folder, "onnx", "A1", Order())


def test_a_phone_that_never_answers_is_not_waited_for_longer_than_it_may_take(
    phone: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = phone()
    (files / "running").touch()
    monkeypatch.setattr(Order, "patience", 0.2)
    with pytest.raises(ClaimError, match="no result came in 0 s: ask for fewer --runs, and keep its screen on"):
        phones.android(folder, "onnx", "A1", Order())


def test_an_iphone_that_never_answers_is_not_waited_for_either(
    phone: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone(START="exec sleep 60")
    monkeypatch.setattr(Order, "patience", 0.2)
    with pytest.raises(ClaimError, match="ios:U-1: no result came in 0 s: ask for fewer --runs"):
        phones.ios(folder, "coreml", "U-1", Order())


def test_an_iphone_answers(phone: Callable[..., Path], folder: Path) -> None:
    files = phone()
    (files / "result.json").write_text(result(folder, "ios"))
    answer = phones.ios(folder, "coreml", "U-1", Order(minutes=2))
    assert (answer.kind, answer.device) == ("phone", "ios:U-1")
    launched, copied = (files / "asked").read_text().splitlines()
    assert launched.startswith("devicectl device process launch --console --terminate-existing --device U-1 io.edgevit")
    assert launched.endswith("--runtime coreml --threads 1 --runs 480 --seconds 5 --minutes 2 --result result.json")
    assert "copy from --device U-1 --domain-type appDataContainer --domain-identifier io.edgevit.app" in copied


@pytest.mark.parametrize(
    ("start", "kind", "reason"),
    [
        ("echo 'not installed' >&2; exit 1", MissingError, r"the app does not start \(not installed\): install it as"),
        ("true", ClaimError, "ios:U-1: the app left no result"),
    ],
)
def test_what_goes_wrong_with_an_iphone(
    start: str, kind: type[Exception], reason: str, phone: Callable[..., Path], folder: Path
) -> None:
    phone(START=start)
    with pytest.raises(kind, match=reason):
        phones.ios(folder, "coreml", "U-1", Order())


def test_a_client_that_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingError, match="adb is not installed: install Android's platform tools"):
        Adb("A1")
    with pytest.raises(MissingError, match="an iPhone is reached from a Mac with Xcode: run this there"):
        phones.ios(folder, "coreml", "U-1", Order())


def test_an_exit_code_is_told_apart_from_what_is_printed(phone: Callable[..., Path]) -> None:
    phone()
    assert ran.MARK not in Adb("A1").run(["cat"]).out
