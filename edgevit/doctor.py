"""What is installed here, whether it is known to work together, and what this host can export, run and verify.

The versions known to work are those of edgevit's own metadata: there is no second table. Nothing heavy is imported
here: each target is imported in a process of its own, so that a native library that crashes is a line of the answer.
"""

import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from convert import registry
from edgevit.artifact import nearest_existing
from edgevit.bench import local
from edgevit.errors import MissingError
from edgevit.models.download import default_cache

NAME = "edgevit"
ASSETS = {"weights": ".safetensors", "images": ".npz"}
IMPORT = "import importlib, sys; importlib.import_module(sys.argv[1])"
PATIENCE = 60.0  # seconds until an import counts as hanging: torch from a cold disk takes long


@dataclass(frozen=True)
class Package:
    """A distribution that edgevit asks for, or Python itself."""

    name: str
    version: str | None  # None if it is not installed
    known_good: str  # versions, as pip takes them; empty for any
    in_range: bool
    target: str | None  # the one that needs it; None if edgevit cannot do without


@dataclass(frozen=True)
class TargetState:
    """What a target can do on this host."""

    name: str
    package: str  # of its runtime
    version: str | None
    known_good: str | None  # None if edgevit's metadata says nothing of the package
    installed: bool
    error: str | None  # why it cannot be imported although it is installed
    exports: bool
    runs: bool
    verified_by: str | None  # "runtime", or its reference "evaluator"
    install: str  # the command


@dataclass(frozen=True)
class Health:
    """All of it; ``manifest`` is what ``--json`` prints."""

    edgevit: str
    python: Package
    host: dict[str, Any]  # os, cpu, cores, memory_mb (10^6 bytes), int8_flags (None where the system does not tell)
    packages: list[Package]
    targets: list[TargetState]
    cache: dict[str, Any]  # path, writable
    bundled: dict[str, list[str]]  # weights and images, by file name

    def problems(self) -> list[str]:
        """A sentence with its mend for everything installed that is not well."""
        installed = {target.name for target in self.targets if target.installed}
        needed = [package for package in self.packages if package.target is None or package.target in installed]
        sentences = [python_problem(self.python), *map(package_problem, needed), *map(target_problem, self.targets)]
        missing = [kind for kind, files in self.bundled.items() if not files]
        sentences += [f"the bundled {kind} are missing: {install(None, '--force-reinstall')}" for kind in missing]
        return [sentence for sentence in sentences if sentence is not None]

    def manifest(self) -> dict[str, Any]:
        return asdict(self) | {"problems": self.problems()}


def examine() -> Health:
    """Look at this host. Raises MissingError unless edgevit is installed: its metadata states the ranges."""
    own, known = installed(), registry.TARGETS.values()
    needs = [need for need in map(Requirement, own.requires or []) if need.name != NAME]
    names = (None, *(entry.name for entry in known))
    packages = [package(need, target) for target in names for need in needs if asked(need, target)]
    present = [entry for entry in known if entry.installed or local.installed_version(entry.package)]
    errors = import_errors([entry.module for entry in present])
    return Health(
        edgevit=own.version,
        python=python(own.metadata["Requires-Python"]),
        host=host(),
        packages=packages,
        targets=[state(entry, packages, entry in present, errors.get(entry.module)) for entry in known],
        cache={"path": str(default_cache()), "writable": writable(default_cache())},
        bundled={kind: bundled(suffix) for kind, suffix in ASSETS.items()},
    )


def installed() -> metadata.Distribution:
    """edgevit as an installer left it: beside its source may lie the .egg-info of an older build, without METADATA."""
    found = next((one for one in metadata.distributions(name=NAME) if one.read_text("METADATA") is not None), None)
    if found is None:
        raise MissingError(f"{NAME} is not installed here as a package: run pip install . in its folder")
    return found


def asked(need: Requirement, target: str | None) -> bool:
    """Whether ``need`` is of the target's extra, or of the base for None."""
    base, extra = (need.marker is None or need.marker.evaluate({"extra": name}) for name in ("", target or ""))
    return extra and (target is None or not base)


