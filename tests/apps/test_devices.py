"""``edgevit bench --device`` with the real adb and ssh, against devices on loopback that behave, or do not.

The program that they are given is a stand-in for the C++ runner: what is tested is the way there and back.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.bench.devices.adb import Adb
from edgevit.bench.devices.order import Order
from edgevit.errors import MissingError
from tests import conftest
from tests.apps import board
from tests.apps.adb_daemon import Daemon, connect
from tests.cli import conftest as cli
from tests.cli.conftest import Edgevit

pytestmark = pytest.mark.apps
edgevit = cli.edgevit  # a fixture
Build = Callable[[str], Path]
RESULT = {
    "schema": 1, "edgevit": "0", "export_sha256": "EXPORT", "model": "efficientvit_m0", "quant": "int8",
    "created": "2026-01-31T12:00:00Z", "app": "runner",
    "device": {"name": "stand-in", "os": "Linux", "soc": None, "arch": "x86_64", "cores": 2, "emulated": None},
    "runtime": {"name": "onnxruntime", "version": "1.0", "delegate": "CPU"}, "threads": 1,
    "parity": {"sqnr_db": 50.0, "min_sqnr_db": 40.0, "top1_matches": True, "holds": True},
    "latency": {"runs": 20, "p50_ms": 4.25, "p90_ms": 5.0, "p99_ms": 6.0, "min_ms": 4.0, "spread": 0.1, "steady": True},
    "start": {"load_ms": 20.0, "first_ms": 5.0}, "memory_mb": 30.0, "sustained": None, "thermal": None,
}  # fmt: skip
ANSWER = f"""sha=$(sed -n 's/.*"export_sha256": *"\\([0-9a-f]*\\)".*/\\1/p' "$1/bundle.json")
echo '{json.dumps(RESULT)}' | sed "s/EXPORT/$sha/"
"""
KILLED, GARBAGE = "kill -9 $$\n", "echo Segmentation\n"
ANDROID = {
    "ro.product.manufacturer": "Acme", "ro.product.model": "Seven", "ro.build.version.release": "14",
    "ro.soc.model": "AC7", "ro.hardware": "acme", "ro.boot.qemu": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real export, of the one target that the stand-in is for."""
    done = conftest.export_int8(data, checkpoint, tmp_path_factory.mktemp("exports") / "onnx", "--target", "onnx")
    assert done.code == 0, done.err
    return done.folder


@pytest.fixture
def export(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "export"))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this host's temporary folders are made."""
    folder = tmp_path / "host"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def built(tmp_path: Path) -> Build:
    """An installed runner that does what is said."""

    def build(text: str) -> Path:
        (tmp_path / "built" / "bin").mkdir(parents=True)
        board.script(tmp_path / "built" / "bin" / "edgevit-runner-onnx", f"#!/bin/sh\n{text}")
        return tmp_path / "built"

    return build


def getprop(daemon: Daemon, told: dict[str, str]) -> None:
    cases = "".join(f"{key}) echo '{value}';;\n" for key, value in told.items())
    board.script(daemon.root / "bin" / "getprop", f'#!/bin/sh\ncase "$1" in\n{cases}*) echo;;\nesac\n')


def left(root: Path) -> list[str]:
    return [path.name for path in root.glob("edgevit-*")]


def kept(export: Path) -> dict[str, Any]:
    (path,) = (export / "devices").iterdir()
    return json.loads(path.read_text())


def one_sentence(text: str) -> str:
    (line,) = (line for line in text.splitlines() if line.strip())
    assert line.startswith("edgevit: ")
    return line


def test_a_board_behind_ssh(
    edgevit: Edgevit,
    export: Path,
    host: Path,
    built: Build,
    pi: board.Board,
    tmp_path: Path,
) -> None:
    ended = edgevit("bench", export, "--device", pi.spec, "--app", built(ANSWER))
    assert ended.code == 0, ended.err
    assert "4.25" in ended.out
    assert kept(export)["kind"] == "computer"
    assert kept(export)["device"] == pi.spec
    assert left(pi.root) == []
    assert left(host) == []
    page = tmp_path / "report.html"
    assert edgevit("report", export, "--out", page).code == 0
    assert "computer: stand-in, Linux, x86_64" in page.read_text()


