"""``edgevit train``: from a folder of labelled images to a weights file."""

import json
import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import click
import torch
from rich.progress import Progress

from edgevit import artifact
from edgevit.bench.local import describe_host
from edgevit.cli import ui
from edgevit.errors import InputError
from edgevit.images import open_images
from edgevit.models.dynamicvit import DynamicViT
from edgevit.predictors import ship_predictors
from edgevit.task import Asked, Task, made_ready
from edgevit.train import CHECKPOINT, Epoch, Recipe, Step, check, ship, train

MODEL, PREDICTORS, RECORD = "model.safetensors", "predictors.safetensors", "train.json"
PACKAGES = ("torch", "numpy", "pillow", "safetensors")


@click.command()
@click.option("--data", required=True, metavar="DIR", help="Class folders, labels.csv or IDX files (train and t10k).")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder for the result.")
@click.option("--model", default="efficientvit_m0", show_default=True, help="One of edgevit models.")
@click.option("--weights", "spec", help="Weights to start from: bundled, official or a file.  [default: none]")
@click.option("--image-size", type=int, default=224, show_default=True, help="Pixels.")
@click.option("--epochs", type=click.IntRange(1), default=Recipe.epochs, show_default=True)
@click.option("--batch", type=click.IntRange(2), default=Recipe.batch, show_default=True)
@click.option(
    "--lr", type=click.FloatRange(0, min_open=True), default=Recipe.lr, show_default=True, help="At its peak."
)
@click.option("--keep-ratio", type=float, metavar="RATIO", help="Of a model that prunes tokens.  [default: 0.7]")
@click.option("--only", type=click.Choice(["predictors"]), help="Leave all else of --weights as it is.")
@click.option("--teacher", metavar="MODEL", help="One of edgevit models to learn from beside the labels.")
@click.option("--teacher-weights", metavar="WEIGHTS", help="Of the teacher: official or a file.  [default: bundled]")
@click.option("--bf16", is_flag=True, help="Products in bfloat16: faster where the processor has them.")
@click.option("--seed", type=click.IntRange(0), default=Recipe.seed, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="One number gives one result.  [default: every core]")
@click.option("--licence", default="not stated", show_default=True, help="Of the weights, to be written into them.")
@click.option("--resume", is_flag=True, help="Go on with the training that was interrupted in --out.")
@click.option("--json", "as_json", is_flag=True, help=f"Print {RECORD}.")
def command(
    data: str,
    out: Path,
    model: str,
    spec: str | None,
    image_size: int,
    epochs: int,
    batch: int,
    lr: float,
    keep_ratio: float | None,
    only: str | None,
    teacher: str | None,
    teacher_weights: str | None,
    bf16: bool,
    seed: int,
    threads: int | None,
    licence: str,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a model on labelled images.

    Writes the averaged weights as float16 to OUT/model.safetensors, which --weights takes, and OUT/train.json: the
    recipe, each epoch, and the top-1 of the weights as written. The test split is scored, or one in ten images where a
    set has none.

    A model that prunes tokens starts from --weights of its backbone, and learns from that too; with --only predictors
    it writes OUT/predictors.safetensors, which --predictors takes, and is scored beside its backbone.
    """
    check_out(out, resume)
    if threads:
        torch.set_num_threads(threads)
    recipe = Recipe(epochs=epochs, batch=batch, lr=lr, bf16=bf16, seed=seed)
    asked = Asked(model, recipe, image_size, spec, keep_ratio, only == "predictors", teacher, teacher_weights)
    images = open_images(data)
    with ui.downloading("fetching weights") as report:
        task = made_ready(asked, images, report)
    for message in task.start.notes if task.start else ():
        ui.note(message)
    prepared = task.data
    with ui.counting("checking images", len(images)) as advance:
        sha256 = check(prepared.train, advance)
        check(prepared.test, advance)
    ui.note(f"training on {len(prepared.train):,} images, scoring {len(prepared.test):,}: {prepared.scored_on}")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with ui.progress() as display:
            reporter = Reporter(display, recipe)
            average, history = train(task.model, recipe, prepared, sha256, out, reporter, task.objective)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: {out} keeps every finished epoch, go on with --resume") from None
    record = {
        "command": reproducing(data, asked, task),
        "model": model,
        "image_size": image_size,
        "classes": prepared.classes,
        "class_names": images.classes,
        "keep_ratio": asked.kept,
        "only": only,
        "licence": licence,
        "start": task.start
        and {"source": name_of(task.start.source), "sha256": task.start.sha256, "licence": task.start.licence},
        "teacher": task.teacher
        and {
            "model": task.teacher.name,
            "source": name_of(task.teacher.weights.source),
            "sha256": task.teacher.weights.sha256,
        },
        "recipe": asdict(recipe),
        "preprocess": prepared.preprocess.manifest(),
        "data": {
            "name": name_of(images.source),
            "train": len(prepared.train),
            "train_sha256": sha256,
            "test": len(prepared.test),
            "scored_on": prepared.scored_on,
        },
        "epochs": [asdict(epoch) for epoch in history],
        "environment": describe_host(PACKAGES),
    }
    finish = finish_predictors if asked.only_predictors else finish_model
    said = finish(average, task, out, record)
    artifact.write_json(out / RECORD, record)
    if as_json:
        ui.print_json(record)
    else:
        ui.say(said)


def finish_model(average: torch.nn.Module, task: Task, out: Path, record: dict[str, Any]) -> str:
    """Write and score the model; completes ``record``, and returns what there is to say."""
    with ui.counting("scoring", len(task.data.test)) as advance:
        result = ship(average, task.data, out / MODEL, metadata(record, task), advance)
    record |= {"top1": result.top1, "ci95": result.ci95, "sha256": artifact.sha256_of(out / MODEL)}
    low, high = result.ci95
    return (
        f"{out / MODEL}: top-1 {result.top1:.2f} % (95 % interval {low:.2f} to {high:.2f}) on {result.images:,} images"
    )


def finish_predictors(average: torch.nn.Module, task: Task, out: Path, record: dict[str, Any]) -> str:
    """Write the predictors and score them beside the backbone; otherwise as ``finish_model``."""
    assert task.backbone is not None
    assert task.start is not None
    path, count = out / PREDICTORS, len(task.data.test)
    described = metadata(record, task) | {"backbone_sha256": str(task.start.sha256)}
    with ui.counting("scoring", 2 * count) as advance:
        drop = ship_predictors(cast(DynamicViT, average), task.backbone, task.data, path, described, advance)
    record |= {"top1": drop.to, "top1_unpruned": drop.from_, "drop_points": drop.drop_points, "drop_ci95": drop.ci95}
    record["sha256"] = artifact.sha256_of(path)
    low, high = drop.ci95
    return (
        f"{path}: top-1 {drop.to:.2f} % with keep ratio {record['keep_ratio']}, {drop.from_:.2f} % unpruned: "
        f"{drop.drop_points:.2f} points less (95 % interval {low:.2f} to {high:.2f}) on {count:,} images"
    )


def check_out(out: Path, resume: bool) -> None:
    """Raise InputError unless a training may be written to ``out``, or gone on with there: before any work is done."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is not a folder: choose another --out")
    if resume and not (out / CHECKPOINT).is_file():
        raise InputError(f"there is no {CHECKPOINT} in {out} to go on from: leave --resume away, or name another --out")
    if not resume and out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty: choose another --out, or go on with what is there with --resume")
    existing = artifact.nearest_existing(out.absolute())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{existing} is not a folder that can be written to: choose another --out")


