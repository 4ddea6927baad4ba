"""``edgevit eval``: top-1 of a model on labelled images."""

import time
from dataclasses import asdict
from typing import cast

import click
import torch

from edgevit import selection
from edgevit.cli import ui
from edgevit.errors import InputError
from edgevit.images import ImageSet, open_images, printable
from edgevit.models import weights
from edgevit.train import score


@click.command()
@click.option("--data", default="bundled", show_default=True, metavar="DIR", help="A folder of labelled images.")
@click.option("--model", default="efficientvit_m0", show_default=True, help="One of edgevit models.")
@click.option("--weights", "spec", default="bundled", show_default=True, help="bundled, official, random or a file.")
@click.option("--predictors", metavar="SPEC", help="Token predictors for a plain backbone: bundled or a file.")
@click.option(
    "--keep-ratio", type=float, metavar="RATIO", help="Tokens kept at each site.  [default: the weights' own]"
)
@click.option("--split", help="The part of a set that has parts.  [default: test]")
@click.option("--image-size", type=int, help="Pixels.  [default: the weights' own]")
@click.option("--threads", type=click.IntRange(1), help="[default: every core]")
@click.option("--skip-bad-images", is_flag=True, help="Leave unusable images out, and name them.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(
    data: str,
    model: str,
    spec: str,
    predictors: str | None,
    keep_ratio: float | None,
    split: str | None,
    image_size: int | None,
    threads: int | None,
    skip_bad_images: bool,
    as_json: bool,
) -> None:
    """Score a model on all labelled images of a set: top-1 with its 95 % interval."""
    if threads:
        torch.set_num_threads(threads)
    with ui.downloading(f"fetching {model}") as report:
        network, described = weights.load(
            model, spec, image_size=image_size, keep_ratio=keep_ratio, predictors=predictors, report=report
        )
    for message in described.notes:
        ui.note(message)
    images = part(open_images(data), split)
    if not images.labelled:
        raise InputError(f"the images in {printable(images.source)} have no labels: there is nothing to score")
    selection.check_labels(images, cast(int, network.classes))
    usable, skipped = decodable(images, skip_bad_images)
    start = time.perf_counter()
    with ui.counting("scoring", len(usable)) as advance:
        result = score(network, usable, described.preprocess, advance)
    seconds = time.perf_counter() - start
    if not as_json:
        low, high = result.ci95
        ui.say(
            f"top-1 {result.top1:.2f} % (95 % interval {low:.2f} to {high:.2f}) of {model} with {spec} weights "
            f"on {result.images:,} images in {seconds:.1f} s"
        )
        return
    ui.print_json(
        {
            "model": model,
            "weights": {key: asdict(described)[key] for key in ("source", "sha256", "licence")},
            "preprocess": described.preprocess.manifest(),
            "images": result.images,
            "skipped": skipped,
            "correct": result.correct,
            "top1": result.top1,
            "ci95": result.ci95,
            "seconds": seconds,
        }
    )


def part(images: ImageSet, name: str | None) -> ImageSet:
    """The named split; by default ``test``, or all of a set without splits. Raises InputError if there is none such."""
    if name is not None and name not in images.splits:
        there = f"has {' and '.join(images.splits)}" if images.splits else "has no splits, so leave --split away"
        raise InputError(f"{printable(images.source)} has no split {name!r}: it {there}")
    return images.split(name or "test")


def decodable(images: ImageSet, skip_bad: bool) -> tuple[ImageSet, int]:
    """The usable images, and how many are not. Raises BadImageError for one of those unless ``skip_bad``."""
    bad: list[tuple[str, str]] = []
    usable = []
    with ui.counting("checking images", len(images)) as advance:
        for item, _ in selection.checked(images.items, skip_bad, ui.note, bad):
            usable.append(item)
            advance(1)
    if not usable:
        raise InputError(f"none of the {len(images):,} images in {printable(images.source)} can be used: check --data")
    return selection.subset(images, usable), len(bad)