@pytest.mark.parametrize(
    ("told", "kind", "name"),
    [
        (None, "computer", "stand-in"),
        (ANDROID, "phone", "Acme Seven"),
        (ANDROID | {"ro.boot.qemu": "1"}, "emulator", "Acme Seven"),
    ],
)
def test_a_device_behind_adb(
    edgevit: Edgevit,
    export: Path,
    host: Path,
    built: Build,
    phone: Daemon,
    told: dict[str, str] | None,
    kind: str,
    name: str,
) -> None:
    if told is not None:
        getprop(phone, told)
    spec = connect(phone)
    ended = edgevit("bench", export, "--device", spec, "--app", built(ANSWER))
    assert ended.code == 0, ended.err
    assert (kept(export)["kind"], kept(export)["result"]["device"]["name"]) == (kind, name)
    assert left(phone.root) == []
    assert left(host) == []


@pytest.mark.parametrize(("text", "words"), [(KILLED, "the system killed it"), (GARBAGE, "gave no valid result")])
@pytest.mark.parametrize("way", ["adb", "ssh"])
def test_a_program_that_fails(
    edgevit: Edgevit,
    export: Path,
    host: Path,
    built: Build,
    way: str,
    text: str,
    words: str,
    request: pytest.FixtureRequest,
) -> None:
    device = request.getfixturevalue("phone" if way == "adb" else "pi")
    spec = connect(device) if way == "adb" else device.spec
    ended = edgevit("bench", export, "--device", spec, "--app", built(text))
    assert ended.code == 1
    assert words in ended.err
    assert "Traceback" not in ended.err
    assert not (export / "devices").exists()
    assert left(device.root) == []
    assert left(host) == []


