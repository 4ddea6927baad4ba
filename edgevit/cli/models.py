"""``edgevit models``: the registry as a table or as JSON."""

from dataclasses import asdict
from importlib import resources
from typing import Any

import click
from rich.table import Table

from edgevit.cli import ui
from edgevit.models import download, registry


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of objects.")
def command(as_json: bool) -> None:
    """List the models: size, cost, the authors' accuracy, and which weights --weights takes for each."""
    entries = list(registry.ENTRIES.values())
    if as_json:
        ui.print_json([described(entry) for entry in entries])
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("model", "parameters", "px", "MACs (M)", "top-1", "weights at hand"):
        words = heading in ("model", "weights at hand")
        table.add_column(heading, justify="left" if words else "right", no_wrap=True)
    for entry in entries:
        top1 = "" if entry.top1 is None else f"{entry.top1:.1f}"
        cost = (f"{entry.params:,}", f"{entry.image_size}", f"{entry.macs / 1e6:,.1f}", top1)
        table.add_row(entry.name, *cost, ", ".join(name for name in weights_of(entry) if name != "random"))
    ui.out.print(table)
    for source in dict.fromkeys(entry.top1_source for entry in entries):
        ui.say(f"top-1: as the authors report it ({source})")
    for folder in dict.fromkeys(entry.official_url.rsplit("/", 1)[0] for entry in entries if entry.official_url):
        ui.say(f"official: fetched from {folder} unless it is in {download.default_cache()}")
    ui.say("dynamicvit_*: with --keep-ratio 0.7; official is the unpruned backbone, to which --predictors adds")
    ui.say("any model also takes --weights PATH (.pth or .safetensors), or random, for latency alone")


def described(entry: registry.Entry) -> dict[str, Any]:
    fields = ("name", "params", "macs", "image_size", "classes", "keep_ratio")
    published = ("top1", "top1_source", "licence", "official_url")
    found = asdict(entry)
    return {field: found[field] for field in (*fields, *published)} | {"weights": weights_of(entry)}


def weights_of(entry: registry.Entry) -> list[str]:
    """What ``--weights`` takes for the model, besides a path."""
    return [
        *(["bundled"] if bundled(entry.name) else []),
        *(["official"] if entry.official_url else []),
        "random",
    ]


def bundled(name: str) -> bool:
    """As ``weights.bundled_available``, which would import torch."""
    assets = resources.files("edgevit") / "assets"
    return any(file.name.startswith(f"{name}-") and file.name.endswith(".safetensors") for file in assets.iterdir())
