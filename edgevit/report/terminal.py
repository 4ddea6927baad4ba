"""A manifest or a list of checks as tables for a person."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgevit.report.words import arithmetic, step
from edgevit.verify.claims import Check

LATENCY_ROWS = ("p50, ms", "p50 of the float twin, ms", "times as fast (95 %)")


def export_report(manifest: Mapping[str, Any]) -> RenderableType:
    """What the export kept and gained: parity, INT8 operators and speed, and the claims that failed."""
    parts: list[RenderableType] = [headline(manifest), parity_table(manifest)]
    if "keep_ratio" in manifest["model"]:
        parts.append(token_table(manifest))
    parts.append(target_table(manifest))
    parts += [Text(f"failed: {failure}", style="red") for failure in manifest["failures"]]
    return Group(*parts)


def calibration_report(description: Mapping[str, Any]) -> RenderableType:
    """What the quantised program kept, its digest, and the claims that failed."""
    quant = description["quant"]
    asked = f"{len(quant['operators'])} operators in INT8, {len(quant['tensors'])} scales"
    parts: list[RenderableType] = [headline(description), parity_table(description)]
    if "keep_ratio" in description["model"]:
        parts.append(token_table(description))
    if "mixed" in quant:
        parts.append(Text(f"\nleft in float: {', '.join(quant['mixed']['floats']) or 'nothing more'}"))
    parts.append(Text(f"\n{asked}; program {description['tensors']['sha256'][:12]}"))
    parts += [Text(f"failed: {failure}", style="red") for failure in description["failures"]]
    return Group(*parts)


def headline(manifest: Mapping[str, Any]) -> Text:
    model, quant = manifest["model"], manifest["quant"]
    pruned = f", keep ratio {model['keep_ratio']}" if "keep_ratio" in model else ""
    folds = sum(entry["count"] for entry in manifest["fold"])
    error = max(entry["max_abs_error"] for entry in manifest["fold"])
    text = (
        f"{model['name']} at {model['image_size']} px, {model['classes']} classes{pruned}, {quant['mode']}, "
        f"{model['weights']['source']} weights: {model['params']:,} parameters, {model['macs'] / 1e6:.1f} M MACs; "
        f"{folds} folds, largest error {error:.1g}"
    )
    if (batch := manifest["options"].get("batch", 1)) > 1:
        text += f"; {batch} images at once"
    if "calibration" in quant:
        text += f"; calibrated on {quant['calibration']['images']} images ({quant['calibration']['observer']})"
    return Text(text)


def parity_table(manifest: Mapping[str, Any]) -> Table:
    parity = manifest["parity"]
    table = Table(
        title=f"\nParity on {parity['images']} images",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("step")
    for column in ("SQNR", "noise", "same", *(("top-1 %", "drop (95 %)") if parity["labels"] else ())):
        table.add_column(column, justify="right", no_wrap=True)
    for link in parity["links"]:
        row = [step(link["from"], link["to"]), f"{link['sqnr_db']:.1f}", f"{link['self_noise_db']:.1f}"]
        row.append(f"{link['top1_agreement']:.1%}")
        if "top1_to" in link:
            low, high = link["top1_drop_ci95"]
            row += [
                f"{link['top1_from']:.1f} → {link['top1_to']:.1f}",
                f"{link['top1_drop']:.1f} ({low:.1f}..{high:.1f})",
            ]
        table.add_row(*row)
    table.caption = "SQNR and self-noise in dB; same: equal top-1; drop in points"
    return table


def token_table(manifest: Mapping[str, Any]) -> Table:
    """How far two steps keep the same tokens, each deciding by itself; parity compares them keeping the same."""
    table = Table(title="\nTokens kept", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("step")
    links = [link for link in manifest["parity"]["links"] if "tokens" in link]
    sites = [f"{site['kept']} of {site['of']}" for site in links[0]["tokens"]["sites"]]
    for column in (*sites, "images", "SQNR", "same"):
        table.add_column(column, justify="right", no_wrap=True)
    for link in links:
        tokens = link["tokens"]
        own = tokens["each_its_own"]
        shares = [f"{share:.1%}" for share in link["kept_token_overlap"]]
        table.add_row(
            step(link["from"], link["to"]),
            *shares,
            str(tokens["images_that_differ"]),
            f"{own['sqnr_db']:.1f}",
            f"{own['top1_agreement']:.1%}",
        )
    table.caption = (
        "share of equal tokens at each site; images that differ at any; SQNR and same: each with its own tokens"
    )
    return table


def target_table(manifest: Mapping[str, Any]) -> Table:
    """One column a target."""
    table = Table(title="\nArtifacts", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    rows: dict[str, list[str]] = {}
    for name, entry in manifest["targets"].items():
        table.add_column(name, justify="right")
        census = entry["census"]
        for row, cell in (
            ("size, MB", f"{entry['bytes'] / 1e6:.1f}"),
            ("size of the float twin, MB", f"{entry['float_bytes'] / 1e6:.1f}"),
            ("INT8 operators of those asked", f"{census['int8_delivered']} of {census['int8_asked']}"),
            ("INT8 by kind", arithmetic(census["int8"])),
            ("float by kind", arithmetic(census["float"])),
            ("tensors on the program's grid", grid_cell(entry)),
            ("partitions, portable kernels", delegation_cell(census)),
            *latency_cells(manifest["latency"].get(name)),
            *pruning_cells(manifest, name),
            ("lowering, s", f"{entry['export_seconds']:.1f}"),
            ("peak memory, MB", str(entry["peak_rss_mb"])),
        ):
            rows.setdefault(row, []).append(cell)
    for row, cells in rows.items():
        table.add_row(row, *cells)
    return table


def delegation_cell(census: Mapping[str, Any]) -> str:
    return f"{census['partitions']}, {sum(census['portable'].values())}" if "partitions" in census else "-"


def latency_cells(latency: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Dashes for a target that only a device can time."""
    if latency is None:
        return [(row, "-") for row in LATENCY_ROWS]
    low, high = latency["speedup_ci95"]
    speedup = f"{latency['speedup']:.2f} ({low:.2f} to {high:.2f})"
    return list(zip(LATENCY_ROWS, (f"{latency['p50_ms']:.2f}", f"{latency['float_p50_ms']:.2f}", speedup), strict=True))


def pruning_cells(manifest: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    """Of a model that prunes tokens, how fast it is beside itself unpruned; dashes where only a device can tell."""
    if "keep_ratio" not in manifest["model"]:
        return []
    rows = ("p50, unpruned → pruned, ms", "times as fast as unpruned (95 %)")
    if name not in manifest["latency"]:
        return [(row, "-") for row in rows]
    latency = manifest["latency"][name]
    low, high = latency["pruning_speedup_ci95"]
    cells = (
        f"{latency['unpruned_p50_ms']:.2f} → {latency['pruned_p50_ms']:.2f}",
        f"{latency['pruning_speedup']:.2f} ({low:.2f} to {high:.2f})",
    )
    return list(zip(rows, cells, strict=True))


def grid_cell(entry: Mapping[str, Any]) -> str:
    if "grid" not in entry:
        return "-"
    grid = entry["grid"]
    return f"{grid['tensors_compared']} equal" if grid["matches"] else f"{len(grid['differing'])} differ"


def verify_report(checks: list[Check]) -> RenderableType:
    """One line a claim."""
    lines = []
    for check in checks:
        mark = ("holds", "green") if check.holds else ("FAILS", "red")
        lines.append(Text.assemble(mark, f"  {check.claim}", f": {check.reason}" if check.reason else ""))
    return Group(*lines)
