"""What a report is made from: folders that ``edgevit export`` or ``edgevit calibrate`` wrote, opened and named."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevit import artifact
from edgevit.bundle.contract import check_result
from edgevit.errors import ClaimError, InputError
from edgevit.images import printable
from edgevit.report.record import Record

MENDS = {
    artifact.MANIFEST: "export again",
    artifact.DESCRIPTION: "calibrate again",
    artifact.SENSITIVITY: "calibrate again",
    artifact.BENCH: "measure again",
}
SCHEMAS = {
    artifact.MANIFEST: artifact.SCHEMA,
    artifact.DESCRIPTION: artifact.CALIBRATION_SCHEMA,
    artifact.BENCH: artifact.BENCH_SCHEMA,
}


@dataclass(frozen=True)
class Source:
    """An export or a calibration; ``label`` tells it from the others of a report."""

    folder: Path
    label: str
    exported: bool
    record: Record  # manifest.json or calibration.json
    sensitivity: Record | None
    bench: Record | None
    devices: tuple[Record, ...]  # what each said of an export

    def targets(self) -> Iterator[tuple[str, Record]]:
        return self.record.items("targets") if self.exported else iter(())

    def latencies(self) -> dict[str, Record]:
        """Of the targets that were timed."""
        return dict(self.record.items("latency")) if self.exported else {}

    def links(self) -> list[Record]:
        """Of the parity chain, and of each artifact with the original."""
        return self.record.record("parity").records("links")


def distinct(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The folders, each once and resolved; and those that were named again, as they were named."""
    kept: list[Path] = []
    again: list[Path] = []
    for folder in folders:
        if folder.resolve() in kept:
            again.append(folder)
        else:
            kept.append(folder.resolve())
    return kept, again


def check_outside(out: Path, folders: Sequence[Path]) -> None:
    """Raise InputError if a page at ``out`` would lie in one of these: an export that holds more is not verified."""
    for folder in folders:
        if out.resolve().is_relative_to(folder):
            raise InputError(f"{out} lies in {folder}, which has to stay as it was written: choose another --out")


def opened(folders: Sequence[Path]) -> list[Source]:
    """Open distinct folders. Raises InputError if one is neither, or holds what is damaged or of another schema."""
    return [open_one(folder, label) for folder, label in zip(folders, labels(folders), strict=True)]


def open_one(folder: Path, label: str) -> Source:
    exported = (folder / artifact.MANIFEST).is_file()
    if not exported and not (folder / artifact.DESCRIPTION).is_file():
        raise InputError(
            f"{folder} holds no {artifact.MANIFEST} and no {artifact.DESCRIPTION}: "
            "name folders that edgevit export or edgevit calibrate wrote"
        )
    calibration = folder / artifact.CALIBRATION if exported else folder
    return Source(
        folder,
        label,
        exported,
        read_named(folder / (artifact.MANIFEST if exported else artifact.DESCRIPTION)),
        read_if_there(calibration / artifact.SENSITIVITY),
        read_if_there(folder / artifact.BENCH) if exported else None,
        tuple(map(read_device, sorted((folder / artifact.DEVICES).glob("*.json")))) if exported else (),
    )


def read_device(path: Path) -> Record:
    record = read(path, "measure again", artifact.DEVICE_SCHEMA)
    check_result(record.get("result"), path)
    return record


def read_if_there(path: Path) -> Record | None:
    return read_named(path) if path.is_file() else None


def read_named(path: Path) -> Record:
    return read(path, MENDS[path.name], SCHEMAS.get(path.name))


def read(path: Path, mend: str, schema: int | None) -> Record:
    try:
        value = artifact.read_json(path)
    except (ClaimError, RecursionError):
        raise InputError(f"{path} is damaged: {mend}") from None
    record = Record(value, path, mend)
    if schema is not None and value.get("schema") != schema:
        raise InputError(f"{path} is not of schema {schema}: read it with the edgevit that wrote it")
    return record


def labels(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, and as many before it as it takes to tell them apart."""
    return [printable(shortest(folder, [other for other in folders if other != folder])) for folder in folders]


def shortest(folder: Path, others: Sequence[Path]) -> str:
    parts = folder.parts
    for count in range(1, len(parts)):
        if not any(other.parts[-count:] == parts[-count:] for other in others):
            return "/".join(parts[-count:])
    return str(folder)
