"""Measure the README's table on this machine: the smallest model of each family, each export in a process of its own.

    python -m tools.measure [DEIT PHOTOGRAPHS]

DEIT is a checkpoint of DeiT-Tiny, PHOTOGRAPHS a folder of its classes that ``tools/halve.py`` has divided. DynamicViT
is measured on them; they are no part of the repository, and without them its rows are left out.

Prints Markdown. Wall time and peak memory are the whole command's, calibration, parity and latency included; memory is
that of its processes together, looked at ten times a second.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from edgevit.report.bench import processor
from tools.command import Took, edgevit

EXPORT = ("export", "--target", "all", "--quant", "int8", "--force", "--json")
BUNDLED = ("efficientvit_m0", "sepvit_lite")
PRUNED = "dynamicvit_deit_tiny"
COLUMNS = (
    "model, target",
    "top-1, float → INT8 (drop, 95 %)",
    "same class",
    "SQNR, dB: fold · quantise · lower · whole",
    "tokens alike, by site",
    "INT8 operators",
    "scales as the program's",
    "p50, float32 → INT8, ms",
    "times as fast (95 %)",
    "MB, float32 → INT8",
)

Manifest = Mapping[str, Any]


def main() -> None:
    exports = [("--model", name) for name in BUNDLED]
    if len(sys.argv) == 3:
        deit, photographs = sys.argv[1:]
        exports.append(("--model", PRUNED, "--weights", deit, "--predictors", "bundled", "--data", photographs))
    else:
        print(
            f"{PRUNED} is left out: give a DeiT-Tiny checkpoint and divided photographs to measure it", file=sys.stderr
        )
    found = [export(*asked, "--out", f"out/bench/{asked[1]}") for asked in exports]
    print("\n".join("| " + " | ".join(row) + " |" for row in rows([manifest for manifest, _ in found])), end="\n\n")
    for manifest, took in found:
        print(f"{name_of(manifest)}: {took.seconds:.0f} s, {took.peak_mb:.0f} MB at its peak. {lowering(manifest)}.")
        for failure in manifest["failures"]:
            print(f"{name_of(manifest)} fails: {failure}")
    host = found[0][0]["environment"]
    print(f"{processor(host)}, {host['cores']} cores.")
    sys.exit(any(manifest["failures"] for manifest, _ in found))


def export(*asked: str) -> tuple[Manifest, Took]:
    took = edgevit(*EXPORT, *asked)
    return json.loads(took.out), took


def rows(manifests: list[Manifest]) -> list[list[str]]:
    """The table: a row for each target of each model."""
    head = [list(COLUMNS), ["---", *("---:" for _ in COLUMNS[1:])]]
    return head + [row(manifest, target) for manifest in manifests for target in manifest["targets"]]


def row(manifest: Manifest, target: str) -> list[str]:
    links = manifest["parity"]["links"]
    whole = link(manifest, "original", target)
    steps = (links[0], links[1], link(manifest, links[1]["to"], target), whole)
    low, high = whole["top1_drop_ci95"]
    entry = manifest["targets"][target]
    census, grid = entry["census"], entry["grid"]
    return [
        f"{name_of(manifest)}, {target}",
        f"{whole['top1_from']:.1f} → {whole['top1_to']:.1f} % ({low:.1f} to {high:.1f})",
        f"{whole['top1_agreement']:.1%}",
        " · ".join(f"{step['sqnr_db']:.1f}" for step in steps),
        " · ".join(f"{share:.1%}" for share in whole.get("kept_token_overlap", [])) or "-",
        f"{census['int8_delivered']} of {census['int8_asked']}",
        f"{grid['tensors_compared']}, all" if grid["matches"] else f"{len(grid['differing'])} differ",
        *latency(manifest, target),
        f"{entry['float_bytes'] / 1e6:.1f} → {entry['bytes'] / 1e6:.1f}",
    ]


def name_of(manifest: Manifest) -> str:
    ratio = manifest["model"].get("keep_ratio")
    return manifest["model"]["name"] + (f" {ratio}" if ratio else "")


def link(manifest: Manifest, start: str, end: str) -> Manifest:
    links: list[Manifest] = manifest["parity"]["links"]
    return next(item for item in links if (item["from"], item["to"]) == (start, end))


def latency(manifest: Manifest, target: str) -> tuple[str, str]:
    if target not in manifest["latency"]:
        return "on a device", "on a device"
    timing = manifest["latency"][target]
    low, high = timing["speedup_ci95"]
    times = f"{timing['speedup']:.2f} ({low:.2f} to {high:.2f})"
    if "pruning_speedup" in timing:
        low, high = timing["pruning_speedup_ci95"]
        times += f"; beside unpruned: {timing['pruning_speedup']:.2f} ({low:.2f} to {high:.2f})"
    return f"{timing['float_p50_ms']:.2f} → {timing['p50_ms']:.2f}", times


def lowering(manifest: Manifest) -> str:
    """How long each target's lowering took, and what ExecuTorch's program is cut into."""
    census = manifest["targets"]["executorch"]["census"]
    times = (f"{name} {entry['export_seconds']:.0f} s" for name, entry in manifest["targets"].items())
    portable = sum(census["portable"].values())
    return f"Lowering: {', '.join(times)}; ExecuTorch: {census['partitions']} partitions, {portable} portable kernels"


if __name__ == "__main__":
    main()