def package(need: Requirement, target: str | None) -> Package:
    version = local.installed_version(need.name)
    return Package(need.name, version, spelled(need.specifier), within(version, need.specifier), target)


def python(stated: str) -> Package:
    version, known_good = platform.python_version(), SpecifierSet(stated)
    return Package("python", version, spelled(known_good), within(version, known_good), None)


def within(version: str | None, stated: SpecifierSet) -> bool:
    """A pre-release counts by its number."""
    return version is not None and stated.contains(version, prereleases=True)


def spelled(stated: SpecifierSet) -> str:
    """The lower end first: the set itself sorts ``<`` before ``>``."""
    return ",".join(sorted(map(str, stated), reverse=True))


def state(entry: registry.Entry, packages: Sequence[Package], present: bool, error: str | None) -> TargetState:
    named = canonicalize_name(entry.package)
    found = next((p for p in packages if canonicalize_name(p.name) == named and p.target in (None, entry.name)), None)
    exports = present and error is None
    runs = exports and (not entry.needs_macos or sys.platform == "darwin")
    return TargetState(
        name=entry.name,
        package=entry.package,
        version=local.installed_version(entry.package),
        known_good=found.known_good if found else None,
        installed=present,
        error=error,
        exports=exports,
        runs=runs,
        verified_by="runtime" if runs else "evaluator" if exports else None,
        install=install(None if found and found.target is None else entry.name),
    )


def install(extra: str | None, *options: str) -> str:
    """The command that installs edgevit, with an extra if one is named."""
    return " ".join(["pip install", *options, f"'{NAME}[{extra}]'" if extra else NAME])


def python_problem(python: Package) -> str | None:
    if python.in_range:
        return None
    return f"Python {python.version} is outside {python.known_good}, the versions known to work: install {NAME} in one"


def package_problem(package: Package) -> str | None:
    mend = f"pip install '{package.name}{package.known_good}'"
    if package.version is None:
        return f"{package.name} is not installed: {mend}"
    if package.in_range:
        return None
    return f"{package.name} {package.version} is outside {package.known_good}, the versions known to work: {mend}"


def target_problem(target: TargetState) -> str | None:
    if target.error is not None:
        mend = target.install.replace("pip install", "pip install --force-reinstall")
        return f"target {target.name} is installed but cannot be imported ({target.error}): {mend}"
    if target.installed and target.known_good is None:
        return f"the metadata of {NAME} does not name {target.package}, so no range is known: install {NAME} again"
    return None


def import_errors(modules: Sequence[str]) -> dict[str, str]:
    """Why they cannot be imported, for those that cannot. All are tried at once."""
    until = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        started = {module: stack.enter_context(importing(module)) for module in modules}
        errors = {module: import_error(process, until) for module, process in started.items()}
    return {module: error for module, error in errors.items() if error is not None}


@contextmanager
def importing(module: str) -> Iterator[subprocess.Popen[str]]:
    """A process that imports ``module``, with nothing from the working folder; it ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", IMPORT, module],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def import_error(process: subprocess.Popen[str], until: float) -> str | None:
    """The last line of what went wrong, or None; waits until the moment ``until`` of the monotonic clock."""
    try:
        _, err = process.communicate(timeout=max(0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return f"it did not end within {PATIENCE:.0f} s"
    if process.returncode < 0:
        return str(signal.strsignal(-process.returncode))
    if process.returncode > 0:
        return (err.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    return None


def host() -> dict[str, Any]:
    described = dict(local.describe_host([]))
    return {key: described[key] for key in ("os", "cpu", "cores", "memory_mb", "int8_flags")}


def writable(folder: Path) -> bool:
    """Whether files can be put there; the folder itself need not exist yet."""
    try:
        tempfile.TemporaryFile(dir=nearest_existing(folder)).close()
    except OSError:
        return False
    return True


def bundled(suffix: str) -> list[str]:
    """Names of the files of a kind that came with edgevit."""
    folder = resources.files(NAME) / "assets"
    return sorted(file.name for file in folder.iterdir() if file.name.endswith(suffix)) if folder.is_dir() else []
