"""Latency measured again and longer, each artifact alone and beside another export's, as ``edgevit bench`` left it."""

from collections.abc import Callable, Sequence

from edgevit.report import cells
from edgevit.report.charts import intervals
from edgevit.report.charts.axis import axis
from edgevit.report.charts.intervals import Line
from edgevit.report.document import Cell, Column, Figure, Group, Row, Section, Table
from edgevit.report.record import Record
from edgevit.report.sources import Source

PROGRAMS = ("p50,\nms", "p90,\nms", "p99,\nms", "least", "spread", "cold,\nms", "peak,\nMB", "MB", "steady")
PROGRAMS_NOTE = "spread: (p75 - p25) / p50; cold: load and first answer; peak: memory that it adds to its process"
RATIOS = (Column("beside", True), Column("time to the other's (95 %)"), Column("because", True))
RATIOS_NOTE = "less than 1 is faster; a run that was too noisy has no figure to show"
SUSTAINED = (Column("first minute, p50 ms"), Column("last minute, p50 ms"), Column("calls"))
SPEED = (Column("spread"), Column("drift"))
SPEED_NOTE = "a fixed piece of work, timed among the programs"
NOISY = "too noisy"

Benches = Sequence[tuple[str, Record]]


def section(sources: Sequence[Source]) -> Section | None:
    benches = [(source.label, source.bench) for source in sources if source.bench is not None]
    if not benches:
        return None
    tables = (
        Table("bench", "Each artifact", "target", tuple(map(Column, PROGRAMS)), programs(benches), PROGRAMS_NOTE),
        Table("bench_ratios", "Beside another export", "target", RATIOS, ratios(benches), RATIOS_NOTE),
        Table("bench_sustained", "Without pause", "target", SUSTAINED, sustained(benches)),
        Table("bench_host", "The host's own speed", "target", SPEED, host_speeds(benches), SPEED_NOTE),
    )
    text = tuple(f"{label}: {protocol(bench)}." for label, bench in benches)
    return Section("bench", "Timed again", text, tuple(filter(filled, tables)), figures(benches))


def filled(table: Table) -> bool:
    return any(group.rows for group in table.groups)


def protocol(bench: Record) -> str:
    """How and when it was timed, in a line."""
    how = bench.record("protocol")
    words = [bench.text("created"), f"threads: {how.whole('threads')}", f"batch: {how.whole('batch')}"]
    words += [f"at least {how.whole('runs')} runs and {how.number('seconds'):g} s"]
    words += [f"pinned to cores {', '.join(map(str, how.wholes('pinned')))}" if how.has("pinned") else "not pinned"]
    words += [f"then {how.number('minutes'):g} minutes without pause"] if how.has("minutes") else []
    return ", ".join(words)


def programs(benches: Benches) -> tuple[Group, ...]:
    return grouped(benches, lambda bench: [Row(name, program(entry)) for name, entry in bench.items("programs")])


def grouped(benches: Benches, rows: Callable[[Record], list[Row]]) -> tuple[Group, ...]:
    """Of the benches that have such rows."""
    groups = [Group(label, tuple(rows(bench))) for label, bench in benches]
    return tuple(group for group in groups if group.rows)


def program(entry: Record) -> tuple[Cell, ...]:
    steady = entry.truth("steady")
    return (
        *(cells.number(entry, key, ".2f") for key in ("p50_ms", "p90_ms", "p99_ms", "min_ms")),
        cells.number(entry, "spread", ".1%"),
        cells.number(entry, "cold_start_ms", ",.0f"),
        cells.number(entry, "peak_rss_mb", ",.0f") if entry.has("peak_rss_mb") else cells.nothing("peak_rss_mb"),
        cells.megabytes(entry, "bytes"),
        Cell({"steady": steady, "runs": entry.whole("runs")}, "yes" if steady else "no"),
    )


def ratios(benches: Benches) -> tuple[Group, ...]:
    return grouped(
        benches,
        lambda bench: [Row(name, ratio(entry, bench.text("against"))) for name, entry in bench.items("ratios")],
    )


def ratio(entry: Record, against: str) -> tuple[Cell, ...]:
    median, ends, conclusive = entry.number("median"), entry.interval("ci95"), entry.truth("conclusive")
    because = entry.text("because") if entry.has("because") else None
    words = f"{median:.3f} {cells.interval(ends, '.3f')}" if conclusive else NOISY
    return (
        cells.words("against", against),
        Cell({"ratio": median, "ratio_ci95": list(ends), "conclusive": conclusive}, words),
        Cell({"because": because}, because or cells.NOTHING),
    )


def sustained(benches: Benches) -> tuple[Group, ...]:
    def rows(bench: Record) -> list[Row]:
        found = [(name, entry.record("sustained")) for name, entry in bench.items("programs") if entry.has("sustained")]
        return [Row(name, minutes(entry)) for name, entry in found]

    return grouped(benches, rows)


def minutes(entry: Record) -> tuple[Cell, ...]:
    first, last = (cells.number(entry, f"{when}_minute_p50_ms", ".2f") for when in ("first", "last"))
    return first, last, cells.whole(entry, "calls")


def host_speeds(benches: Benches) -> tuple[Group, ...]:
    def rows(bench: Record) -> list[Row]:
        return [
            Row(name, (cells.number(entry, "spread", ".1%"), cells.number(entry, "drift", "+.1%")))
            for name, entry in bench.items("reference")
        ]

    return grouped(benches, rows)


def figures(benches: Benches) -> tuple[tuple[Figure, ...], ...]:
    """Of the ratios that are a conclusion."""
    drawn = []
    for label, bench in benches:
        lines = [ratio_line(name, entry) for name, entry in bench.items("ratios") if entry.truth("conclusive")]
        if lines:
            caption = f"{label}: time to that of {bench.text('against')}"
            numbers = [1, *(number for entry in lines for number in entry.numbers())]
            scale = axis("time to the other's, 95 %: less is faster", numbers)
            drawn.append(Figure(caption, intervals.chart(caption, lines, scale, reference=1)))
    return (tuple(drawn),) if drawn else ()


def ratio_line(name: str, entry: Record) -> Line:
    median, (low, high) = entry.number("median"), entry.interval("ci95")
    return Line(name, f"{median:.3f} {cells.interval((low, high), '.3f')}", median, low, high)
