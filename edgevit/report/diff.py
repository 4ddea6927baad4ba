"""The grids of two artifacts as a table for a person."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from calibrate.program import TensorGrid
from edgevit.images import printable
from edgevit.verify import grid
from edgevit.verify.comparison import Comparison, Differing, listed

SHOWN = 10  # rows


def diff_report(a: Path, b: Path, comparison: Comparison) -> RenderableType:
    """How many tensors are equal, what only one side has, and the first that differ."""
    differing = len(comparison.differing)
    parts: list[RenderableType] = [
        Text(f"A: {printable(str(a))}"),
        Text(f"B: {printable(str(b))}"),
        Text(f"{comparison.compared} tensors in both: {comparison.compared - differing} equal, {differing} differ"),
    ]
    parts += [Text(f"only in A: {listed(comparison.only_a)}")] if comparison.only_a else []
    parts += [Text(f"only in B: {listed(comparison.only_b)}")] if comparison.only_b else []
    return Group(*parts, *([differing_table(comparison.differing)] if differing else []))


def differing_table(differing: tuple[Differing, ...]) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("tensor", overflow="fold")
    for side in ("A", "B"):
        table.add_column(side, justify="right", no_wrap=True)
    for entry in differing[:SHOWN]:
        table.add_row(*map(Text, row(entry)))
    more = f"; {len(differing) - SHOWN} more in --json" if len(differing) > SHOWN else ""
    return Group(table, Text(f"scale, zero point; [n]: the first channel that differs{more}"))


def row(entry: Differing) -> tuple[str, str, str]:
    """Tensor, A, B: the first channel that differs, or what the two grids are if they cannot be laid side by side."""
    if (entry.a.axis, len(entry.a.scale)) != (entry.b.axis, len(entry.b.scale)):
        return entry.tensor, kind(entry.a), kind(entry.b)
    channels = list(zip(split(entry.a), split(entry.b), strict=True))
    first = next(index for index, (a, b) in enumerate(channels) if not grid.same(a, b))
    a, b = (f"{side.scale[0]:.9g}, {side.zero_point[0]}" for side in channels[first])
    return entry.tensor if entry.a.axis is None else f"{entry.tensor}[{first}]", a, b


def split(entry: TensorGrid) -> list[TensorGrid]:
    """One grid a channel."""
    return [TensorGrid((scale,), (zero,)) for scale, zero in zip(entry.scale, entry.zero_point, strict=True)]


def kind(entry: TensorGrid) -> str:
    return "per tensor" if entry.axis is None else f"{len(entry.scale)} channels, axis {entry.axis}"
