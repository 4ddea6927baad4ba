"""How large each artifact is, and what it took to make."""

from collections.abc import Sequence

from edgevit.report import cells
from edgevit.report.document import Cell, Column, Group, Row, Section, Table
from edgevit.report.record import Record
from edgevit.report.sources import Source

COLUMNS = ("MB", "float twin,\nMB", "times\nsmaller", "lowering,\ns", "peak memory,\nMB")
WHOLE = "whole export"


def section(sources: Sequence[Source]) -> Section | None:
    exports = [source for source in sources if source.exported]
    if not exports:
        return None
    groups = tuple(Group(source.label, tuple(rows(source))) for source in exports)
    table = Table("sizes", "Sizes and making", "target", tuple(map(Column, COLUMNS)), groups)
    return Section("sizes", "Sizes and making", (), (table,))


def rows(source: Source) -> list[Row]:
    whole = cells.number(source.record, "export_seconds", ",.0f")
    total = (
        *(cells.nothing(key) for key in ("bytes", "float_bytes", "times_smaller")),
        whole,
        cells.nothing("peak_rss_mb"),
    )
    return [*(Row(name, size(target)) for name, target in source.targets()), Row(WHOLE, total)]


def size(target: Record) -> tuple[Cell, ...]:
    return (
        cells.megabytes(target, "bytes"),
        cells.megabytes(target, "float_bytes"),
        smaller(target),
        cells.number(target, "export_seconds", ".1f"),
        cells.whole(target, "peak_rss_mb"),
    )


def smaller(target: Record) -> Cell:
    if not target.has("float_bytes") or target.whole("bytes") <= 0:
        return cells.nothing("times_smaller")
    times = target.whole("float_bytes") / target.whole("bytes")
    return Cell({"times_smaller": times}, f"{times:.1f}")
