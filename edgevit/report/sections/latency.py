"""How long each artifact takes beside its float twin, timed in blocks that alternate within one run."""

from collections.abc import Sequence

from edgevit.report import cells
from edgevit.report.charts import intervals
from edgevit.report.charts.axis import axis
from edgevit.report.charts.intervals import Line
from edgevit.report.document import Cell, Column, Figure, Group, Row, Section, Table
from edgevit.report.record import Record
from edgevit.report.sources import Source

COLUMNS = ("p50, ms", "p90, ms", "p99, ms", "float twin", "times as fast\n(95 %)")
NOTE = "float twin: p50, p90 and p99 in ms of the same model in float32, timed in the same run"
PRUNED = "an artifact beside itself keeping all tokens, in a run of its own"
PERCENTILES = ("p50_ms", "p90_ms", "p99_ms")


def section(sources: Sequence[Source]) -> Section | None:
    timed = {source.label: source.latencies() for source in sources}
    timed = {label: latencies for label, latencies in timed.items() if latencies}
    if not timed:
        return None
    groups = tuple(
        Group(label, tuple(Row(name, timing(latency)) for name, latency in latencies.items()))
        for label, latencies in timed.items()
    )
    table = Table("latency", "Latency", "target", tuple(map(Column, COLUMNS)), groups, NOTE)
    spreads = tuple(spread_figure(label, latencies) for label, latencies in timed.items())
    return Section("latency", "Latency", (), (table, *pruning_tables(timed)), (spreads, ratio_figures(timed)))


def timing(latency: Record) -> tuple[Cell, ...]:
    twin = [latency.number(f"float_{key}") for key in PERCENTILES]
    data = dict(zip((f"float_{key}" for key in PERCENTILES), twin, strict=True))
    return (
        *(cells.number(latency, key, ".2f") for key in PERCENTILES),
        Cell(data, " · ".join(f"{value:.2f}" for value in twin)),
        cells.ratio(latency, "speedup"),
    )


def spread_figure(label: str, latencies: dict[str, Record]) -> Figure:
    """Each artifact above its twin, from 0 ms; one export a figure, as milliseconds of two runs do not compare."""
    lines = []
    for name, latency in latencies.items():
        for words, prefix, role in ((name, "", "accent"), (f"{name}, float", "float_", "muted")):
            p50, p90, p99 = (latency.number(f"{prefix}{key}") for key in PERCENTILES)
            lines.append(Line(words, f"{p50:.2f} · {p90:.2f} · {p99:.2f}", p50, p50, p99, mark=p90, role=role))
    scale = axis("ms: dot p50, stroke p90, end p99", [0, *(number for entry in lines for number in entry.numbers())])
    return Figure(f"{label}: p50 · p90 · p99, ms", intervals.chart(f"Latency of {label}", lines, scale))


def ratio_figures(timed: dict[str, dict[str, Record]]) -> tuple[Figure, ...]:
    """Times as fast as the twin, on one scale for all exports: a ratio of one run does compare."""
    lines = {
        label: [ratio_line(name, latency, "speedup") for name, latency in latencies.items()]
        for label, latencies in timed.items()
    }
    scale = axis(
        "times as fast as the float twin, 95 %",
        [1, *(number for entries in lines.values() for entry in entries for number in entry.numbers())],
    )
    return tuple(
        Figure(
            f"{label}: times as fast as float",
            intervals.chart(
                f"How many times as fast as their float twins the artifacts of {label} are", entries, scale, 1
            ),
        )
        for label, entries in lines.items()
    )


def ratio_line(name: str, latency: Record, key: str) -> Line:
    low, high = latency.interval(f"{key}_ci95")
    return Line(name, cells.ratio(latency, key).text, latency.number(key), low, high)


def pruning_tables(timed: dict[str, dict[str, Record]]) -> list[Table]:
    """Of models that prune tokens."""
    columns = (Column("unpruned p50, ms"), Column("pruned p50, ms"), Column("times as fast (95 %)"))
    groups = []
    for label, latencies in timed.items():
        rows = [Row(name, pruning(entry)) for name, entry in latencies.items() if entry.has("pruning_speedup")]
        groups += [Group(label, tuple(rows))] if rows else []
    return [Table("pruning", "What pruning tokens gains", "target", columns, tuple(groups), PRUNED)] if groups else []


def pruning(latency: Record) -> tuple[Cell, ...]:
    return (
        cells.number(latency, "unpruned_p50_ms", ".2f"),
        cells.number(latency, "pruned_p50_ms", ".2f"),
        cells.ratio(latency, "pruning_speedup"),
    )
