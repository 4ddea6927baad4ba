"""What came of each artifact, in a line; and what it costs in accuracy beside what it takes in time."""

from collections import defaultdict
from collections.abc import Sequence

from edgevit.report import cells
from edgevit.report.cells import joined
from edgevit.report.charts import scatter
from edgevit.report.charts.axis import Axis, axis
from edgevit.report.charts.scatter import Point
from edgevit.report.document import Cell, Column, Figure, Group, Row, Section, Table
from edgevit.report.hosts import Host, host_of, hosts
from edgevit.report.record import Record
from edgevit.report.sections import chain
from edgevit.report.sources import Source

COLUMNS = ("top-1, %", "same", "SQNR,\ndB", "INT8", "times as fast\n(95 %)", "MB")
NOTE = (
    "original → artifact; same: equal top-1; INT8: operators of those asked; times as fast as the float twin in the "
    "same run"
)
RUNS = (
    "Every export was timed in a run of its own. Between exports compare how many times as fast as its twin each is; "
    "compare milliseconds only roughly, and only within one of these plots."
)


def section(sources: Sequence[Source]) -> Section | None:
    exports = [source for source in sources if source.exported]
    if not exports:
        return None
    groups = tuple(Group(source.label, tuple(rows(source))) for source in exports)
    table = Table("results", "Results", "target", tuple(map(Column, COLUMNS)), groups, NOTE)
    figures = plots(sources)
    text = (RUNS,) if figures and len(exports) > 1 else ()
    return Section("results", "Results", text, (table,), (figures,) if figures else ())


def rows(source: Source) -> list[Row]:
    timed = source.latencies()
    return [Row(name, result(source, name, target, timed.get(name))) for name, target in source.targets()]


def result(source: Source, name: str, target: Record, latency: Record | None) -> tuple[Cell, ...]:
    link, census = chain.whole(source, name), target.record("census")
    same, sqnr = cells.nothing("top1_agreement"), cells.nothing("sqnr_db")
    if link is not None:
        same, sqnr = cells.number(link, "top1_agreement", ".1%"), cells.number(link, "sqnr_db", ".1f")
    return (
        top1(link),
        same,
        sqnr,
        delivered(census),
        cells.nothing("speedup", "speedup_ci95") if latency is None else cells.ratio(latency, "speedup"),
        cells.megabytes(target, "bytes"),
    )


def top1(link: Record | None) -> Cell:
    """Before and after; nothing where there are no labels."""
    if link is None or not link.has("top1_to"):
        return cells.nothing("top1_from", "top1_to")
    before, after = cells.number(link, "top1_from", ".1f"), cells.number(link, "top1_to", ".1f")
    return joined(before, after, text=f"{before.text} → {after.text}")


def delivered(census: Record) -> Cell:
    asked, done = cells.whole(census, "int8_asked"), cells.whole(census, "int8_delivered")
    if asked.text == "0":
        return joined(asked, done, text=cells.NOTHING)
    return joined(asked, done, text=f"{done.text} of {asked.text}", broken=done.text != asked.text)


def plots(sources: Sequence[Source]) -> tuple[Figure, ...]:
    """Latency against SQNR, a plot for each runtime on each host: milliseconds of others do not compare."""
    several = hosts(sources)
    panels: defaultdict[tuple[str, str, int, Host], list[Point]] = defaultdict(list)
    for source in sources:
        host, timed = host_of(source.record.record("environment")), source.latencies()
        for name, target in source.targets():
            link = chain.whole(source, name)
            if name in timed and link is not None:
                version = target.text("tool_version") if target.has("tool_version") else ""
                runtime = (name, version, timed[name].whole("threads"), host)
                panels[runtime].append(point(source, timed[name], link))
    heights = axis("SQNR, dB: higher is better", [point.y for points in panels.values() for point in points] or [0])
    return tuple(
        Figure(
            f"{name} {version}, {threads} thread{'' if threads == 1 else 's'}"
            + (f", host {several.index(host) + 1}" if len(several) > 1 else ""),
            plot(f"Latency against SQNR of {len(points)} artifacts for {name}", points, heights),
        )
        for (name, version, threads, host), points in panels.items()
    )


def point(source: Source, latency: Record, link: Record) -> Point:
    p50, p90, sqnr = latency.number("p50_ms"), latency.number("p90_ms"), link.number("sqnr_db")
    return Point(source.label, p50, sqnr, p90, f"p50 {p50:.2f} ms, p90 {p90:.2f} ms, {sqnr:.1f} dB")


def plot(title: str, points: Sequence[Point], y: Axis) -> str:
    x = axis("p50, with a line to p90, ms", [0, *(point.far for point in points)])
    return scatter.chart(title, points, x, y)
