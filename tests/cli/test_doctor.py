"""``edgevit doctor`` on this host, and its exit code where something is broken."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from convert.target import TARGETS
from edgevit import doctor
from tests.cli.conftest import Edgevit

HEAVY = {"torch", "numpy", "onnx", "onnxruntime", "openvino"}


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], set[str], Path]:
    """What the real command prints of this host, what it imported itself, and its home folder."""
    home = tmp_path_factory.mktemp("home")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edgevit", "doctor", "--json"],
        env=os.environ | {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"]) == (0, [])
    return found, imported, home


def test_this_host_is_well(looked: tuple[dict[str, Any], set[str], Path]) -> None:
    found, _, _ = looked
    assert [target["name"] for target in found["targets"]] == list(TARGETS)
    for target in found["targets"]:
        assert (target["installed"], target["package"]) == (
            TARGETS[target["name"]].installed,
            TARGETS[target["name"]].package,
        )
        assert target["exports"] == target["installed"]
        assert target["error"] is None
        assert target["version"] == (version(target["package"]) if target["installed"] else None)
    named = {package["name"]: package for package in found["packages"]}
    for name in ("torch", "numpy", "onnxruntime"):
        assert (named[name]["version"], named[name]["target"]) == (version(name), None)
    assert named["torch"]["known_good"] == ">=2.13,<2.14"
    assert not named.keys() & {"pytest", "ruff", "edgevit"}
    assert found["python"]["version"] == platform.python_version()
    assert found["host"]["cores"] == os.cpu_count()
    assert all(found["bundled"].values())


def test_it_stays_light_and_leaves_nothing_at_home(looked: tuple[dict[str, Any], set[str], Path]) -> None:
    _, imported, home = looked
    assert "edgevit.doctor" in imported
    assert not imported & HEAVY
    assert list(home.rglob("*")) == []


def test_help_is_lighter_still() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edgevit", "doctor", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines()}
    assert "edgevit.cli.main" in imported
    assert not imported & {*HEAVY, "edgevit.doctor", "rich"}


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> doctor.Health:
    """What is found by any doctor from now on; the targets are not imported."""
    monkeypatch.setattr(doctor, "import_errors", lambda modules: {})
    found = doctor.examine()
    assert found.problems() == []
    return found


def find(monkeypatch: pytest.MonkeyPatch, found: doctor.Health) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: found)


def test_a_person_reads_the_same(health: doctor.Health, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch) -> None:
    find(monkeypatch, health)
    ended = edgevit("doctor")
    assert (ended.code, ended.err) == (0, "")
    for word in ("everything installed is well", *TARGETS, *(package.name for package in health.packages)):
        assert word in ended.out
    assert json.loads(edgevit("doctor", "--json").out) == health.manifest()


@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_broken_is_the_exit_code_and_a_sentence(
    as_json: bool, health: doctor.Health, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *rest = health.targets
    broken = replace(health, targets=[replace(first, error="Segmentation fault", exports=False), *rest])
    find(monkeypatch, broken)
    ended = edgevit("doctor", *(["--json"] if as_json else []))
    (problem,) = broken.problems()
    assert (ended.code, ended.err) == (1, f"edgevit: {problem}\n")
    if as_json:
        assert json.loads(ended.out)["problems"] == [problem]
    else:
        assert "problem: target onnx is installed but cannot be imported (Segmentation fault)" in ended.out
    torch = [replace(p, version="2.12.0", in_range=False) if p.name == "torch" else p for p in health.packages]
    find(monkeypatch, replace(broken, packages=torch))
    ended = edgevit("doctor", *(["--json"] if as_json else []))
    assert ended.code == 1
    assert ended.err.startswith("edgevit: torch 2.12.0 is outside >=2.13,<2.14, the versions known to work: ")
    assert ended.err.endswith("'torch>=2.13,<2.14' (and 1 more)\n")


def test_edgevit_that_is_not_installed(edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NAME", "no-such-edgevit")
    ended = edgevit("doctor")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == (
        "edgevit: no-such-edgevit is not installed here as a package: run pip install . in its folder\n"
    )


@pytest.mark.parametrize("arguments", [["onnx"], ["--fix"]])
def test_wrong_command_lines(arguments: list[str], edgevit: Edgevit) -> None:
    ended = edgevit("doctor", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
