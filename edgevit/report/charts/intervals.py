"""A line a number: its name and value in words, and below them a dot on a scale, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgevit.report.charts.axis import Axis
from edgevit.report.charts.svg import LETTER, dot, drawing, group, line, ring, shortened, text

WIDTH, ROW, BOTTOM = 340, 38, 42  # pixels; as wide as a phone shows without scrolling
LEFT, RIGHT, SIZE = 12, WIDTH - 16, 12
LETTERS = int((RIGHT - LEFT) / (LETTER * SIZE))  # in a line


@dataclass(frozen=True)
class Line:
    """``low`` and ``high`` are the ends of the bar behind the dot; ``mark`` is a stroke across it, ``other`` a ring."""

    label: str
    words: str
    value: float
    low: float | None = None
    high: float | None = None
    mark: float | None = None
    other: float | None = None
    role: str = "accent"

    def numbers(self) -> list[float]:
        found = (self.value, self.low, self.high, self.mark, self.other)
        return [number for number in found if number is not None]


def chart(title: str, lines: Sequence[Line], axis: Axis, reference: float | None = None) -> str:
    """An SVG; ``reference`` is a number that every line is seen against."""
    parts: list[str] = []
    for index, entry in enumerate(lines):
        parts.append(drawn(entry, ROW * index, axis, reference))
    return drawing(WIDTH, ROW * len(lines) + BOTTOM, title, [*parts, *scale(axis, ROW * len(lines) + 4)])


def drawn(entry: Line, top: float, axis: Axis, reference: float | None) -> str:
    def at(value: float) -> float:
        return axis.at(value, LEFT, RIGHT)

    y = top + 27
    room = LETTERS - len(entry.words) - 2
    parts = [
        text(LEFT, top + 14, shortened(entry.label, room), size=SIZE),
        text(RIGHT, top + 14, entry.words, anchor="end", size=SIZE, role="muted"),
        line(LEFT, y, RIGHT, y, role="rule"),
    ]
    if reference is not None:
        parts.append(line(at(reference), y - 7, at(reference), y + 7, role="muted"))
    if entry.low is not None and entry.high is not None:
        parts.append(line(at(entry.low), y, at(entry.high), y, role=entry.role, width=3))
    if entry.mark is not None:
        parts.append(line(at(entry.mark), y - 6, at(entry.mark), y + 6, role="second", width=2))
    if entry.other is not None:
        parts.append(ring(at(entry.other), y, 4, role="muted"))
    parts.append(dot(at(entry.value), y, 4, role=entry.role))
    return group(f"{entry.label}: {entry.words}", parts)


def scale(axis: Axis, top: float) -> list[str]:
    """The axis: ticks with their numbers, and below them its name."""
    parts = [line(LEFT, top, RIGHT, top)]
    for tick in axis.ticks:
        x = axis.at(tick, LEFT, RIGHT)
        parts += [line(x, top, x, top + 4), text(round(x, 1), top + 16, f"{tick:g}", "middle", 11, "muted")]
    return [*parts, text((LEFT + RIGHT) / 2, top + 31, axis.name, "middle", 11, "muted")]
