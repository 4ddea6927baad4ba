"""The runner on this host and, by a stand-in for ssh, on another: a result, or one sentence, and nothing left there."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgevit.bench.devices import here, named, runner
from edgevit.bench.devices.here import Here, machine_of
from edgevit.bench.devices.order import Answer, Order
from edgevit.bench.devices.place import Place
from edgevit.bench.devices.ran import Ran
from edgevit.bench.devices.ssh import Ssh
from edgevit.errors import ClaimError, EdgevitError, InputError, MissingError
from edgevit.steps import silent
from tests.bench.devices.stand_in import RESULT, built, bundle_of, export

# Runs the command here, as ssh would there; hosts by these names misbehave.
SSH = """#!/bin/sh
while [ "$1" != "--" ]; do shift; done
case "$2" in
  gone) echo "ssh: connect to host gone port 22: Connection refused" >&2; exit 255;;
  full) case "$3" in *tar*) echo "tar: Cannot write: No space left on device" >&2; echo edgevit-exit:2; exit;; esac;;
  torn) case "$3" in *sha256sum*) echo edgevit-exit:0; exit;; esac;;
  closed) echo "This account is currently not available."; exit 1;;
esac
exec sh -c "$3"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner.make, "make", lambda folder, names, data, out, progress: bundle_of(folder, out))
    return export(tmp_path / "export")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where both places put what goes again."""
    path = tmp_path / "device"
    path.mkdir()
    monkeypatch.setattr(here.tempfile, "gettempdir", lambda: str(path))
    monkeypatch.setattr(Ssh, "scratch", str(path))
    return path


@pytest.fixture
def _ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "programs" / "ssh"
    program.parent.mkdir()
    program.write_text(SSH)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def ask(folder: Path, place: Place, app: Path, order: Order = Order()) -> list[Answer | EdgevitError]:  # noqa: B008
    return list(runner.bench(folder, ["onnx", "executorch"], None, place, app, order, silent))


@pytest.mark.usefixtures("_ssh")
@pytest.mark.parametrize("name", ["local", "ssh"])
def test_answers_what_the_program_says(name: str, folder: Path, scratch: Path, tmp_path: Path) -> None:
    place: Place = Here() if name == "local" else Ssh("pi@board")
    words = tmp_path / "words"
    app = built(tmp_path / "built", f'echo "$@" > {words}')
    (answer,) = ask(folder, place, app, Order(threads=4, runs=30, seconds=1.5, minutes=2))
    assert isinstance(answer, Answer)
    assert answer.device == {"local": "local", "ssh": "ssh:pi@board"}[name]
    assert answer.result["latency"] == RESULT["latency"]
    assert words.read_text().split()[1:] == ["--threads", "4", "--runs", "30", "--seconds", "1.5", "--minutes", "2"]
    assert not any(scratch.iterdir())


@pytest.mark.parametrize(
    ("before", "code", "reason"),
    [
        ("kill -9 $$", 0, "onnx on local: the system killed it: it may lack memory"),
        ("echo 'model.onnx is cut short' >&2", 2, "onnx on local: model.onnx is cut short"),
        ("echo 'libonnxruntime.so: cannot open' >&2", 127, "it does not start there .*: build apps/runner for that"),
        ("echo 'trouble' >&2", 9, r"it ended with 9 \(trouble\)"),
        ("echo '{'", 0, "local gave no valid result"),
    ],
    ids=["killed", "wrong", "does not start", "otherwise", "garbage"],
)
def test_a_program_that_fails_is_one_sentence(
    before: str, code: int, reason: str, folder: Path, scratch: Path, tmp_path: Path
) -> None:
    (error,) = ask(folder, Here(), built(tmp_path / "built", before, code))
    with pytest.raises(ClaimError, match=reason):
        raise error if isinstance(error, EdgevitError) else AssertionError(error)
    assert not any(scratch.iterdir())


def test_parity_that_does_not_hold_is_an_answer_all_the_same(folder: Path, scratch: Path, tmp_path: Path) -> None:
    parity = {"sqnr_db": 3.0, "min_sqnr_db": 22.0, "top1_matches": True, "holds": False}
    (answer,) = ask(folder, Here(), built(tmp_path / "built", code=1, result=RESULT | {"parity": parity}))
    assert isinstance(answer, Answer)
    assert answer.failure is not None


@pytest.mark.usefixtures("_ssh", "scratch")
@pytest.mark.parametrize(
    ("host", "kind", "reason"),
    [
        ("gone", MissingError, r"ssh:gone cannot be reached \(.*Connection refused\): try ssh gone true"),
        ("full", InputError, "ssh:full: the device is full: free space on it"),
        ("torn", ClaimError, "ssh:torn: .* did not arrive whole .*: try again"),
        ("closed", MissingError, r"ssh:closed cannot be reached \(This account is currently not available.\)"),
    ],
)
def test_a_host_that_fails_is_one_sentence(
    host: str, kind: type[Exception], reason: str, folder: Path, scratch: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=reason):
        ask(folder, Ssh(host), built(tmp_path / "built"))
    assert not any(scratch.iterdir())


@pytest.mark.usefixtures("_ssh")
def test_a_program_may_end_as_ssh_does_where_it_cannot_reach_a_host(
    folder: Path, scratch: Path, tmp_path: Path
) -> None:
    (error,) = ask(folder, Ssh("pi@board"), built(tmp_path / "built", "echo trouble >&2", 255))
    assert str(error) == "onnx on ssh:pi@board: it ended with 255 (trouble)"
    assert not any(scratch.iterdir())


@pytest.mark.usefixtures("_ssh")
@pytest.mark.parametrize("name", ["local", "ssh"])
def test_a_program_that_hangs_is_ended(
    name: str, folder: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Order, "patience", 2.0)
    number = tmp_path / "number"
    app = built(tmp_path / "built", f"echo $$ > {number}; exec sleep 300")
    (error,) = ask(folder, Here() if name == "local" else Ssh("pi@board"), app)
    assert isinstance(error, ClaimError)
    assert str(error).endswith("no result came in 2 s: ask for fewer --runs")
    assert not any(scratch.iterdir())
    process = Path(f"/proc/{number.read_text().strip()}/stat")
    assert not process.exists() or process.read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_was_not_built_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no bin/edgevit-runner-onnx or bin/edgevit-runner-executorch: build"):
        ask(folder, Here(), tmp_path)


def test_the_processor_of_a_program_is_read(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF\x02\x01" + bytes(12) + bytes([183, 0]) + bytes(44))
    assert machine_of(program) == "aarch64"
    program.write_text("#!/bin/sh\n")
    assert machine_of(program) is None
    assert machine_of(tmp_path / "absent") is None


def test_a_program_of_another_processor_needs_its_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF\x02\x01" + bytes(12) + bytes([183, 0]) + bytes(44))
    monkeypatch.setattr(here.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(here.shutil, "which", lambda name: None)
    with pytest.raises(MissingError, match="program is for aarch64: run it there, or install qemu-user-static"):
        here.emulator(str(program))
    monkeypatch.setattr(here.shutil, "which", lambda name: f"/bin/{name}")
    assert here.emulator(str(program)) == ["/bin/qemu-aarch64-static"]
    monkeypatch.setattr(here.platform, "machine", lambda: "aarch64")
    assert here.emulator(str(program)) == []


class Told:
    """A place that only tells properties."""

    name = "adb:1"
    scratch = "/data/local/tmp"

    def __init__(self, properties: Mapping[str, str] | None) -> None:
        self.properties = properties

    def run(self, words: Any, seconds: float | None = None) -> Any:
        if self.properties is None:
            return Ran(127, "", "getprop: not found")
        return Ran(0, self.properties.get(words[1], "") + "\n", "")

    def push(self, folder: Path, to: str) -> Any:
        raise AssertionError


PIXEL = {
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8",
    "ro.build.version.release": "15",
    "ro.soc.model": "Tensor G3",
    "ro.hardware": "shiba",
}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (None, None),
        ({}, None),
        (PIXEL, {"name": "Google Pixel 8", "os": "Android 15", "soc": "Tensor G3", "emulated": None}),
        (PIXEL | {"ro.boot.qemu": "1"}, "Android emulator"),
        (PIXEL | {"ro.hardware": "ranchu", "ro.soc.model": ""}, "Android emulator"),
    ],
)
def test_what_android_says_of_itself(properties: Mapping[str, str] | None, expected: Any) -> None:
    found = runner.android_of(Told(properties))
    assert (found and found["emulated"] if isinstance(expected, str) else found) == expected


@pytest.mark.parametrize("spec", ["", "fridge", "ssh", "ssh:", "local:1", "web:", "runner", "android", "ios:", ":x"])
def test_what_names_no_device_is_said(spec: str) -> None:
    with pytest.raises(InputError, match="is no device: take local, ssh:USER@HOST, adb:SERIAL"):
        named.device(spec)


def test_a_host_is_no_option_of_sshs() -> None:
    with pytest.raises(InputError, match="names no host"):
        Ssh("-oProxyCommand=x")


def test_the_app_is_named_where_it_is_needed_and_nowhere_else(folder: Path, tmp_path: Path) -> None:
    def ask_for(spec: str, app: Path | None) -> None:
        named.bench([folder], spec, (), app, None, Order(), silent)

    with pytest.raises(InputError, match="local runs the runner app: name its folder with --app"):
        ask_for("local", None)
    with pytest.raises(InputError, match="the app on android:1 is installed there: leave --app out"):
        ask_for("android:1", tmp_path)
    with pytest.raises(InputError, match="this export has no coreml: export it with --target coreml"):
        named.bench([folder], "ios:1", ("coreml",), None, None, Order(), silent)
    with pytest.raises(InputError, match="the web app runs no executorch: choose from onnx"):
        named.bench([folder], "web", ("executorch",), tmp_path, None, Order(), silent)


@pytest.mark.usefixtures("scratch")
def test_answers_and_failures_are_given_by_export(folder: Path, tmp_path: Path) -> None:
    app = built(tmp_path / "built")
    ((at, answers, failures),) = named.bench([folder], "local", (), app, None, Order(), silent)
    assert (at, len(answers), failures) == (folder, 1, [])
    assert len(list((folder / "devices").iterdir())) == 1
    assert named.described([(at, answers, failures)])[str(folder)]["results"][0]["kind"] == "computer"
