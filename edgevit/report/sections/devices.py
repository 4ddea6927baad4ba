"""What devices said of an export: where it ran, whether it gives what it gives here, and how fast it is there."""

from collections.abc import Callable, Sequence

from edgevit.report import cells
from edgevit.report.document import Cell, Column, Group, Row, Section, Table
from edgevit.report.record import Record
from edgevit.report.sources import Source

TIMES = (
    "runtime",
    "p50,\nms",
    "p90,\nms",
    "p99,\nms",
    "load and\nfirst, ms",
    "memory,\nMB",
    "first to last\nminute, ms",
)
TIMES_NOTE = "each program by itself; a time of an emulated processor is none"
PARITY = (Column("runtime", True), Column("threads"), Column("parity, dB (least)"))
PARITY_NOTE = "of one reference image, beside what the export's host computed for it"
WHERE = (Column("heat", True), Column("where it ran", True))


def section(sources: Sequence[Source]) -> Section | None:
    if not any(source.devices for source in sources):
        return None
    tables = (
        Table(
            "device_times",
            "Times there",
            "device",
            tuple(Column(name, name == "runtime") for name in TIMES),
            grouped(sources, times),
            TIMES_NOTE,
        ),
        Table("device_parity", "Answers there", "device", PARITY, grouped(sources, answers), PARITY_NOTE),
        Table("device_places", "The devices", "device", WHERE, grouped(sources, places)),
    )
    return Section("devices", "On devices", (), tables, ())


def grouped(sources: Sequence[Source], cells_of: Callable[[Record], tuple[Cell, ...]]) -> tuple[Group, ...]:
    """A row for each file that ``edgevit bench --device`` left."""
    return tuple(
        Group(source.label, tuple(Row(kept.text("device"), cells_of(kept)) for kept in source.devices))
        for source in sources
        if source.devices
    )


def times(kept: Record) -> tuple[Cell, ...]:
    result = kept.record("result")
    memory = cells.number(result, "memory_mb", ",.0f") if result.has("memory_mb") else cells.nothing("memory_mb")
    runs_on = result.record("runtime")
    named = cells.words("runtime", runs_on.text("name")) if runs_on.has("name") else cells.nothing("runtime")
    return (named, *latencies(result), start(result), memory, sustained(result))


def answers(kept: Record) -> tuple[Cell, ...]:
    result = kept.record("result")
    threads = cells.whole(result, "threads") if result.has("threads") else cells.nothing("threads")
    return runtime(result.record("runtime")), threads, parity(result.record("parity"))


def places(kept: Record) -> tuple[Cell, ...]:
    result = kept.record("result")
    return heat(result), where(kept.text("kind"), result.record("device"))


def heat(result: Record) -> Cell:
    """Before it was timed and after, as far as the device tells."""
    if not result.has("thermal"):
        return cells.nothing("heat_before", "heat_after")
    found = [result.record("thermal").record(key) for key in ("before", "after")]
    told = [f"{one.number('celsius'):.1f} °C" if one.has("celsius") else one.text("state") for one in found]
    return Cell({"heat_before": told[0], "heat_after": told[1]}, " to ".join(told))


def runtime(record: Record) -> Cell:
    named = [record.text(key) if record.has(key) else None for key in ("name", "version", "delegate")]
    return Cell(dict(zip(("runtime", "version", "delegate"), named, strict=True)), " ".join(filter(None, named)))


def parity(record: Record) -> Cell:
    sqnr, least = record.number("sqnr_db") if record.has("sqnr_db") else None, record.number("min_sqnr_db")
    holds, same = record.truth("holds"), record.truth("top1_matches")
    data = {"sqnr_db": sqnr, "min_sqnr_db": least, "top1_matches": same, "holds": holds}
    near = "not finite" if sqnr is None else f"{sqnr:.1f} ({least:.1f})" + ("" if same else ", another class")
    return Cell(data, near, broken=not holds)


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
