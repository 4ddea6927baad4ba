"""Measure the README's table on this machine: one export of the bundled model, in a process of its own.

    python tools/measure.py

Prints Markdown. Wall time and peak memory are the whole command's, calibration, parity and latency included; memory is
that of its processes together, looked at ten times a second.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import psutil

from edgevit.report.terminal import kinds_cell

EXPORT = "edgevit export --target all --quant int8 --out out/bench --force --json"


def main() -> None:
    started, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.Popen([sys.executable, "-m", *EXPORT.split()], stdout=output)
        while done.poll() is None:
            peak = max(peak, resident(done.pid))
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        if done.returncode not in (0, 1):
            sys.exit(done.returncode)
        output.seek(0)
        manifest = json.load(output)
    print(table(manifest))
    host = manifest["environment"]
    print(f"\nWhole export: {seconds:.0f} s, {peak / 1e6:.0f} MB at its peak. {host['cpu']}, {host['cores']} cores.")
    sys.exit(done.returncode)


def resident(pid: int) -> int:
    """Bytes of a process and its children."""
    try:
        process = psutil.Process(pid)
        return sum(member.memory_info().rss for member in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def table(manifest: Mapping[str, Any]) -> str:
    names = list(manifest["targets"])
    rows = [["", *names], ["---", *("---:" for _ in names)]]
    rows += [[title, *(cell(manifest, name) for name in names)] for title, cell in CELLS.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def link(manifest: Mapping[str, Any], name: str, start: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(
        item for item in manifest["parity"]["links"] if (item["from"], item["to"]) == (start, name)
    )
    return found


def top1(manifest: Mapping[str, Any], name: str) -> str:
    whole = link(manifest, name, "original")
    low, high = whole["top1_drop_ci95"]
    return f"{whole['top1_from']:.1f} → {whole['top1_to']:.1f} % (drop {low:.1f} to {high:.1f})"


def sqnr(start: str) -> Any:
    return lambda manifest, name: f"{link(manifest, name, start)['sqnr_db']:.1f} dB"


def chain(manifest: Mapping[str, Any], name: str) -> str:
    links = manifest["parity"]["links"]
    return " · ".join(f"{item['sqnr_db']:.1f}" for item in (links[0], links[1], link(manifest, name, links[1]["to"])))


def operators(manifest: Mapping[str, Any], name: str) -> str:
    census = manifest["targets"][name]["census"]
    return f"{census['int8_delivered']} of {census['int8_asked']}"


def kinds(precision: str) -> Any:
    return lambda manifest, name: kinds_cell(manifest["targets"][name]["census"][precision])


def grid(manifest: Mapping[str, Any], name: str) -> str:
    found = manifest["targets"][name]["grid"]
    return f"{found['tensors_compared']}, all" if found["matches"] else f"{len(found['differing'])} differ"


def partitions(manifest: Mapping[str, Any], name: str) -> str:
    census = manifest["targets"][name]["census"]
    return f"{census['partitions']}, {sum(census['portable'].values())}" if "partitions" in census else ""


def latency(manifest: Mapping[str, Any], name: str) -> str:
    if name not in manifest["latency"]:
        return "on a device"
    timing = manifest["latency"][name]
    return f"{timing['float_p50_ms']:.2f} → {timing['p50_ms']:.2f} ms"


def speedup(manifest: Mapping[str, Any], name: str) -> str:
    if name not in manifest["latency"]:
        return "on a device"
    timing = manifest["latency"][name]
    low, high = timing["speedup_ci95"]
    return f"{timing['speedup']:.2f} ({low:.2f} to {high:.2f})"


CELLS = {
    "top-1, float → INT8, 1,000 images (95 %)": top1,
    "SQNR, original → INT8": sqnr("original"),
    "SQNR of each link, dB: fold · quantise · lower": chain,
    "top-1 agreement, original and INT8": lambda m, n: f"{link(m, n, 'original')['top1_agreement']:.1%}",
    "operators in INT8, delivered of asked": operators,
    "in INT8 by kind": kinds("int8"),
    "in float by kind": kinds("float"),
    "scales and zero points equal to the program's, tensors": grid,
    "partitions, portable kernels": partitions,
    "self-noise of the artifact": lambda m, n: f"{link(m, n, 'original')['self_noise_db']:.1f} dB",
    "p50, float32 → INT8, 1 thread": latency,
    "times as fast as float32 (95 %)": speedup,
    "size": lambda m, n: f"{m['targets'][n]['bytes'] / 1e6:.1f} MB",
    "lowering": lambda m, n: f"{m['targets'][n]['export_seconds']:.1f} s",
}

if __name__ == "__main__":
    main()
