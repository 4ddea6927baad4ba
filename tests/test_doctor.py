"""What doctor finds on hosts that are made up: distributions with their metadata, and targets that import or do not."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from convert import registry
from convert.registry import Entry
from edgevit import doctor
from edgevit.errors import MissingError

NEEDS = (
    "basepkg>=2,<3",
    'fastrt>=1.5,<1.6; extra == "fast"',
    'edgevit[base]; extra == "fast"',
    'edgevit[fast]; extra == "all"',
    'other; extra == "dev"',
)
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


class Here:
    """A folder at the head of the import path, this process's and that of its children."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def distribution(self, name: str, version: str, *lines: str) -> None:
        """Installs the metadata of a distribution."""
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        text = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines])
        (info / "METADATA").write_text(text + "\n")

    def edgevit(self, *needs: str) -> None:
        lines = ["Requires-Python: >=3.11,<3.12", *(f"Requires-Dist: {need}" for need in needs)]
        self.distribution("edgevit", "9.8.7", *lines)

    def edit(self, change: Callable[[str], str]) -> None:
        """Changes edgevit's metadata."""
        path = self.folder / "edgevit-9.8.7.dist-info" / "METADATA"
        path.write_text(change(path.read_text()))

    def module(self, name: str, source: str = "") -> None:
        (self.folder / f"{name}.py").write_text(source)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Two targets: one whose runtime is the base's, and one in an extra. Nothing of theirs is installed yet."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    known = (
        Entry("base", "target_base", "basepkg", "model.base"),
        Entry("fast", "target_fast", "fastrt", "model.fast"),
    )
    monkeypatch.setattr(registry, "TARGETS", {entry.name: entry for entry in known})
    return Here(folder)


@pytest.fixture
def halfway(here: Here) -> Here:
    """The optional target is not installed."""
    here.edgevit(*NEEDS)
    here.distribution("basepkg", "2.7")
    here.module("basepkg")
    here.module("target_base", "import basepkg")
    here.module("target_fast", "import fastrt")
    return here


@pytest.fixture
def whole(halfway: Here) -> Here:
    """Everything is installed, in its range."""
    halfway.distribution("fastrt", "1.5.1")
    halfway.module("fastrt")
    return halfway


def replace(here: Here, name: str, version: str, new: str) -> None:
    (here.folder / f"{name}-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {new}\n"
    )


@pytest.mark.usefixtures("whole")
def test_a_host_where_all_is_well() -> None:
    health = doctor.examine()
    assert health.problems() == []
    assert health.edgevit == "9.8.7"
    assert health.python == doctor.Package("python", platform.python_version(), ">=3.11,<3.12", True, None)
    assert health.packages == [
        doctor.Package("basepkg", "2.7", ">=2,<3", True, None),
        doctor.Package("fastrt", "1.5.1", ">=1.5,<1.6", True, "fast"),
    ]
    base, fast = health.targets
    assert (base.package, base.version, base.known_good, base.install) == (
        "basepkg",
        "2.7",
        ">=2,<3",
        "pip install edgevit",
    )
    assert (fast.package, fast.version, fast.known_good, fast.install) == (
        "fastrt",
        "1.5.1",
        ">=1.5,<1.6",
        "pip install 'edgevit[fast]'",
    )
    for target in health.targets:
        assert (target.installed, target.error, target.exports, target.runs) == (True, None, True, True)
        assert target.verified_by == "runtime"


@pytest.mark.usefixtures("halfway")
def test_an_optional_target_that_is_missing_is_no_problem() -> None:
    health = doctor.examine()
    assert health.problems() == []
    target = health.targets[1]
    assert (target.installed, target.version, target.error) == (False, None, None)
    assert (target.exports, target.runs, target.verified_by) == (False, False, None)
    assert target.install == "pip install 'edgevit[fast]'"
    assert health.packages[1] == doctor.Package("fastrt", None, ">=1.5,<1.6", False, "fast")


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        (
            "basepkg",
            "2.7",
            "3.0",
            "basepkg 3.0 is outside >=2,<3, the versions known to work: pip install 'basepkg>=2,<3'",
        ),
        (
            "fastrt",
            "1.5.1",
            "1.4.9",
            "fastrt 1.4.9 is outside >=1.5,<1.6, the versions known to work: pip install 'fastrt>=1.5,<1.6'",
        ),
        ("fastrt", "1.5.1", "nightly", "fastrt nightly is outside >=1.5,<1.6, the versions known to work: "),
        ("fastrt", "1.5.1", "1.6.0a1", "fastrt 1.6.0a1 is outside "),
        ("fastrt", "1.5.1", "1.5.2rc1", None),
        ("fastrt", "1.5.1", "1.5.1+cpu", None),
    ],
)
def test_a_version_outside_its_range(name: str, old: str, new: str, problem: str | None, whole: Here) -> None:
    replace(whole, name, old, new)
    health = doctor.examine()
    assert [package.in_range for package in health.packages if package.name == name] == [problem is None]
    assert [package.version for package in health.packages if package.name == name] == [new]
    assert len(health.problems()) == (problem is not None)
    assert all(sentence.startswith(str(problem)) for sentence in health.problems())


