"""Two numbers of each thing against each other, with its name beside its dot."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import hypot

from edgevit.report.charts.axis import Axis
from edgevit.report.charts.svg import LETTER, dot, drawing, group, line, shortened, text

WIDTH, HEIGHT = 340, 300  # pixels; as wide as a phone shows without scrolling
LEFT, RIGHT, TOP, BOTTOM = 48, WIDTH - 14, 26, HEIGHT - 44
SIZE, LETTERS, RADIUS = 11, 24, 4.5
AROUND = (  # where a name may be: to the right, to the left, above, below, and between these
    *((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)),
    *((0.5, -1), (-0.5, -1), (0.5, 1), (-0.5, 1)),
)
DISTANCES = (9, 18, 30, 45, 60, 75, 90, 120, 150)
APART = 3  # free on either side of a name
NEAR = 16  # a name that is no farther from its dot needs no line to it


@dataclass(frozen=True)
class Point:
    """``far`` is how far x reaches beyond the dot in some runs."""

    label: str
    x: float
    y: float
    far: float
    words: str


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def inside(self, other: "Box") -> bool:
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom


def chart(title: str, points: Sequence[Point], x: Axis, y: Axis) -> str:
    """An SVG. A name that finds no place is left out and counted: it is still what a pointer is told."""
    places = [(x.at(point.x, LEFT, RIGHT), y.at(point.y, BOTTOM, TOP)) for point in points]
    ends = [x.at(point.far, LEFT, RIGHT) for point in points]
    dots = [
        Box(px - RADIUS - 1, py - RADIUS - 1, max(px, end) + RADIUS, py + RADIUS)
        for (px, py), end in zip(places, ends, strict=True)
    ]
    parts, nameless = grid(x, y), 0
    named: list[Box] = []
    for point, place, end in zip(points, places, ends, strict=True):
        name = shortened(point.label, LETTERS)
        marks = [line(*place, end, place[1], role="accent", width=2), dot(*place, RADIUS, role="accent")]
        if (box := free(place, LETTER * SIZE * len(name) + 2 * APART, dots, named)) is None:
            nameless += 1
        else:
            steps = leader(place, box)
            named += [box, *steps]
            if steps:
                marks.insert(0, line(*place, *nearest(place, box), role="muted", width=0.75))
            marks.append(text(round(box.left + APART, 1), round(box.bottom - 3, 1), name, size=SIZE))
        parts.append(group(f"{point.label}: {point.words}", marks))
    if nameless:
        parts.append(text(RIGHT, TOP - 12, f"{nameless} without a name", "end", SIZE, "muted"))
    return drawing(WIDTH, HEIGHT, title, parts)


def free(place: tuple[float, float], width: float, dots: Sequence[Box], named: Sequence[Box]) -> Box | None:
    """The nearest place for a name of ``width`` that meets no dot, no name and no line to one.

    Nor does the line to it meet a name or a line; where dots crowd, it may cross them.
    """
    bounds = Box(LEFT + 2, TOP - 6, RIGHT + 10, BOTTOM - 2)
    for distance, (right, down) in product(DISTANCES, AROUND):
        middle, y = place[0] + right * (distance + width / 2), place[1] + down * (distance + 2)
        box = Box(middle - width / 2, y - 7, middle + width / 2, y + 7)
        crossed = any(step.meets(other) for step in leader(place, box) for other in named)
        if box.inside(bounds) and not crossed and not any(box.meets(other) for other in (*dots, *named)):
            return box
    return None


def leader(place: tuple[float, float], box: Box) -> list[Box]:
    """What the line from a dot to its name covers; nothing where the name is so near that it needs none."""
    x, y = nearest(place, box)
    length = hypot(x - place[0], y - place[1])
    if length <= NEAR:
        return []
    shares = [at / length for at in range(int(RADIUS) + 4, int(length), 2)]
    centres = [(place[0] + share * (x - place[0]), place[1] + share * (y - place[1])) for share in shares]
    return [Box(cx - 1, cy - 1, cx + 1, cy + 1) for cx, cy in centres]


def nearest(place: tuple[float, float], box: Box) -> tuple[float, float]:
    """The point of ``box`` that is nearest to a dot."""
    return min(max(place[0], box.left), box.right), min(max(place[1], box.top), box.bottom)


def grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = y.at(tick, BOTTOM, TOP)
        parts += [
            line(LEFT, at, RIGHT, at, role="rule"),
            text(LEFT - 6, round(at + 4, 1), f"{tick:g}", "end", SIZE, "muted"),
        ]
    for tick in x.ticks:
        at = x.at(tick, LEFT, RIGHT)
        parts += [
            line(at, BOTTOM, at, BOTTOM + 4),
            text(round(at, 1), BOTTOM + 17, f"{tick:g}", "middle", SIZE, "muted"),
        ]
    return [
        *parts,
        line(LEFT, BOTTOM, RIGHT, BOTTOM),
        text((LEFT + RIGHT) / 2, BOTTOM + 34, x.name, "middle", SIZE, "muted"),
        text(LEFT - 40, TOP - 12, y.name, "start", SIZE, "muted"),
    ]
