"""From an export to its report by what a user types: the runner here, behind ssh and adb, and emulated; the web app."""

import json
import shutil
from pathlib import Path

import pytest

from edgevit import artifact
from tests.apps.adb_daemon import connect
from tests.apps.outside import npm, program
from tests.apps.programs import Built
from tests.apps.test_web import RUNTIME
from tests.cli.conftest import Edgevit, edgevit  # noqa: F401 (a fixture)
from tests.conftest import Exported

pytestmark = [pytest.mark.apps, pytest.mark.timeout(1800)]


@pytest.fixture
def folder(exported: Exported, tmp_path: Path) -> Path:
    """A copy of an INT8 export for ONNX Runtime."""
    return Path(shutil.copytree(exported.folder, tmp_path / "m0"))


def kept(folder: Path, name: str) -> dict[str, object]:
    """What the one device called so left in an export."""
    (path,) = (folder / artifact.DEVICES).glob(f"{name}*.json")
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return found


def page_of(folder: Path, edgevit: Edgevit, tmp_path: Path) -> str:  # noqa: F811
    """What ``edgevit report`` writes of an export."""
    page = tmp_path / "report.html"
    ended = edgevit("report", folder, "--out", page)
    assert ended.code == 0, ended.err
    return page.read_text(encoding="utf-8")


def test_the_runner_here(folder: Path, native: Built, edgevit: Edgevit, tmp_path: Path) -> None:  # noqa: F811
    arguments = ("--device", "local", "--app", native.installed, "--runs", 20, "--seconds", 0)
    ended = edgevit("bench", folder, *arguments)
    assert ended.code == 0, ended.err
    found = kept(folder, "local-onnxruntime-CPU-1")
    assert found["kind"] == "computer"
    assert found["result"]["parity"]["sqnr_db"] > 100  # type: ignore[index]
    assert found["result"]["latency"]["runs"] >= 20  # type: ignore[index]
    printed = " ".join(ended.out.split())
    assert "computer local: " in printed
    assert "the same class" in printed
    reported = edgevit("report", folder, "--json", "--out", tmp_path / "page.html")
    assert reported.code == 0, reported.err
    assert '"device_times"' in reported.out
    assert "On devices" in (tmp_path / "page.html").read_text(encoding="utf-8")
    verified = edgevit("verify", folder, "--json")
    layout = {check["claim"]: check["holds"] for check in json.loads(verified.out)}
    assert layout["files of the export"], verified.err


@pytest.mark.parametrize("way", ["ssh", "adb"])
def test_the_runner_behind_ssh_and_adb(
    folder: Path,
    native: Built,
    edgevit: Edgevit,  # noqa: F811
    way: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    device = request.getfixturevalue({"ssh": "pi", "adb": "phone"}[way])
    spec = connect(device) if way == "adb" else device.spec
    ended = edgevit("bench", folder, "--device", spec, "--app", native.installed, "--runs", 20, "--seconds", 0)
    assert ended.code == 0, ended.err
    found = kept(folder, way)
    assert (found["device"], found["kind"]) == (spec, "computer")
    assert found["result"]["parity"]["sqnr_db"] > 100  # type: ignore[index]
    assert found["result"]["latency"]["runs"] >= 20  # type: ignore[index]
    assert spec in page_of(folder, edgevit, tmp_path)
    assert list(device.root.glob("edgevit-*")) == []


def test_the_runner_emulated(
    folder: Path,
    emulated: Built,
    edgevit: Edgevit,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QEMU_CPU", "cortex-a72")
    monkeypatch.setenv("QEMU_LD_PREFIX", emulated.emulator[-1])
    ended = edgevit("bench", folder, "--device", "local", "--app", emulated.installed, "--json")
    assert ended.code == 0, ended.err
    ((result,),) = (found["results"] for found in json.loads(ended.out).values())
    assert (result["kind"], result["result"]["device"]["emulated"]) == ("emulator", "qemu-user")
    assert result["result"]["latency"] is None
    assert kept(folder, "local")["result"] == result["result"]
    assert "emulated: qemu-user" in page_of(folder, edgevit, tmp_path)


def test_the_web_app(folder: Path, edgevit: Edgevit, tmp_path: Path) -> None:  # noqa: F811
    program("chromium", "chromium")
    bundled = edgevit("bundle", folder, "--app", "web", "--out", tmp_path / "web")
    assert bundled.code == 0, bundled.err
    (tmp_path / "web" / "node_modules").symlink_to(npm("onnxruntime-web", RUNTIME).parent)
    ended = edgevit("bench", folder, "--device", "web", "--app", tmp_path / "web", "--runs", 20, "--seconds", 0)
    assert ended.code == 0, ended.err
    found = kept(folder, "web")
    assert found["kind"] == "browser"
    assert found["result"]["app"] == "web"  # type: ignore[index]
    assert found["result"]["runtime"]["delegate"] == "WASM SIMD"  # type: ignore[index]
    assert "browser: " in page_of(folder, edgevit, tmp_path)
