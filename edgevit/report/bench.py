"""What ``edgevit bench`` measured, as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

COLUMNS = ("p50 · p90 · p99,\nms", "spread", "time to A's\n(95 %)", "cold,\nms", "memory,\nMB", "file,\nMB")

Described = Sequence[tuple[Path, Mapping[str, Any]]]


def bench_report(described: Described) -> RenderableType:
    """A table a runtime, a row an export, which a letter stands for; in 80 columns."""
    parts: list[RenderableType] = [Text(f"{letter(i)}  {folder}") for i, (folder, _) in enumerate(described)]
    names = dict.fromkeys(name for _, found in described for name in found["programs"])
    parts += [runtime_table(name, described) for name in names]
    first = described[0][1]
    protocol, host = first["protocol"], first["environment"]
    pinned = f", pinned to {', '.join(map(str, protocol['pinned']))}" if protocol["pinned"] else ""
    parts.append(Text(f"{processor(host)}, threads: {protocol['threads']}{pinned}, batch: {protocol['batch']}"))
    parts += [
        Text(f"{name}: the host's own speed spread by {speed['spread']:.1%} and drifted by {speed['drift']:+.1%}")
        for name, speed in first["reference"].items()
    ]
    parts += [Text(sentence) for sentence in sustained(described)]
    return Group(*parts)


def processor(host: Mapping[str, Any]) -> str:
    """Its name, and what its INT8 arithmetic is fast with, where that is known."""
    flags = host.get("int8_flags")
    return host["cpu"] if flags is None else f"{host['cpu']} ({', '.join(flags) or 'no INT8 instructions'})"


def letter(index: int) -> str:
    """A to Z, then numbers."""
    return ascii_uppercase[index] if index < len(ascii_uppercase) else str(index + 1)


def runtime_table(name: str, described: Described) -> Table:
    table = Table(title=f"\n{name}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for index, (_, found) in enumerate(described):
        if name in found["programs"]:
            table.add_row(letter(index), *cells(found["programs"][name], found["ratios"].get(name)))
    return table


def cells(timing: Mapping[str, Any], ratio: Mapping[str, Any] | None) -> list[str]:
    memory = "-" if timing["peak_rss_mb"] is None else f"{timing['peak_rss_mb']:.0f}"
    return [
        " · ".join(f"{timing[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms")),
        f"{timing['spread']:.0%}",
        "1" if ratio is None else ratio_cell(ratio),
        f"{timing['cold_start_ms']:.0f}",
        memory,
        f"{timing['bytes'] / 1e6:.1f}",
    ]


def ratio_cell(ratio: Mapping[str, Any]) -> str:
    """The figure; a run that was too noisy has none to show."""
    low, high = ratio["ci95"]
    return f"{ratio['median']:.3f} ({low:.3f} to {high:.3f})" if ratio["conclusive"] else "too noisy"


def sustained(described: Described) -> list[str]:
    return [
        f"{folder}, {name}: {found['first_minute_p50_ms']:.2f} ms in the first minute, "
        f"{found['last_minute_p50_ms']:.2f} in the last of {minutes:g}"
        for folder, description in described
        for name, timing in description["programs"].items()
        if (found := timing.get("sustained")) and (minutes := description["protocol"]["minutes"])
    ]
