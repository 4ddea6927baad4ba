"""Places of a table: a number as a manifest has it, beside the words for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgevit.report.document import Cell
from edgevit.report.record import Record

MB = 1e6
NOTHING = "-"


def words(key: str, text: str) -> Cell:
    return Cell({key: text}, text)


def nothing(*keys: str) -> Cell:
    """Where there is no number: a dash, and null under every name that would have one."""
    return Cell(dict.fromkeys(keys), NOTHING)


def number(record: Record, key: str, form: str, unit: str = "") -> Cell:
    value = record.number(key)
    return Cell({key: value}, f"{value:{form}}{unit}")


def whole(record: Record, key: str) -> Cell:
    value = record.whole(key)
    return Cell({key: value}, f"{value:,}")


def megabytes(record: Record, key: str) -> Cell:
    if not record.has(key):
        return nothing(key)
    value = record.whole(key)
    return Cell({key: value}, f"{value / MB:.1f}")


def ratio(record: Record, key: str) -> Cell:
    """With its interval, which is under the same name with ``_ci95``."""
    value, ends = record.number(key), record.interval(f"{key}_ci95")
    return Cell({key: value, f"{key}_ci95": list(ends)}, f"{value:.2f} {interval(ends, '.2f')}")


def interval(ends: Sequence[float], form: str) -> str:
    low, high = ends
    return f"({low:{form}} to {high:{form}})"


def counted(counts: Mapping[str, int]) -> str:
    """Kinds of operators with their numbers, most first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {kind}" for kind, count in ordered) or "none"


def joined(*cells: Cell, text: str, broken: bool = False) -> Cell:
    """Several numbers in one place, under the names of each."""
    data: dict[str, Any] = {}
    for cell in cells:
        data |= cell.data
    return Cell(data, text, broken)
