"""What each quantised operator costs, as ``calibrate.sensitivity`` states it: a table, and a chart in an SVG file."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgevit.report.charts.svg import drawing, group, line, rectangle, shortened, text

SHOWN = 20  # rows of the table; the chart has all

WIDTH, ROW, TOP, BOTTOM = 900, 20, 96, 24  # pixels
BARS = (250, 600)  # from where to where
FIGURES = (740, 884)  # right ends of the two columns of numbers
LETTERS = 32  # of a name: at 12 px a monospaced letter is 7.2 px wide
SIDES = {"alone": "accent", "spared": "second"}  # their colours
HEADINGS = {"alone": "only it quantised", "spared": "only it in float"}


def sensitivity_report(manifest: Mapping[str, Any]) -> RenderableType:
    """The operators that cost most, most first, in 80 columns."""
    operators, whole = manifest["operators"], manifest["quantised"]
    table = Table(
        title=f"\nSensitivity on {manifest['images']} images",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("operator", overflow="fold")
    table.add_column("kind", no_wrap=True)
    for column in ("alone, dB", "same", "spared, dB", "same"):
        table.add_column(column, justify="right", no_wrap=True)
    for operator in operators[:SHOWN]:
        figures = (cell for side in SIDES for cell in cells(operator[side]))
        table.add_row(Text(operator["name"]), operator["kind"], *figures)
    more = f"; {len(operators) - SHOWN} quieter ones in --json" if len(operators) > SHOWN else ""
    sqnr, same = cells(whole)
    return Group(
        table,
        Text(f"alone: only it is quantised; spared: only it is in float; same: equal top-1{more}"),
        Text(f"all {len(operators)} quantised: {sqnr} dB, {same} same"),
    )


def cells(fidelity: Mapping[str, float]) -> tuple[str, str]:
    return f"{fidelity['sqnr_db']:.1f}", f"{fidelity['top1_agreement']:.1%}"


def svg(manifest: Mapping[str, Any]) -> str:
    """A row an operator, most costly first: the noise it adds to the float program, and takes from the quantised one.

    In percent of the noise of the quantised program; a bar to the left is noise that the operator cancels.
    """
    operators, whole = manifest["operators"], noise(manifest["quantised"])
    shares = [
        {"alone": noise(operator["alone"]) / whole, "spared": 1 - noise(operator["spared"]) / whole}
        for operator in operators
    ]
    ends = [0.0, *(share for row in shares for share in row.values())]
    low, high = min(ends), max(ends)
    height = TOP + ROW * len(operators) + BOTTOM
    rows = [
        row(operator, share, TOP + ROW * index, low, high)
        for index, (operator, share) in enumerate(zip(operators, shares, strict=True))
    ]
    title = f"What each of {len(operators)} operators costs"
    paper = rectangle(0, 0, WIDTH, height, "paper")
    return drawing(WIDTH, height, title, [paper, *heading(manifest), *rows, *axis(low, high, height - BOTTOM)])


def noise(fidelity: Mapping[str, float]) -> float:
    """Power, as a fraction of the float logits'."""
    return float(10 ** (-fidelity["sqnr_db"] / 10))


def heading(manifest: Mapping[str, Any]) -> list[str]:
    sqnr, same = cells(manifest["quantised"])
    title = f"Sensitivity of {len(manifest['operators'])} operators on {manifest['images']} images"
    lines = [
        text(16, 26, title, size=16),
        text(
            16,
            48,
            f"all quantised: {sqnr} dB, {same} same; bars: the noise it adds, and takes away in float, in % of all",
        ),
    ]
    for (side, role), right in zip(SIDES.items(), FIGURES, strict=True):
        lines.append(text(right, 72, HEADINGS[side], anchor="end", role=role))
        lines.append(text(right, 88, "dB   same", anchor="end"))
    return lines


def axis(low: float, high: float, bottom: int) -> list[str]:
    """A line at zero, and what the ends of the bars stand for."""
    zero = position(0, low, high)
    ends = [text(round(zero), bottom + 16, "0", anchor="end"), text(BARS[1], bottom + 16, f"{high:.0%}")]
    return [line(zero, TOP, zero, bottom), *ends]


def row(operator: Mapping[str, Any], share: Mapping[str, float], top: int, low: float, high: float) -> str:
    """Its name, a bar for each side, one above the other, and the numbers."""
    middle = top + ROW / 2
    parts = [text(16, middle + 4, shortened(operator["name"], LETTERS))]
    for index, (side, role) in enumerate(SIDES.items()):
        parts.append(bar(share[side], middle - 7 + 7 * index, low, high, role))
        sqnr, same = cells(operator[side])
        parts.append(text(FIGURES[index], middle + 4, f"{sqnr} {same:>6}", anchor="end"))
    return group(f"{operator['name']}, {operator['kind']}", parts)


def bar(share: float, top: float, low: float, high: float, role: str) -> str:
    start, end = sorted((position(0, low, high), position(share, low, high)))
    return rectangle(start, top, end - start, 6, role)


def position(share: float, low: float, high: float) -> float:
    left, right = BARS
    return left + (right - left) * (share - low) / (high - low)
