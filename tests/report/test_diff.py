"""The table of ``edgevit diff`` on 80 columns: the digits that differ are shown."""

import math
from pathlib import Path

import numpy as np
import pytest

from calibrate.program import TensorGrid
from edgevit.report.diff import diff_report, row
from edgevit.verify.comparison import Comparison, Differing
from tests.report.test_terminal import shown

LONG = "blocks3.2.mixer.m.attn.dws.3.c.output"
NEXT = float(np.nextafter(np.float32(0.1), np.float32(1)))
PLAIN = TensorGrid((0.1,), (-3,))
WEIGHT = TensorGrid((0.5, 0.25, 0.125), (0, 0, 0), axis=0)


def report(comparison: Comparison, width: int = 80) -> list[str]:
    return [line.rstrip() for line in shown(diff_report(Path("out/a"), Path("out/b"), comparison), width).splitlines()]


def test_equal_artifacts_have_no_table() -> None:
    comparison = Comparison(128, (), ("a.output", "b.output", "c.output", "d.output"), ("e.output",), ())
    assert report(comparison) == [
        "A: out/a",
        "B: out/b",
        "128 tensors in both: 128 equal, 0 differ",
        "only in A: 4 (a.output, b.output, c.output, ...)",
        "only in B: 1 (e.output)",
    ]


def test_the_first_that_differ_are_listed_with_both_grids() -> None:
    differing = tuple(Differing(f"{i}.{LONG}", PLAIN, TensorGrid((NEXT,), (-128,))) for i in range(12))
    lines = report(Comparison(152, differing, (), (), ()))
    assert max(map(len, lines)) <= 80
    assert lines[2] == "152 tensors in both: 140 equal, 12 differ"
    rows = [line.split() for line in lines if LONG in line]
    assert rows == [[f"{i}.{LONG}", "0.1,", "-3", "0.100000009,", "-128"] for i in range(10)]
    assert " ".join(lines[-1].split()) == "scale, zero point; [n]: the first channel that differs; 2 more in --json"
    assert report(Comparison(152, differing[:10], (), (), ()))[-1].endswith("that differs")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (PLAIN, TensorGrid((0.1,), (4,)), ("t", "0.1, -3", "0.1, 4")),
        (WEIGHT, TensorGrid((0.5, 0.25, NEXT), (0, 0, 0), axis=0), ("t[2]", "0.125, 0", "0.100000009, 0")),
        (WEIGHT, TensorGrid((0.5, 0.25, 0.125), (0, 9, 1), axis=0), ("t[1]", "0.25, 0", "0.25, 9")),
        (WEIGHT, TensorGrid((0.5, 0.25), (0, 0), axis=0), ("t", "3 channels, axis 0", "2 channels, axis 0")),
        (WEIGHT, TensorGrid((0.5, 0.25, 0.125), (0, 0, 0), axis=1), ("t", "3 channels, axis 0", "3 channels, axis 1")),
        (PLAIN, WEIGHT, ("t", "per tensor", "3 channels, axis 0")),
        (TensorGrid((math.nan,), (0,)), TensorGrid((math.nan,), (0,)), ("t", "nan, 0", "nan, 0")),
    ],
)
def test_a_row_shows_where_two_grids_part(a: TensorGrid, b: TensorGrid, expected: tuple[str, str, str]) -> None:
    assert row(Differing("t", a, b)) == expected


def test_names_are_shown_as_they_are_written() -> None:
    (line,) = [x for x in report(Comparison(1, (Differing("[red]x", PLAIN, WEIGHT),), (), (), ())) if "per tensor" in x]
    assert line.split()[0] == "[red]x"
    text = shown(diff_report(Path("out/\x1b[31m"), Path("\udcff"), Comparison(1, (), (), (), ())))
    assert text.splitlines()[:2] == [r"A: 'out/\x1b[31m'", r"B: '\udcff'"]
