"""What an export leaves on disk: a folder that appears whole or not at all, and the manifest that describes it."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgevit.errors import ClaimError, InputError

MANIFEST, IMAGES = "manifest.json", "images.json"
SCHEMA = 1


def check_destination(out: Path, force: bool) -> None:
    """Raise InputError unless an export may be written to ``out``: before any work is done."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError(f"{out} is not a folder: choose another --out")
    if out.exists() and not force:
        raise InputError(f"{out} exists: choose another --out, or replace it with --force")
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise InputError(f"{out} is not an edgevit export, so --force does not replace it: choose another --out")
    parent = nearest_existing(out.absolute().parent)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{parent} is not a folder that can be written to: choose another --out")


def nearest_existing(path: Path) -> Path:
    return path if path.exists() else nearest_existing(path.parent)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` that takes its place when the block ends, and goes when it fails.

    An export that was at ``out`` stays readable there until then.
    """
    created = missing_parents(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o777 & ~current_umask())
        replace(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in created:
            with_nothing_in_it(parent)
        raise


def missing_parents(out: Path) -> list[Path]:
    """The folders that have to be made for ``out``, innermost first."""
    return [parent for parent in out.absolute().parents if not parent.exists()]


def with_nothing_in_it(folder: Path) -> None:
    """Remove ``folder`` if it is there and empty."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def replace(folder: Path, out: Path) -> None:
    """Rename ``folder`` to ``out``; what was there is moved away first and put back if that fails."""
    if not out.exists():
        folder.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
    out.rename(old / "export")
    try:
        folder.rename(out)
    except BaseException:
        (old / "export").rename(out)
        old.rmdir()
        raise
    shutil.rmtree(old)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_lines(lines: Iterable[str]) -> str:
    """Of the lines, each ended by a newline: how a list of digests gets a digest of its own."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def describe_files(folder: Path) -> dict[str, Any]:
    """``{"bytes", "files": {relative path: sha256}}`` of one target's folder."""
    files = files_in(folder)
    return {
        "bytes": sum(path.stat().st_size for path in files),
        "files": {path.relative_to(folder).as_posix(): sha256_of(path) for path in files},
    }


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises InputError if ``folder`` is no export of this schema, ClaimError if its manifest cannot be parsed."""
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} holds no {MANIFEST}: name a folder that edgevit export wrote")
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise InputError(f"{folder / MANIFEST} is not of schema {SCHEMA}: verify it with the edgevit that wrote it")
    return manifest


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ClaimError(f"{path} cannot be read as JSON ({error}): export again") from None