@pytest.mark.parametrize("way", ["adb", "ssh"])
def test_a_program_that_hangs_is_ended_there(
    edgevit: Edgevit,
    export: Path,
    host: Path,
    built: Build,
    way: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = request.getfixturevalue("phone" if way == "adb" else "pi")
    spec = connect(device) if way == "adb" else device.spec
    monkeypatch.setattr(Order, "patience", 5.0)
    ended = edgevit("bench", export, "--device", spec, "--app", built(f"echo $$ > {tmp_path}/number\nexec sleep 300\n"))
    assert ended.code == 1
    assert one_sentence(ended.err).endswith("no result came in 5 s: ask for fewer --runs")
    assert left(device.root) == []
    assert left(host) == []
    until(lambda: not Path(f"/proc/{(tmp_path / 'number').read_text().strip()}").exists(), 5)


def asks(daemon: Daemon) -> None:
    daemon.asks = True


def is_full(daemon: Daemon) -> None:
    daemon.refuses = "No space left on device"


def cannot_be_written_to(daemon: Daemon) -> None:
    daemon.refuses = "Permission denied"


def has_no_room_for_a_folder(daemon: Daemon) -> None:
    board.script(daemon.root / "bin" / "mkdir", '#!/bin/sh\necho "mkdir: No space left on device" >&2\nexit 1\n')


def vanishes_in_push(daemon: Daemon) -> None:
    daemon.vanish_in_push = True


def vanishes_in_timing(daemon: Daemon) -> None:
    daemon.vanish_in = "edgevit-runner-onnx"


@pytest.mark.parametrize(
    ("misbehave", "code", "words", "stays"),
    [
        (asks, 3, "asks for authorisation", False),
        (is_full, 2, "the device is full", False),
        (cannot_be_written_to, 2, "Permission denied): see that it can be written to", False),
        (has_no_room_for_a_folder, 2, "free space", False),
        (vanishes_in_push, 3, "vanished", True),
        (vanishes_in_timing, 3, "vanished", True),
    ],
)
def test_an_android_that_misbehaves(
    edgevit: Edgevit,
    export: Path,
    host: Path,
    built: Build,
    phone: Daemon,
    misbehave: Callable[[Daemon], None],
    code: int,
    words: str,
    stays: bool,
) -> None:
    misbehave(phone)
    spec = connect(phone)
    ended = edgevit("bench", export, "--device", spec, "--app", built("sleep 60\n" + ANSWER))
    assert (ended.code, words in one_sentence(ended.err)) == (code, True), ended.err
    assert bool(left(phone.root)) == stays  # nobody can take anything from what has vanished
    assert not (export / "devices").exists()
    assert left(host) == []


def test_no_such_android(edgevit: Edgevit, export: Path, host: Path, built: Build, phone: Daemon) -> None:
    ended = edgevit("bench", export, "--device", f"adb:{phone.serial}", "--app", built(ANSWER))
    assert ended.code == 3
    assert "is not there" in one_sentence(ended.err)
    assert left(host) == []


@pytest.mark.parametrize(("words", "text"), [("tar -C", ANSWER), (None, board.VANISH)])
def test_a_board_that_vanishes(
    edgevit: Edgevit, export: Path, host: Path, built: Build, pi: board.Board, words: str | None, text: str
) -> None:
    if words is not None:
        pi.vanish_in(words)
    ended = edgevit("bench", export, "--device", pi.spec, "--app", built(text))
    assert ended.code == 3
    assert "cannot be reached" in one_sentence(ended.err)
    assert not (export / "devices").exists()
    assert left(pi.root) != []  # nobody can take anything from what has vanished
    assert left(host) == []


def test_a_board_that_is_full(edgevit: Edgevit, export: Path, host: Path, built: Build, pi: board.Board) -> None:
    board.script(pi.root / "bin" / "tar", '#!/bin/sh\necho "tar: write: No space left on device" >&2\nexit 2\n')
    ended = edgevit("bench", export, "--device", pi.spec, "--app", built(ANSWER))
    assert ended.code == 2
    assert "the device is full" in one_sentence(ended.err)
    assert left(pi.root) == []
    assert left(host) == []


def test_adb_brings_files_there_and_back(tmp_path: Path, phone: Daemon) -> None:
    (tmp_path / "files" / "in it").mkdir(parents=True)
    (tmp_path / "files" / "in it" / "large").write_bytes(os.urandom(300_000))
    connect(phone)
    device = Adb(phone.serial)
    assert device.push(tmp_path / "files", f"{device.scratch}/new").code == 0
    assert device.pull(f"{device.scratch}/new/in it/large", tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "files" / "in it" / "large").read_bytes()
    assert device.pull(f"{device.scratch}/none", tmp_path / "none").code != 0
    ran = device.run(["sh", "-c", "echo out; echo $1 >&2; exit 3", "sh", "it's"])
    assert (ran.code, ran.out, ran.err) == (3, "out\n", "it's\n")


def test_adb_notices_that_a_device_vanishes_in_a_push(tmp_path: Path, phone: Daemon) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "large").write_bytes(bytes(300_000))
    phone.vanish_in_push = True
    connect(phone)
    device = Adb(phone.serial)
    with pytest.raises(MissingError, match="vanished"):
        device.push(tmp_path / "files", f"{device.scratch}/new")


def test_a_file_that_does_not_arrive_whole(
    edgevit: Edgevit, export: Path, host: Path, built: Build, phone: Daemon
) -> None:
    board.script(phone.root / "bin" / "sha256sum", '#!/bin/sh\nfor file; do echo "00  $file"; done\n')
    ended = edgevit("bench", export, "--device", connect(phone), "--app", built(ANSWER))
    assert ended.code == 1
    assert "did not arrive whole" in one_sentence(ended.err)
    assert left(phone.root) == []
    assert left(host) == []


@pytest.mark.parametrize("way", ["adb", "ssh"])
def test_ctrl_c_ends_the_program_there(
    export: Path, host: Path, built: Build, way: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    device = request.getfixturevalue("phone" if way == "adb" else "pi")
    spec = connect(device) if way == "adb" else device.spec
    started = tmp_path / "started"
    app = built(f"echo $$ > {started}.new; mv {started}.new {started}\nexec sleep 300\n")
    line = [sys.executable, "-m", "edgevit", "bench", str(export), "--device", spec, "--app", str(app)]
    with subprocess.Popen(
        line, cwd=conftest.ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        until(started.exists)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal: ssh and adb get it too
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert left(device.root) == []
    assert left(host) == []
    until(lambda: not Path(f"/proc/{started.read_text().strip()}").exists(), 5)


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.05)