def test_a_base_package_that_is_missing_is_a_problem(here: Here) -> None:
    here.edgevit("basepkg>=2,<3", "unheard-of>=1")
    here.distribution("basepkg", "2.7")
    here.module("basepkg")
    here.module("target_base")
    assert doctor.examine().problems() == ["unheard-of is not installed: pip install 'unheard-of>=1'"]


def test_half_an_extra_is_a_problem_once_its_runtime_is_there(halfway: Here) -> None:
    halfway.edit(lambda text: text + 'Requires-Dist: helper>=1; extra == "fast"\n')
    assert doctor.examine().problems() == []
    halfway.distribution("fastrt", "1.5.1")
    halfway.module("fastrt")
    assert doctor.examine().problems() == ["helper is not installed: pip install 'helper>=1'"]


def test_requirements_of_other_systems_do_not_count(whole: Here) -> None:
    needs = f'elsewhere>=1; sys_platform == "amiga"\nRequires-Dist: here; sys_platform == "{sys.platform}"'
    whole.edit(lambda text: f"{text}Requires-Dist: {needs}\n")
    assert [package.name for package in doctor.examine().packages] == ["basepkg", "here", "fastrt"]


def test_the_range_of_a_runtime_is_that_of_its_own_extra(whole: Here) -> None:
    whole.edit(lambda text: text + 'Requires-Dist: fastrt>=1; extra == "base"\n')
    health = doctor.examine()
    assert [package.known_good for package in health.packages] == [">=2,<3", ">=1", ">=1.5,<1.6"]
    assert health.targets[1].known_good == ">=1.5,<1.6"


def test_another_distribution_of_the_runtime_is_not_the_one_that_is_known_to_work(whole: Here) -> None:
    (whole.folder / "fastrt-1.5.1.dist-info").rename(whole.folder / "fastrt_gpu-1.5.1.dist-info")
    replace(whole, "fastrt_gpu", "1.5.1", "1.5.1")
    health = doctor.examine()
    assert health.problems() == ["fastrt is not installed: pip install 'fastrt>=1.5,<1.6'"]
    assert health.targets[1].installed


def test_a_python_outside_the_range(whole: Here) -> None:
    whole.edit(lambda text: text.replace(">=3.11,<3.12", ">=3.4,<3.5"))
    health = doctor.examine()
    assert not health.python.in_range
    version = platform.python_version()
    assert health.problems() == [
        f"Python {version} is outside >=3.4,<3.5, the versions known to work: install edgevit in one"
    ]


def test_metadata_that_is_older_than_the_target(whole: Here) -> None:
    whole.edit(lambda text: text.replace("fastrt", "another"))
    health = doctor.examine()
    assert health.targets[1].known_good is None
    assert health.problems() == [
        "another is not installed: pip install 'another>=1.5,<1.6'",
        "the metadata of edgevit does not name fastrt, so no range is known: install edgevit again",
    ]


def test_an_older_build_beside_the_source_is_passed_over(
    whole: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "edgevit.egg-info").mkdir(parents=True)
    (source / "edgevit.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: edgevit\nVersion: 9.8.6\n")
    monkeypatch.syspath_prepend(source)
    assert importlib.metadata.version("edgevit") == "9.8.6"
    health = doctor.examine()
    assert health.edgevit == "9.8.7"
    assert [package.name for package in health.packages] == ["basepkg", "fastrt"]


def test_edgevit_that_is_not_installed(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NAME", "no-such-edgevit")
    with pytest.raises(MissingError, match="no-such-edgevit is not installed here as a package: run pip install"):
        doctor.examine()


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (
            "import sys; print('noise', file=sys.stderr); import no_such_lib",
            "ModuleNotFoundError: No module named 'no_such_lib'",
        ),
        ("raise ImportError('libx.so: cannot open\\n  ')", "ImportError: libx.so: cannot open"),
        ("import sys; print('wrong CPU', file=sys.stderr); sys.exit(3)", "wrong CPU"),
        ("import os; os._exit(4)", "exit code 4"),
        (KILL, "Segmentation fault"),
        ("import time; time.sleep(60)", "it did not end within 2 s"),
    ],
)
def test_a_target_that_cannot_be_imported_is_a_line(
    source: str, error: str, whole: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 2.0)
    whole.module("target_fast", source)
    started = time.monotonic()
    health = doctor.examine()
    assert time.monotonic() - started < 10
    base, fast = health.targets
    assert base.exports
    assert fast.error == error
    assert (fast.installed, fast.exports, fast.runs, fast.verified_by) == (True, False, False, None)
    assert health.problems() == [
        f"target fast is installed but cannot be imported ({error}): pip install --force-reinstall 'edgevit[fast]'"
    ]


