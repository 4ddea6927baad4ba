"""What devices said of an export: where it ran, whether it gives what it gives here, and how fast it is there."""

from collections.abc import Sequence

from edgevit.report import cells
from edgevit.report.document import Cell, Column, Group, Row, Section, Table
from edgevit.report.record import Record
from edgevit.report.sources import Source

COLUMNS = (
    Column("runtime", True),
    Column("threads"),
    Column("parity, dB (least)"),
    Column("p50,\nms"),
    Column("p90,\nms"),
    Column("p99,\nms"),
    Column("load and\nfirst, ms"),
    Column("memory,\nMB"),
    Column("first to last\nminute, ms"),
    Column("where", True),
)
NOTE = "parity: of a reference image, beside what the export's host computed; a time of an emulated processor is none"


def section(sources: Sequence[Source]) -> Section | None:
    groups = [Group(source.label, tuple(map(row, source.devices))) for source in sources if source.devices]
    if not groups:
        return None
    table = Table("devices", "On devices", "device", COLUMNS, tuple(groups), NOTE)
    return Section("devices", "On devices", (), (table,), ())


def row(kept: Record) -> Row:
    """Of a file that ``edgevit bench --device`` left."""
    result = kept.record("result")
    return Row(
        kept.text("device"),
        (
            runtime(result.record("runtime")),
            cells.whole(result, "threads") if result.has("threads") else cells.nothing("threads"),
            parity(result.record("parity")),
            *latencies(result),
            start(result),
            cells.number(result, "memory_mb", ",.0f") if result.has("memory_mb") else cells.nothing("memory_mb"),
            sustained(result),
            where(kept.text("kind"), result.record("device")),
        ),
    )


def runtime(record: Record) -> Cell:
    named = {key: record.text(key) if record.has(key) else None for key in ("name", "version", "delegate")}
    return Cell(named, " ".join(filter(None, named.values())))


def parity(record: Record) -> Cell:
    sqnr, least = record.number("sqnr_db"), record.number("min_sqnr_db")
    holds, same = record.truth("holds"), record.truth("top1_matches")
    data = {"sqnr_db": sqnr, "min_sqnr_db": least, "top1_matches": same, "holds": holds}
    return Cell(data, f"{sqnr:.1f} ({least:.1f})" + ("" if same else ", another class"), broken=not holds)


def latencies(result: Record) -> list[Cell]:
    keys = ("p50_ms", "p90_ms", "p99_ms")
    if not result.has("latency"):
        return [cells.nothing(key) for key in keys]
    return [cells.number(result.record("latency"), key, ".2f") for key in keys]


def start(result: Record) -> Cell:
    keys = ("load_ms", "first_ms")
    if not result.has("start"):
        return cells.nothing(*keys)
    times = {key: result.record("start").number(key) for key in keys}
    return Cell(times, f"{sum(times.values()):,.0f}")


def sustained(result: Record) -> Cell:
    keys = ("first_minute_p50_ms", "last_minute_p50_ms")
    if not result.has("sustained"):
        return cells.nothing(*keys)
    times = {key: result.record("sustained").number(key) for key in keys}
    return Cell(times, " to ".join(f"{value:.2f}" for value in times.values()))


def where(kind: str, device: Record) -> Cell:
    """Its kind first, so that an emulator is not taken for a phone."""
    keys = ("name", "os", "soc", "arch", "emulated")
    told = {key: device.text(key) if device.has(key) else None for key in keys}
    words = [told["name"], told["soc"], told["os"], told["arch"], told["emulated"] and f"emulated: {told['emulated']}"]
    return Cell({"kind": kind, **told, "cores": device.whole("cores")}, f"{kind}: " + ", ".join(filter(None, words)))
