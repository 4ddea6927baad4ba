"""The runner's programs, as its CMake builds and installs them for this host and for arm64."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.apps import outside

SOURCE = Path(__file__).parents[2] / "apps" / "runner"
HEADERS = ("com.github.asus4.onnxruntime", "0.4.9")  # has those of ONNX Runtime 1.29
HEADERS_FOLDER = "Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers"


@dataclass(frozen=True)
class Built:
    """Where the runner was built and installed, and the words before each command that runs a program of it."""

    build: Path
    installed: Path
    emulator: tuple[str, ...] = ()

    def command(self, runtime: str, *arguments: str | Path) -> list[str]:
        program = self.installed / "bin" / f"edgevit-runner-{runtime}"
        return [*self.emulator, str(program), *map(str, arguments)]

    def run(self, runtime: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        command = self.command(runtime, *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def onnxruntime(folder: Path, library: Path) -> Path:
    """The folder with include/ and lib/ that CMake asks for: headers of one package, the library of another."""
    shutil.copytree(outside.npm(*HEADERS) / HEADERS_FOLDER, folder / "include")
    (folder / "lib").mkdir()
    shutil.copy(library, folder / "lib" / "libonnxruntime.so.1")
    return folder


def site_packages() -> Path:
    return Path(str(importlib.metadata.distribution("onnxruntime").locate_file("")))


def arm64(package: str) -> Path:
    """The arm64 wheel of the version that is installed here, unpacked."""
    version = importlib.metadata.version(package).partition("+")[0]

    def download(staged: Path) -> None:
        platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (27, 28)]
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11", *platforms]
        outside.run([sys.executable, "-m", "pip", "download", *options, "--dest", str(staged), f"{package}=={version}"])
        (wheel,) = staged.glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(staged)
        wheel.unlink()

    return outside.fetched(f"arm64-{package}-{version}", download)


def build(folder: Path, packages: Callable[[str], Path], *options: str) -> Built:
    """``packages`` gives the folder in which a package of PyPI's is installed."""
    cmake = outside.program("cmake", "cmake")
    outside.program("g++", "g++")
    if not Path("/usr/include/nlohmann/json.hpp").exists():
        outside.missing("nlohmann/json.hpp is not installed: apt-get install nlohmann-json3-dev")
    (library,) = packages("onnxruntime").glob("onnxruntime/capi/libonnxruntime.so.*")
    runtimes = {
        "EDGEVIT_ONNXRUNTIME": onnxruntime(folder / "onnxruntime", library),
        "EDGEVIT_EXECUTORCH": packages("executorch") / "executorch",
    }
    definitions = [f"-D{name}={path}" for name, path in runtimes.items()]
    built = Built(folder / "build", folder / "installed")
    outside.run([cmake, "-S", str(SOURCE), "-B", str(built.build), *definitions, *options])
    outside.run([cmake, "--build", str(built.build)])
    outside.run([cmake, "--install", str(built.build), "--prefix", str(built.installed)])
    shutil.rmtree(folder / "onnxruntime")  # what is installed needs nothing of it
    return built


def emulated_root(folder: Path) -> Path:
    """What qemu puts before the host's files: the cross-compiler's libraries, and the processor that it emulates.

    qemu-user 7.2 shows the host's processor, and ONNX Runtime crashes where an arm64 one is an x86-64 one.
    """
    processor = (
        "processor\t: {}\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
    )
    (folder / "proc").mkdir()
    (folder / "proc" / "cpuinfo").write_text("".join(processor.format(n) for n in range(os.cpu_count() or 1)))
    (folder / "lib").symlink_to("/usr/aarch64-linux-gnu/lib")
    return folder
