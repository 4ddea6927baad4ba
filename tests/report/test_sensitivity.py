"""A table in 80 columns, and a chart whose words and bars lie inside it and apart."""

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from edgevit.report.charts.svg import shortened
from edgevit.report.sensitivity import (
    BARS,
    HEADINGS,
    LETTERS,
    ROW,
    SHOWN,
    SIDES,
    WIDTH,
    sensitivity_report,
    svg,
)
from tests.report.test_terminal import shown

SVG = "{http://www.w3.org/2000/svg}"
LONG = "blocks.11.a_module_whose_name_goes_on_and_on.mlp.<fc1>&\"'.residual"


def fidelity(sqnr_db: float, same: float = 1.0) -> dict[str, float]:
    return {"sqnr_db": sqnr_db, "top1_agreement": same}


def operator(name: str, alone: float, spared: float, kind: str = "convolution") -> dict[str, Any]:
    return {"name": name, "kind": kind, "alone": fidelity(alone, 0.875), "spared": fidelity(spared, 0.75), "noise": 0.1}


@pytest.fixture
def manifest() -> dict[str, Any]:
    return {
        "images": 64,
        "quantised": fidelity(20.0, 0.9),
        "operators": [operator(LONG, 20.0, 23.0103), operator("head", 30.0, 19.586), operator("quiet", 200.0, 20.0)],
    }


def boxes(chart: ElementTree.Element) -> Iterator[tuple[str, float, float, float, float]]:
    """Words, left, right, top and bottom of every text; a monospaced letter is 0.6 of its height wide."""
    for text in chart.iter(f"{SVG}text"):
        size, words, x = float(text.attrib["font-size"]), "".join(text.itertext()), float(text.attrib["x"])
        width = 0.6 * size * len(words)
        left = x - width if text.attrib["text-anchor"] == "end" else x
        y = float(text.attrib["y"])
        yield words, left, left + width, y - 0.8 * size, y + 0.2 * size


def bars(chart: ElementTree.Element) -> list[dict[str, float]]:
    fields = ("x", "y", "width", "height")
    return [
        {field: float(bar.attrib[field]) for field in fields}
        | {"side": list(SIDES.values()).index(bar.attrib["class"])}
        for bar in chart.iter(f"{SVG}rect")
        if bar.attrib["class"] in SIDES.values()
    ]


def test_every_number_fits_80_columns(manifest: dict[str, Any]) -> None:
    printed = shown(sensitivity_report(manifest))
    assert max(map(len, printed.splitlines())) <= 80
    assert "".join(printed.split()).count("convolution20.087.5%23.075.0%") == 1
    assert "head" in printed
    assert "all 3 quantised: 20.0 dB, 90.0% same" in printed
    assert "…" not in printed


def test_the_table_keeps_the_order_and_says_what_it_leaves_out(manifest: dict[str, Any]) -> None:
    manifest["operators"] = [operator(f"blocks.{index}.fc", 30.0, 20.0) for index in range(SHOWN + 5)]
    printed = shown(sensitivity_report(manifest))
    places = [printed.index(f"blocks.{index}.fc ") for index in range(SHOWN)]
    assert places == sorted(places)
    assert f"blocks.{SHOWN}.fc" not in printed
    assert "5 quieter ones in --json" in " ".join(printed.split())


@pytest.mark.parametrize("count", [1, 3, 64])
def test_words_lie_inside_the_chart_and_apart(manifest: dict[str, Any], count: int) -> None:
    manifest["operators"] = (manifest["operators"] * count)[:count]
    chart = ElementTree.fromstring(svg(manifest))
    height = float(chart.attrib["height"])
    found = list(boxes(chart))
    assert len(found) == 2 + 4 + 3 * count + 2
    for words, left, right, top, bottom in found:
        assert left >= 8, words
        assert right <= WIDTH - 8, words
        assert top >= 4, words
        assert bottom <= height - 4, words
    for index, (words, left, right, top, bottom) in enumerate(found):
        for other, other_left, other_right, other_top, other_bottom in found[index + 1 :]:
            apart = right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
            assert apart, (words, other)
    for bar in bars(chart):
        assert BARS[0] <= bar["x"]
        assert bar["x"] + bar["width"] <= BARS[1] + 0.1
        row = (bar["y"] - 96) // ROW
        assert bar["y"] + bar["height"] <= 96 + ROW * (row + 1)
        for words, left, right, top, bottom in found:
            across = right <= bar["x"] or bar["x"] + bar["width"] <= left
            assert across or bottom <= bar["y"] or bar["y"] + bar["height"] <= top, words


def test_bars_are_shares_of_the_noise(manifest: dict[str, Any]) -> None:
    """100 % and 50 % of it; 10 %, and minus 10 % for one that cancels; none."""
    found = bars(ElementTree.fromstring(svg(manifest)))
    assert [bar["side"] for bar in found] == [0, 1] * 3
    whole = (BARS[1] - BARS[0]) / 1.1
    zero = BARS[0] + 0.1 * whole
    expected = [(zero, 1.0), (zero, 0.5), (zero, 0.1), (BARS[0], 0.1), (zero, 0.0), (zero, 0.0)]
    assert [(bar["x"], bar["width"] / whole) for bar in found] == [
        (pytest.approx(x, abs=0.1), pytest.approx(share, abs=1e-3)) for x, share in expected
    ]


def test_the_chart_is_whole_by_itself_and_its_words_are_escaped(manifest: dict[str, Any]) -> None:
    written = svg(manifest)
    chart = ElementTree.fromstring(written)
    assert {element.tag.removeprefix(SVG) for element in chart.iter()} == {"svg", "g", "rect", "line", "text", "title"}
    assert "href" not in written
    assert "url(" not in written
    assert written.count("http") == 1  # the namespace
    titles = [title.text for title in chart.iter(f"{SVG}title")]
    assert titles == [f"{LONG}, convolution", "head, convolution", "quiet, convolution"]
    assert set(HEADINGS.values()) <= {words for words, *_ in boxes(chart)}


def test_a_long_name_keeps_both_ends() -> None:
    assert shortened("a" * LETTERS, LETTERS) == "a" * LETTERS
    short = shortened(LONG, LETTERS)
    assert len(short) == LETTERS
    assert short.startswith("blocks.11.a_mod")
    assert short.endswith("'.residual")
