"""What ``edgevit bench --device`` prints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from edgevit.bench.devices.order import Answer, nearness

THROTTLED = 1.1  # times that the last minute takes of the first, from which on it is said


def devices_report(done: Sequence[tuple[Path, Sequence[Answer], Sequence[str]]]) -> RenderableType:
    """A few lines an answer, in 80 columns."""
    return Group(*(Text(line) for folder, answers, _ in done for answer in answers for line in lines(folder, answer)))


def lines(folder: Path, answer: Answer) -> list[str]:
    result = answer.result
    runtime, device = result["runtime"], result["device"]
    place = ", ".join(filter(None, (device["name"], device["soc"], device["os"], device["arch"])))
    return [
        f"{folder}, {runtime['name']} {runtime['version'] or ''} ({runtime['delegate'] or 'delegate unknown'})",
        f"  {answer.kind} {answer.device}: {place}" + emulated(device),
        f"  parity: {nearness(result['parity'])}",
        *timing(result),
    ]


def emulated(device: Mapping[str, Any]) -> str:
    return f"; emulated by {device['emulated']}" if device["emulated"] else ""


def timing(result: Mapping[str, Any]) -> list[str]:
    latency, start, lasting = result["latency"], result["start"], result["sustained"]
    if latency is None:
        return ["  not timed: an emulated processor's times say nothing"]
    times = f"{latency['p50_ms']:.2f} · {latency['p90_ms']:.2f} · {latency['p99_ms']:.2f} ms (p50 · p90 · p99)"
    found = [f"  latency: {times}, {latency['runs']} runs" + ("" if latency["steady"] else ", never steady")]
    if start is not None:
        found.append(f"  cold start: {start['load_ms'] + start['first_ms']:,.0f} ms")
    if lasting is not None:
        first, last = lasting["first_minute_p50_ms"], lasting["last_minute_p50_ms"]
        slowed = f": it slowed down by {last / first - 1:.0%}" if last > THROTTLED * first else ""
        found.append(
            f"  {lasting['minutes']:g} minutes: p50 {first:.2f} ms in the first, {last:.2f} in the last{slowed}"
        )
    if result["thermal"] is not None:
        before, after = (heat(result["thermal"][key]) for key in ("before", "after"))
        found.append(f"  heat: {before} before, {after} after")
    return found


def heat(found: Mapping[str, Any]) -> str:
    """A temperature, or the word that the device has for its state."""
    return f"{found['celsius']:.1f} °C" if "celsius" in found else str(found["state"])
