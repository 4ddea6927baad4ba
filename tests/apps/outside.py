"""What the apps' tests need from outside: programs of the system, and packages that are fetched once into a cache."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgevit-apps"


def program(name: str, package: str) -> str:
    """The path of a program, which Debian's ``package`` has."""
    found = shutil.which(name)
    return found if found is not None else missing(f"{name} is not installed: apt-get install {package}")


def npm(package: str, version: str) -> Path:
    """The folder of a package of npm's, with what it needs beside it; no script of it is run."""

    def install(staged: Path) -> None:
        npm = program("npm", "npm")
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
        run([npm, "install", *options, "--prefix", str(staged), f"{package}@{version}"])

    return fetched(f"npm-{package.replace('/', '-')}-{version}", install) / "node_modules" / package


def fetched(name: str, fetch: Callable[[Path], None]) -> Path:
    """A folder of the cache, which ``fetch`` fills if it is not there: whole or not at all."""
    folder = CACHE / name
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            staged = Path(scratch) / "staged"
            staged.mkdir()
            fetch(staged)
            if not folder.is_dir():  # another process may have been as fast
                staged.rename(folder)
    return folder


def run(command: list[str], **options: Any) -> str:
    """What a command prints. Fails the test, with all that it said, where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def missing(reason: str) -> NoReturn:
    """On CI, which installs everything, nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