def test_a_distribution_whose_package_is_gone(whole: Here) -> None:
    (whole.folder / "fastrt.py").unlink()
    target = doctor.examine().targets[1]
    assert target.installed
    assert target.error == "ModuleNotFoundError: No module named 'fastrt'"


def test_the_working_folder_is_not_imported_from(whole: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('from the working folder')")
    whole.module("target_fast", "import json")
    monkeypatch.chdir(tmp_path)
    assert doctor.examine().problems() == []


def test_a_chatty_import_does_not_block_and_is_not_heard(whole: Here, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("target_base", "target_fast"):
        whole.module(name, "import sys; sys.stderr.write('x' * 1_000_000); sys.stdout.write('x' * 1_000_000)")
    assert doctor.examine().problems() == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("interrupted", [True, False])
def test_no_process_outlives_the_look(
    interrupted: bool, whole: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    note = f"import os, pathlib; pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))"
    whole.module("target_fast", f"{note}\nimport time; time.sleep(60)")
    wait = doctor.import_error

    def once_it_runs(process: subprocess.Popen[str], until: float) -> str | None:
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.01)
        if interrupted:
            raise KeyboardInterrupt
        return wait(process, time.monotonic() + 0.1)

    monkeypatch.setattr(doctor, "import_error", once_it_runs)
    started = time.monotonic()
    try:
        assert doctor.examine().targets[1].error == "it did not end within 60 s"
    except KeyboardInterrupt:
        assert interrupted
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(("system", "runs"), [("linux", False), ("darwin", True)])
def test_core_ml_runs_on_macos_and_is_verified_anywhere(
    system: str, runs: bool, whole: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Entry("coreml", "target_fast", "fastrt", "model.fast", needs_macos=True)
    whole.edit(lambda text: text.replace('"fast"', '"coreml"'))
    monkeypatch.setattr(registry, "TARGETS", {"coreml": known})
    monkeypatch.setattr(sys, "platform", system)
    (target,) = doctor.examine().targets
    assert (target.exports, target.runs) == (True, runs)
    assert target.verified_by == ("runtime" if runs else "evaluator")
    whole.module("target_fast", KILL)
    (target,) = doctor.examine().targets
    assert (target.exports, target.runs, target.verified_by) == (False, False, None)


def test_the_cache_is_tried_and_left_as_it_was(whole: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.examine().cache == {"path": str(tmp_path / "cache"), "writable": True}
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.iterdir())
    for path, writable in ((tmp_path / "a" / "b", True), (tmp_path / "file", False), (tmp_path / "file" / "x", False)):
        monkeypatch.setenv("EDGEVIT_CACHE", str(path))
        health = doctor.examine()
        assert health.cache == {"path": str(path), "writable": writable}
        assert health.problems() == []
    monkeypatch.chdir(tmp_path)
    assert doctor.writable(Path("relative") / "cache")
    assert not doctor.writable(Path("/proc/edgevit"))
    assert sorted(tmp_path.iterdir()) == before


def make_assets(folder: Path, *names: str) -> Path:
    (folder / "assets").mkdir(parents=True)
    for name in names:
        (folder / "assets" / name).touch()
    return folder


@pytest.mark.parametrize(
    ("make", "missing"),
    [
        (lambda folder: folder, ["weights", "images"]),
        (lambda folder: make_assets(folder, "m0.md"), ["weights", "images"]),
        (lambda folder: make_assets(folder, "m0.safetensors"), ["images"]),
        (lambda folder: make_assets(folder, "m0.safetensors", "set.npz"), []),
    ],
)
def test_what_should_have_come_with_edgevit(
    make: Callable[[Path], Path], missing: list[str], whole: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "package")
    monkeypatch.setattr(doctor.resources, "files", lambda package: {"edgevit": folder}[package])
    health = doctor.examine()
    assert [kind for kind, files in health.bundled.items() if not files] == missing
    assert health.problems() == [
        f"the bundled {kind} are missing: pip install --force-reinstall edgevit" for kind in missing
    ]
    if not missing:
        assert health.bundled == {"weights": ["m0.safetensors"], "images": ["set.npz"]}


@pytest.mark.usefixtures("halfway")
def test_the_manifest_has_every_fact_and_fits_json() -> None:
    health = doctor.examine()
    manifest = json.loads(json.dumps(health.manifest(), allow_nan=False))
    assert manifest["packages"][0] == {
        "name": "basepkg",
        "version": "2.7",
        "known_good": ">=2,<3",
        "in_range": True,
        "target": None,
    }
    assert manifest["targets"][1]["install"] == "pip install 'edgevit[fast]'"
    assert manifest["host"].keys() == {"os", "cpu", "cores", "memory_mb", "int8_flags"}
    assert manifest["problems"] == []
