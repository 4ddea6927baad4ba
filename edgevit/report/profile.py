"""Where the time of artifacts goes, as ``edgevit.pipeline.profile`` states it: tables, and a chart in an SVG file."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgevit.report.charts.svg import drawing, group, rectangle, shortened, text

SHOWN = 15  # rows of the table of operators
DRAWN = 25  # of the chart

WIDTH, ROW, TOP, BLOCK, BOTTOM = 900, 20, 60, 36, 16  # pixels
BARS = (330, 690)  # from where to where
FIGURES = 884  # right end of the numbers
LETTERS = 42  # of a name
ROLES = {"int8": "accent", "float": "second"}
OTHER, AT_PEAK = "muted", "ink"


def profile_report(manifest: Mapping[str, Any]) -> RenderableType:
    """Each target: three times and a bound, its kinds of operators, its costliest operators, in 80 columns."""
    parts: list[RenderableType] = []
    for name, profile in manifest["targets"].items():
        parts += [Text(f"\n{line}" if index == 0 else line) for index, line in enumerate(sentences(name, profile))]
        parts += [kind_table(profile), operator_table(profile)]
    parts += [Text(f"failed: {failure}", style="red") for failure in manifest["failures"]]
    return Group(*parts)


def sentences(name: str, profile: Mapping[str, Any]) -> list[str]:
    """What a run takes, what its operators do, and what the arithmetic would."""
    latency, profiled, bound = (profile[part] for part in ("latency", "profiled", "bound"))
    threads = f"{profile['threads']} thread{'s' if profile['threads'] > 1 else ''}"
    unsteady = "" if profile["steady"] else "; this host was not steady meanwhile"
    work = " and ".join(
        f"{macs / 1e6:.1f} M multiply-accumulates in {precision} at {bound['peaks'][precision]['gmacs']:.0f} G/s"
        for precision, macs in bound["macs"].items()
    )
    own = f", less {profiled['taken_off_ms']:.2f} ms that the profiler adds" if profiled["taken_off_ms"] else ""
    return [
        f"{name}, {threads}: {latency['p50_ms']:.2f} ms, p50 of {latency['runs']} runs{unsteady}",
        f"Operators: {profiled['operators_ms']:.2f} ms in all, {profiled['operators_of_latency']:.2f} of that{own}; "
        f"a profiled run takes {profiled['p50_ms']:.2f} ms. {profiled['clock']}.",
        f"Arithmetic: {bound['ms']:.2f} ms at the measured peak, {bound['of_latency']:.2f} of that: {work}, "
        f"{bound['of_model_macs']:.0%} of the model's.",
    ]


def kind_table(profile: Mapping[str, Any]) -> Table:
    peaks = profile["bound"]["peaks"]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("kind", overflow="fold")
    table.add_column("in", no_wrap=True)
    for column in ("operators", "µs", "share", "M MACs", "at peak, µs"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in profile["kinds"]:
        work = (f"{row['macs'] / 1e6:.1f}", f"{at_peak(row, peaks):.0f}") if row["macs"] else ("", "")
        table.add_row(Text(row["kind"]), row["precision"], str(row["operators"]), *cost(row), *work)
    return table


def operator_table(profile: Mapping[str, Any]) -> RenderableType:
    operators = profile["operators"]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("operator", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("in", no_wrap=True)
    for column in ("µs", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in operators[:SHOWN]:
        table.add_row(Text(label(row)), Text(row["kind"]), row["precision"], *cost(row))
    rest = operators[SHOWN:]
    if not rest:
        return table
    return Group(table, Text(f"{len(rest)} more take {sum(row['us'] for row in rest):.0f} µs: --json has them"))


def label(operator: Mapping[str, Any]) -> str:
    """Where no module is near, what the runtime calls it."""
    return str(operator["name"] or operator["node"])


def described(operator: Mapping[str, Any]) -> str:
    """A module's name says what it is; of what stands before or after one, the kind does."""
    words = label(operator)
    return f"{operator['kind']} {words}" if " " in words else words


def cost(row: Mapping[str, Any]) -> tuple[str, str]:
    return f"{row['us']:.1f}", f"{row['share']:.1%}"


def at_peak(row: Mapping[str, Any], peaks: Mapping[str, Mapping[str, float]]) -> float:
    """Microseconds that its multiplications would take at the measured peak."""
    return row["macs"] / peaks[row["precision"]]["gmacs"] / 1e3 if row["macs"] else 0.0


def svg(manifest: Mapping[str, Any]) -> str:
    """Target by target, a bar for every kind and for the costliest operators, its arithmetic at the peak inside."""
    parts: list[str] = []
    top = 0
    for name, profile in manifest["targets"].items():
        export, runs = manifest["export"], profile["latency"]
        title = f"{export['model']} {export['quant']}, {name}: {runs['p50_ms']:.2f} ms"
        parts += [text(16, top + 26, title, size=16), text(16, top + 46, summary(profile))]
        top += TOP
        for title, rows in (("by kind", profile["kinds"]), ("the costliest operators", profile["operators"][:DRAWN])):
            parts += block(title, rows, profile["bound"]["peaks"], top)
            top += BLOCK + ROW * len(rows)
    title = f"Where the time of {manifest['export']['model']} goes"
    return drawing(WIDTH, top + BOTTOM, title, [rectangle(0, 0, WIDTH, top + BOTTOM, "paper"), *parts])


def summary(profile: Mapping[str, Any]) -> str:
    profiled, bound = profile["profiled"], profile["bound"]
    return (
        f"its operators: {profiled['operators_ms']:.2f} ms in all, int8 blue, float orange; "
        f"its arithmetic: {bound['ms']:.2f} ms at the measured peak, black"
    )


def block(
    title: str, rows: Sequence[Mapping[str, Any]], peaks: Mapping[str, Mapping[str, float]], top: int
) -> list[str]:
    """Rows under a title; the bar of the first, which is the costliest, has the whole width."""
    whole = rows[0]["us"]
    parts = [text(16, top + 24, title), text(FIGURES, top + 24, "µs   share", anchor="end")]
    for index, row in enumerate(rows):
        words = row["kind"] if "name" not in row else described(row)
        middle = top + BLOCK + ROW * index + ROW / 2
        said = f"{row['kind']}, {row['precision']}" + (f", {row['node']}" if "node" in row else "")
        pieces = [
            text(16, middle + 4, shortened(words, LETTERS)),
            bar(row["us"] / whole, middle - 6, 12, ROLES.get(row["precision"], OTHER)),
            text(FIGURES, middle + 4, f"{row['us']:.1f} {row['share']:>6.1%}", anchor="end"),
        ]
        if row["macs"]:
            pieces.append(bar(min(1.0, at_peak(row, peaks) / whole), middle - 2, 4, AT_PEAK))
        parts.append(group(said, pieces))
    return parts


def bar(share: float, top: float, height: int, role: str) -> str:
    left, right = BARS
    return rectangle(left, top, share * (right - left), height, role)
