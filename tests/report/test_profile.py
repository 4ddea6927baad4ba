"""Tables in 80 columns, and a chart whose words and bars lie inside it and apart."""

import copy
from typing import Any
from xml.etree import ElementTree

import pytest

from edgevit.report.profile import AT_PEAK, BARS, DRAWN, LETTERS, OTHER, ROLES, SHOWN, WIDTH, profile_report, svg
from tests.report.test_sensitivity import SVG, boxes
from tests.report.test_terminal import shown

LONG = "before blocks.11.a_module_whose_name_goes_on_and_on.mlp.<fc1>&\"'.residual"


def operator(name: str, us: float, kind: str = "linear", precision: str = "int8", macs: int = 0) -> dict[str, Any]:
    row = {"name": name, "node": "node_7", "kind": kind, "precision": precision, "us": us, "macs": macs}
    return row | {"share": us / 1000}


@pytest.fixture
def manifest() -> dict[str, Any]:
    operators = [
        operator(LONG, 500.0, "portable native_layer_norm", "float"),
        operator("head", 400.0, macs=20_000_000),
        operator("", 100.0, "broadcast", "i32"),
    ]
    kinds = [{**row, "operators": 1} for row in operators]
    for row in kinds:
        del row["name"], row["node"]
    peaks = {"int8": {"gmacs": 200.0}, "float": {"gmacs": 50.0}}
    profile = {
        "threads": 2,
        "steady": False,
        "latency": {"runs": 100, "p50_ms": 1.25, "p90_ms": 1.5},
        "profiled": {
            "runs": 100,
            "p50_ms": 2.5,
            "operators_ms": 1.0,
            "operators_of_latency": 0.8,
            "taken_off_ms": 0.25,
            "clock": "It counts whole microseconds",
        },
        "bound": {
            "ms": 0.1,
            "of_latency": 0.08,
            "macs": {"int8": 20_000_000},
            "of_model_macs": 0.5,
            "peaks": peaks,
        },
        "kinds": kinds,
        "operators": operators,
        "failures": [],
    }
    return {
        "export": {"folder": "out/m0", "model": "efficientvit_m0", "quant": "int8"},
        "targets": {"onnx": profile, "executorch": copy.deepcopy(profile)},
        "failures": ["executorch: the profile has 0 of the 1 conv in int8"],
    }


def test_says_what_was_measured_and_never_adds_it_up(manifest: dict[str, Any]) -> None:
    printed = shown(profile_report(manifest))
    assert max(map(len, printed.splitlines())) <= 80
    words = " ".join(printed.split())
    assert "onnx, 2 threads: 1.25 ms, p50 of 100 runs; this host was not steady meanwhile" in words
    assert "Operators: 1.00 ms in all, 0.80 of that, less 0.25 ms that the profiler adds; " in words
    assert "a profiled run takes 2.50 ms. It counts whole microseconds." in words
    assert "Arithmetic: 0.10 ms at the measured peak, 0.08 of that: 20.0 M multiply-accumulates in int8 at 200" in words
    assert "50% of the model's." in words
    assert "failed: executorch: the profile has 0 of the 1 conv in int8" in words


def test_an_operator_that_no_module_is_near_has_its_runtimes_name(manifest: dict[str, Any]) -> None:
    line = next(line for line in shown(profile_report(manifest)).splitlines() if "node_7" in line)
    assert line.split() == ["node_7", "broadcast", "i32", "100.0", "10.0%"]


def test_the_table_says_what_it_leaves_out(manifest: dict[str, Any]) -> None:
    (profile,) = (manifest["targets"].pop(name) for name in ("onnx",))
    manifest["targets"]["onnx"] = profile | {"operators": [operator(f"fc{i}", 2.0) for i in range(SHOWN + 5)]}
    del manifest["targets"]["executorch"]
    printed = shown(profile_report(manifest))
    assert f"fc{SHOWN - 1} " in printed
    assert f"fc{SHOWN} " not in printed
    assert "5 more take 10 µs: --json has them" in printed


def test_words_lie_inside_the_chart_and_apart(manifest: dict[str, Any]) -> None:
    many = manifest["targets"]["onnx"]
    many["operators"] = [operator(f"{LONG}{index}", 500.0 - index) for index in range(2 * DRAWN)]
    chart = ElementTree.fromstring(svg(manifest))
    height = float(chart.attrib["height"])
    found = list(boxes(chart))
    assert len(found) == 2 * 2 + 4 * 2 + 2 * (3 + DRAWN + 3 + 3)
    for words, left, right, top, bottom in found:
        assert left >= 8, words
        assert right <= WIDTH - 8, words
        assert top >= 4, words
        assert bottom <= height - 4, words
    for index, (words, left, right, top, bottom) in enumerate(found):
        for other, other_left, other_right, other_top, other_bottom in found[index + 1 :]:
            apart = right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
            assert apart, (words, other)
    for bar in chart.iter(f"{SVG}rect"):
        if bar.attrib["class"] != "paper":
            left = float(bar.attrib["x"])
            assert left >= BARS[0] >= 16 + 7.2 * LETTERS
            assert left + float(bar.attrib["width"]) <= BARS[1]


def test_bars_are_times_and_the_arithmetic_in_them(manifest: dict[str, Any]) -> None:
    del manifest["targets"]["executorch"]
    chart = ElementTree.fromstring(svg(manifest))
    width = BARS[1] - BARS[0]
    kinds = [bar for bar in chart.iter(f"{SVG}rect") if bar.attrib["class"] != "paper"][:4]
    assert [float(bar.attrib["width"]) / width for bar in kinds] == pytest.approx([1, 0.8, 0.2, 0.2], abs=1e-3)
    assert [bar.attrib["class"] for bar in kinds] == [ROLES["float"], ROLES["int8"], AT_PEAK, OTHER]


def test_the_chart_is_whole_by_itself_and_its_words_are_escaped(manifest: dict[str, Any]) -> None:
    written = svg(manifest)
    chart = ElementTree.fromstring(written)
    assert {element.tag.removeprefix(SVG) for element in chart.iter()} == {"svg", "g", "rect", "text", "title"}
    assert written.count("http") == 1  # the namespace
    assert "portable native_layer_norm, float, node_7" in [title.text for title in chart.iter(f"{SVG}title")]
