"""The golden vectors of the apps are what Python computes now."""

from pathlib import Path

import pytest

from tools import golden

FOLDER = Path(__file__).parents[2] / "apps" / "golden"
WANTED = dict(golden.files())


def test_nothing_else_lies_there() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(WANTED)


@pytest.mark.parametrize("name", sorted(WANTED))
def test_each_is_what_python_computes(name: str) -> None:
    assert (FOLDER / name).read_bytes() == WANTED[name]


def test_the_picture_tells_apart_how_halves_are_rounded() -> None:
    side = golden.WIDTH * golden.PREPROCESS["half-to-even"].resize / golden.HEIGHT
    assert side == 30.5
