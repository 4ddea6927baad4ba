"""The runner's programs, built once for all tests."""

import pytest

from tests.apps import outside
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