class Reporter:
    """Shows a training: a bar with the loss and the speed, and a line for each epoch."""

    def __init__(self, display: Progress, recipe: Recipe) -> None:
        self.display, self.recipe = display, recipe
        self.task = display.add_task("training", total=None)
        self.start, self.images = time.perf_counter(), 0

    def __call__(self, event: Step | Epoch) -> None:
        of = f"epoch {event.epoch + 1} of {self.recipe.epochs}"
        seconds = time.perf_counter() - self.start
        if isinstance(event, Epoch):
            ui.note(f"{of}: loss {event.loss:.3f}, top-1 {event.top1:.2f} %, {seconds:,.0f} s")
            self.start, self.images = time.perf_counter(), 0
            return
        self.images += self.recipe.batch
        now = (
            f"loss {event.loss:.3f}, {self.images / seconds:.0f} images/s"
            if event.step + 1 < event.steps
            else "scoring"
        )
        done, total = event.epoch * event.steps + event.step + 1, self.recipe.epochs * event.steps
        self.display.update(self.task, description=f"{of}: {now}", completed=done, total=total)


def metadata(record: Mapping[str, Any], task: Task) -> dict[str, str]:
    """What the weights file says of itself, and ``weights.load`` reads back."""
    keys = ("command", "model", "image_size", "classes", "keep_ratio", "licence")
    plain = {key: str(record[key]) for key in keys if record[key] is not None}
    names = {"class_names": json.dumps(record["class_names"])} if record["class_names"] else {}
    return (
        plain
        | names
        | {
            "preprocess": json.dumps(asdict(task.data.preprocess)),
            "data": record["data"]["name"],
            "seed": str(record["recipe"]["seed"]),
        }
    )


def reproducing(data: str, asked: Asked, task: Task) -> str:
    """The command line of this training with every default spelled out, and without the folders of this machine."""
    recipe = asked.recipe
    options: dict[str, object] = {"data": name_of(data), "model": asked.model}
    if task.start:
        options["weights"] = name_of(task.start.source)
    options |= {"image-size": asked.image_size, "epochs": recipe.epochs, "batch": recipe.batch, "lr": recipe.lr}
    if asked.kept is not None:
        options["keep-ratio"] = asked.kept
    if asked.only_predictors:
        options["only"] = "predictors"
    if task.teacher:
        options |= {"teacher": task.teacher.name, "teacher-weights": name_of(task.teacher.weights.source)}
    options |= {"seed": recipe.seed, "threads": torch.get_num_threads()}
    words = ["edgevit", "train", *(word for key, value in options.items() for word in (f"--{key}", str(value)))]
    return shlex.join([*words, "--bf16"] if recipe.bf16 else words)


def name_of(path: str) -> str:
    """The last part of a path: files that get published do not tell how their maker's disk is laid out."""
    return Path(path).resolve().name
