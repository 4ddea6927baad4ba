"""Drawings: words inside and apart, every mark where its number is."""

from itertools import combinations
from xml.etree import ElementTree

import pytest

from edgevit.report.charts import intervals, scatter
from edgevit.report.charts.axis import Axis, axis
from edgevit.report.charts.intervals import Line
from edgevit.report.charts.scatter import Point
from edgevit.report.charts.svg import ROLES, shortened
from tests.report.test_sensitivity import SVG

Box = tuple[str, float, float, float, float]


def boxes(chart: ElementTree.Element) -> list[Box]:
    """Words, left, right, top and bottom of every text; a monospaced letter is 0.6 of its height wide."""
    found = []
    for text in chart.iter(f"{SVG}text"):
        size, words, x = float(text.attrib["font-size"]), "".join(text.itertext()), float(text.attrib["x"])
        width = 0.6 * size * len(words)
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[text.attrib["text-anchor"]]
        y = float(text.attrib["y"])
        found.append((words, left, left + width, y - 0.8 * size, y + 0.2 * size))
    return found


def check_words(chart: ElementTree.Element) -> list[Box]:
    found = boxes(chart)
    width, height = float(chart.attrib["width"]), float(chart.attrib["height"])
    for words, left, right, top, bottom in found:
        assert left >= 0, words
        assert right <= width, words
        assert top >= 0, words
        assert bottom <= height, words
    for one, other in combinations(found, 2):
        across = one[1] < other[2] and other[1] < one[2]
        assert not (across and one[3] < other[4] and other[3] < one[4]), (one[0], other[0])
    return found


def dots(chart: ElementTree.Element) -> list[tuple[float, float]]:
    return [
        (float(circle.attrib["cx"]), float(circle.attrib["cy"]))
        for circle in chart.iter(f"{SVG}circle")
        if circle.attrib["class"] in ROLES
    ]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 10.71], (0, 5, 10, 15)),
        ([1, 2.04], (1, 1.5, 2, 2.5)),
        ([-4.3, 2.3], (-6, -4, -2, 0, 2, 4)),
        ([18.8, 40.8], (15, 20, 25, 30, 35, 40, 45)),
        ([0, 1e15], (0, 2e14, 4e14, 6e14, 8e14, 1e15)),
        ([5], (4.4, 4.6, 4.8, 5, 5.2, 5.4, 5.6)),
        ([0, 0], (-0.1, -0.05, 0, 0.05, 0.1)),
    ],
)
def test_an_axis_begins_and_ends_at_round_numbers_around_all(values: list[float], ticks: tuple[float, ...]) -> None:
    found = axis("ms", values).ticks
    assert found[0] <= min(values)
    assert max(values) <= found[-1]
    assert found == pytest.approx(ticks)


def test_numbers_that_differ_by_rounding_alone_have_an_axis() -> None:
    scale = axis("ms", [1e15, 1e15 + 0.125])
    assert scale.at(1e15, 0, 100) == pytest.approx(50, abs=10)


def test_marks_are_where_their_numbers_are() -> None:
    lines = [Line("onnx", "1.50", 1.5, low=1.25, high=1.75, mark=1.0, other=2.0)]
    chart = ElementTree.fromstring(intervals.chart("title", lines, Axis("times", (1.0, 1.5, 2.0)), reference=1.0))
    middle = (intervals.LEFT + intervals.RIGHT) / 2
    quarter = (intervals.RIGHT - intervals.LEFT) / 4
    assert [x for x, _ in dots(chart)] == [middle]
    (bar,) = (line for line in chart.iter(f"{SVG}line") if line.attrib["stroke-width"] == "3")
    assert (float(bar.attrib["x1"]), float(bar.attrib["x2"])) == (middle - quarter, middle + quarter)
    (mark,) = (line for line in chart.iter(f"{SVG}line") if line.attrib["class"] == "second-line")
    assert float(mark.attrib["x1"]) == float(mark.attrib["x2"]) == intervals.LEFT
    (ring,) = (circle for circle in chart.iter(f"{SVG}circle") if "paper" in circle.attrib["class"])
    assert float(ring.attrib["cx"]) == intervals.RIGHT
    assert chart.attrib["aria-label"] == "title"


def test_lines_with_long_names_have_their_words_apart() -> None:
    lines = [Line("a_target_of_a_very_long_name, float & more", "0.5 (-10.25 to 12.75)", 0.5, -10.25, 12.75)] * 5
    found = check_words(ElementTree.fromstring(intervals.chart("t", lines, axis("points", [-10.25, 12.75]))))
    assert len(found) == 2 * 5 + 7 + 1


def crowd(count: int) -> list[Point]:
    """Ever more dots in one corner, each beside the last."""
    return [Point(f"folder_{index}/model", 1 + 0.02 * index, 30 + 0.05 * index, 1.3, "x") for index in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_names_beside_dots_do_not_meet(count: int) -> None:
    points = crowd(count)
    x, y = axis("ms", [0, 10]), axis("dB", [20, 40])
    chart = ElementTree.fromstring(scatter.chart("title", points, x, y))
    check_words(chart)
    assert len(dots(chart)) == count
    assert dots(chart)[0] == (
        pytest.approx(x.at(1, scatter.LEFT, scatter.RIGHT), abs=0.05),
        pytest.approx(y.at(30, scatter.BOTTOM, scatter.TOP), abs=0.05),
    )
    named = [words for words, *_ in boxes(chart) if words.startswith("folder_")]
    assert len(named) >= min(count, 5)
    counted = [words for words, *_ in boxes(chart) if words.endswith(" without a name")]
    assert counted == ([f"{count - len(named)} without a name"] if len(named) < count else [])
    titles = [title.text for title in chart.iter(f"{SVG}title")]
    assert titles == [f"{point.label}: x" for point in points]


def test_words_are_escaped() -> None:
    for drawn in (
        intervals.chart("<t>&\"'", [Line("<b>&\"'", "<i>", 1)], axis("<a>", [0, 1])),
        scatter.chart("<t>&\"'", [Point("<b>&\"'", 0.5, 0.5, 0.5, "<i>")], axis("<a>", [0, 1]), axis("<y>", [0, 1])),
    ):
        chart = ElementTree.fromstring(drawn)
        assert chart.attrib["aria-label"] == "<t>&\"'"
        assert "<b>&\"'" in [words for words, *_ in boxes(chart)]


def test_a_short_name_is_of_the_asked_length() -> None:
    for letters in (5, 8, 24):
        assert len(shortened("abcdefghij" * 4, letters)) == letters
        assert shortened("abc", letters) == "abc"
