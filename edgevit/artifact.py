"""What edgevit leaves on disk: folders and pages that appear whole or not at all, and the manifest of an export."""

import hashlib
import json
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgevit.errors import ClaimError, InputError

MANIFEST, IMAGES = "manifest.json", "images.json"
CALIBRATION = "calibration"  # the folder of that which was exported, where it was made before
DESCRIPTION, SENSITIVITY = "calibration.json", "sensitivity.json"  # of a calibration
BENCH = "bench.json"  # of an export that was timed again
DEVICES = "devices"  # the folder of what devices said of an export
SCHEMA, CALIBRATION_SCHEMA, BENCH_SCHEMA, DEVICE_SCHEMA = 1, 1, 1, 1
HEAD = 4096  # bytes of a page, in which its mark is
FULL = 1 << 20  # a disk with fewer free bytes than this counts as full


def check_destination(out: Path, force: bool, kind: str = "export", mark: str = MANIFEST) -> None:
    """Raise InputError unless an export may be written to ``out``: before any work is done.

    Or another ``kind`` of folder: ``mark`` is the file by which one is known, which ``force`` replaces.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError(f"{out} is not a folder: choose another --out")
    if out.exists() and not force:
        raise InputError(f"{out} exists: choose another --out, or replace it with --force")
    if out.exists() and any(out.iterdir()) and not (out / mark).is_file():
        raise InputError(f"{out} is not an edgevit {kind}, so --force does not replace it: choose another --out")
    check_writable(nearest_existing(out.absolute().parent))


def check_page(out: Path, mark: str, force: bool) -> None:
    """Raise InputError unless a page may be written to ``out``.

    ``mark`` is the text by which a page of edgevit's own is known; such a page is replaced without being asked.
    """
    if out.exists() and not out.is_file():
        raise InputError(f"{out} is not a file: choose another --out")
    if out.exists() and not force and not begins_with(out, mark):
        raise InputError(f"{out} was not written by edgevit: choose another --out, or replace it with --force")
    check_writable(nearest_existing(out.absolute().parent))


def begins_with(path: Path, mark: str) -> bool:
    """Whether ``mark`` is among the first bytes of a file."""
    with path.open("rb") as file:
        return mark.encode() in file.read(HEAD)


def write_page(out: Path, text: str) -> None:
    """Write ``out`` whole, and the folders that it lies in; where that fails, what was there stays as it was."""
    out = out.resolve()
    created = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_text(out, text)
    except BaseException:
        for parent in created:
            remove_if_empty(parent)
        raise


def nearest_existing(path: Path) -> Path:
    return path if path.exists() else nearest_existing(path.parent)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` that takes its place when the block ends, and goes when it fails.

    An export that was at ``out`` stays readable there until then. Raises InputError if the block failed because the
    disk is full, whatever the library that met it made of that.
    """
    out = out.resolve()
    created = [parent for parent in out.parents if not parent.exists()]
    folder, old = (out.with_name(f".{out.name}.{kind}-{secrets.token_hex(4)}") for kind in ("partial", "old"))
    try:
        folder.mkdir(parents=True)
        yield folder
        with uninterrupted():
            replace(folder, out, old)
    except BaseException as error:
        full = isinstance(error, Exception) and not isinstance(error, InputError) and full_disk(out.parent)
        with uninterrupted():
            shutil.rmtree(folder, ignore_errors=True)
            for parent in created:
                remove_if_empty(parent)
        if full:
            raise InputError(f"the disk of {full} is full: free space, or choose another --out or TMPDIR") from error
        raise


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block is over. Signals reach the main thread only, so others need no guard."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])


def full_disk(folder: Path) -> Path | None:
    """``folder`` or the folder of temporary files, if the disk that it is on is full."""
    places = [place for place in (folder, Path(tempfile.gettempdir())) if place.exists()]
    return next((place for place in places if shutil.disk_usage(place).free < FULL), None)


def remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def replace(folder: Path, out: Path, old: Path) -> None:
    """Rename ``folder`` to ``out``; what was there waits as ``old`` and is put back if that fails."""
    if not out.exists():
        folder.rename(out)
        return
    out.rename(old)
    try:
        folder.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


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


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    path.write_text(as_json(value), encoding="utf-8")


def replace_json(path: Path, value: Any) -> None:
    """As ``write_json``, but whole or not at all, where there may be such a file already."""
    replace_text(path, as_json(value))


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, where there may be one already."""
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    with uninterrupted():
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def check_writable(folder: Path, mend: str = "choose another --out") -> None:
    """Raise InputError, which names the ``mend``, unless files can be made in ``folder``."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}): {mend}") from None


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises InputError if ``folder`` is no export of this schema, ClaimError if its manifest cannot be parsed."""
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} holds no {MANIFEST}: name a folder that edgevit export wrote")
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise InputError(f"{folder / MANIFEST} is not of schema {SCHEMA}: read it with the edgevit that wrote it")
    return manifest


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ClaimError(f"{path} cannot be read as JSON ({error}): export again") from None
