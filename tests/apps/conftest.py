"""The runner's programs, built once for all tests, and devices on loopback."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps import board, outside
from tests.apps.adb_daemon import Daemon
from tests.apps.programs import SOURCE, Built, arm64, build, emulated_root, site_packages


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("native"), lambda _: site_packages(), "-DCMAKE_CXX_FLAGS=-Werror")


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Built:
    outside.program("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    qemu = outside.program("qemu-aarch64-static", "qemu-user-static")
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={SOURCE / 'aarch64-linux-gnu.cmake'}"
    built = build(tmp_path_factory.mktemp("arm64"), arm64, toolchain)
    root = emulated_root(tmp_path_factory.mktemp("root"))
    return Built(built.build, built.installed, (qemu, "-cpu", "cortex-a72", "-L", str(root)))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What adb's environment needs for a server of its own."""
    adb = outside.program("adb", "adb")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    private = {"ANDROID_ADB_SERVER_PORT": str(port), "HOME": str(home), "ADB_VENDOR_KEYS": "", "TMPDIR": str(home)}
    outside.run([adb, "start-server"], env=os.environ | private)
    yield private
    outside.run([adb, "kill-server"], env=os.environ | private)


@pytest.fixture
def phone(tmp_path: Path, server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    for key in ("ANDROID_ADB_SERVER_PORT", "HOME"):
        monkeypatch.setenv(key, server[key])
    daemon = Daemon(tmp_path / "phone")
    yield daemon
    subprocess.run(["adb", "disconnect", daemon.serial], capture_output=True, check=False)
    daemon.vanish()


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[board.Board]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    with board.running(folder) as (found, bin_):
        monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
        yield found
