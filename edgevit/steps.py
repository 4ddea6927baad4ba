"""The steps of an export, each a function of what the one before it made. ``edgevit.pipeline`` puts them in order."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.fx import GraphModule
from torch.utils.flop_counter import FlopCounterMode

from calibrate.program import QuantizedProgram
from calibrate.ptq import calibrate, passes
from calibrate.recipe import Recipe
from calibrate.recipes import DEFAULTS
from calibrate.saved import restore
from convert.fold import RULES, RULES_BEFORE_INT8, FoldReport, fold
from convert.source import Source
from edgevit import __version__, calibration, selection
from edgevit.calibration import Calibration
from edgevit.errors import InputError
from edgevit.images import ImageSet, open_images
from edgevit.lowering import Programs
from edgevit.models import fitting, registry
from edgevit.models import weights as model_weights
from edgevit.models.weights import Weights
from edgevit.options import Options
from edgevit.selection import Selection

Advance = Callable[[int], None]
Progress = Callable[[str, int | None], AbstractContextManager[Advance]]
BATCH = 25  # images at once through torch: more gains nothing on a few cores
PROBE = 4  # images that measure what a fold changes


@contextmanager
def silent(title: str, total: int | None = None) -> Iterator[Advance]:
    """The progress that shows nothing."""
    yield lambda count: None


@dataclass(frozen=True)
class Subject:
    """The model with its weights, and the images that it is calibrated and scored on."""

    name: str
    model: nn.Module
    weights: Weights
    images: Selection
    recipe: Recipe
    calibration: Calibration | None = None  # None: the calibration images are to calibrate it
    batch: int = 1  # images that an artifact takes at once

    @property
    def pruned(self) -> bool:
        """Whether the model drops tokens, and so returns which it kept beside its logits."""
        return getattr(self.model, "keep_ratio", 1) < 1

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """In the order of the logits: the weights' own, else those of the images where they are as many."""
        names = self.weights.class_names or self.images.scored.classes
        return names if names is not None and len(names) == self.model.classes else None

    @property
    def example(self) -> torch.Tensor:
        """``[batch, 3, S, S]``: the first calibration images, from the beginning again where there are too few."""
        images = self.images.calibration
        chosen = images.take([index % len(images) for index in range(self.batch)])
        return torch.from_numpy(next(chosen.batches(self.weights.preprocess, self.batch)))


def prepare(options: Options, progress: Progress, note: Callable[[str], None]) -> Subject:
    """Load the model and draw the images, checking both before anything is written."""
    registry.entry(options.model)
    check_form(options)
    made = made_before(options)
    images = open_images(options.data)
    model, weights = load_model(options, progress)
    selection.check_labels(images, cast(int, model.classes))
    with progress("checking images", None):
        chosen = selection.select(
            images,
            calibration=min(PROBE, len(made.images)) if made else options.calib_size,
            scored=options.parity_images,
            seed=options.seed,
            skip_bad=options.skip_bad_images,
            report=note,
            taken=made.images if made else frozenset(),
        )
    for message in weights.notes:
        note(message)
    if not options.trained:
        note("parity is measured, but with random weights only limits that are named on the command line are judged")
    subject = subject_of(options, model, weights, chosen, made)
    if options.classifier and subject.class_names is None:
        raise InputError(
            "--classifier needs the names of the classes, which neither the weights nor the images give: "
            "name class folders with --data"
        )
    return subject


def made_before(options: Options) -> Calibration | None:
    """The calibration that is to be exported, if one is named. Raises InputError if it is none, or cannot be meant."""
    if options.calibration is None:
        return None
    if options.quant != "int8":
        raise InputError("--calibration is for INT8: leave it away, or export with --quant int8")
    if options.observer is not None or options.calib_size is not None:
        raise InputError("--observer and --calib-size are decided by --calibration: leave them away, or calibrate anew")
    return calibration.read(Path(options.calibration))


def subject_of(
    options: Options, model: nn.Module, weights: Weights, images: Selection, made: Calibration | None
) -> Subject:
    """Raises InputError if ``made`` is of another model."""
    recipe = made.recipe if made else chosen_recipe(options)
    subject = Subject(options.model, model, weights, images, recipe, made, options.batch)
    if made is not None:
        calibration.check_subject(made, describe_model(subject), weights.preprocess.manifest())
    return subject


def check_form(options: Options) -> None:
    """Raise InputError if an option that only Core ML has was given without that target, or one that it has not."""
    if options.form("coreml") != Options().form("coreml") and "coreml" not in options.targets:
        raise InputError("--ios, --image-input and --classifier are about Core ML: add --target coreml")
    if options.batch > 1 and "coreml" in options.targets:
        raise InputError("a Core ML artifact takes one image at a time: leave --batch out, or name other targets")


def load_model(options: Options, progress: Progress) -> tuple[nn.Module, Weights]:
    """The model in evaluation mode, and where its weights come from."""
    with ExitStack() as stack:
        come, advance = 0, None

        def report(done: int, total: int | None) -> None:
            nonlocal come, advance
            advance = advance or stack.enter_context(progress("fetching weights", total))
            advance(done - come)
            come = done

        return model_weights.load(
            options.model,
            options.weights or "bundled",
            image_size=options.image_size,
            classes=options.classes,
            keep_ratio=options.keep_ratio,
            predictors=options.predictors,
            seed=options.seed,
            report=report,
        )


def fold_model(options: Options, subject: Subject, progress: Progress) -> tuple[GraphModule, list[FoldReport]]:
    """Fold on a batch of calibration images."""
    images = subject.images.calibration
    probe = next(images.take(range(min(PROBE, len(images)))).batches(subject.weights.preprocess, PROBE))
    if subject.pruned:
        cast(Any, subject.model).returns_selection = True
    with progress("folding", None):
        folded, reports = fold(
            subject.model, torch.from_numpy(probe), RULES_BEFORE_INT8 if options.quant == "int8" else RULES
        )
    if subject.calibration is not None:
        calibration.check_folds(subject.calibration, [asdict(report) for report in reports])
    return folded, reports


def make_programs(
    options: Options, subject: Subject, folded: GraphModule, progress: Progress
) -> tuple[Programs, QuantizedProgram | None]:
    """What every target is lowered from, and the quantised program that it holds where that is asked."""
    whole, quantized = make_source(options, subject, folded, progress)
    floats = Source(torch.export.export(folded, (subject.example,)), "fp32")
    if not subject.pruned:
        return Programs(whole, floats), quantized
    with progress("unpruned twin", None):
        twin = unpruned(subject)
        few = twin.images.calibration.take(range(min(PROBE, len(twin.images.calibration))))
        twin = replace(twin, images=replace(twin.images, calibration=few), calibration=None)
        source, _ = make_source(options, twin, fold_model(options, twin, silent)[0], silent)
    return Programs(whole.logits_only(), floats.logits_only(), whole, source), quantized


def make_source(
    options: Options, subject: Subject, folded: GraphModule, progress: Progress
) -> tuple[Source, QuantizedProgram | None]:
    """The folded model in the precision that is asked, calibrated for int8."""
    if options.quant != "int8":
        return Source(torch.export.export(folded, (subject.example,)), options.quant), None
    if subject.calibration is not None:
        with progress("restoring the calibration", None):
            quantized = restore(folded, subject.recipe, subject.calibration.tensors, subject.example)
        return Source(quantized, "int8"), quantized
    with progress("calibrating", passes(subject.recipe) * len(subject.images.calibration)) as advance:
        quantized = calibrate(folded, subject.recipe, Batches(subject, advance), subject.example)
    return Source(quantized, "int8"), quantized


@dataclass(frozen=True)
class Batches:
    """The calibration images, or the first of them, read again each time: however many, few are in memory."""

    subject: Subject
    advance: Advance
    first: int | None = None

    @property
    def images(self) -> ImageSet:
        images = self.subject.images.calibration
        return images.take(range(min(self.first or len(images), len(images))))

    def __iter__(self) -> Iterator[torch.Tensor]:
        for x in self.images.batches(self.subject.weights.preprocess, BATCH):
            yield torch.from_numpy(x)
            self.advance(len(x))


def unpruned(subject: Subject) -> Subject:
    """The same model with the same weights, keeping every token: what pruning is worth is measured against it.

    Its speed does not depend on the values of its scales, so a few images calibrate it.
    """
    return replace(subject, model=fitting.unpruned(subject.name, subject.model))


def chosen_recipe(options: Options) -> Recipe:
    """The model family's default, with the observer that was asked for."""
    recipe = DEFAULTS[registry.entry(options.model).family]
    return recipe if options.observer is None else replace(recipe, observer=options.observer)


def describe_model(subject: Subject) -> dict[str, Any]:
    weights = subject.weights
    params, macs = count(subject.model)
    return {
        "name": subject.name,
        "image_size": subject.model.image_size,
        "classes": subject.model.classes,
        "class_names": list(weights.class_names) if weights.class_names else None,
        "params": params,
        "macs": macs,
        **({"keep_ratio": subject.model.keep_ratio} if subject.pruned else {}),
        "weights": {
            "source": weights.source,
            "sha256": weights.sha256,
            "licence": weights.licence,
            "predictors_sha256": weights.predictors_sha256,
            "notes": list(weights.notes),
        },
    }


def artifact_metadata(options: Options, subject: Subject) -> dict[str, str]:
    """What an artifact says of itself, as strings."""
    names = subject.class_names
    return {
        "edgevit_version": __version__,
        "model": subject.name,
        "quant": options.quant,
        "image_size": str(subject.model.image_size),
        "batch": str(subject.batch),
        "classes": str(subject.model.classes),
        "class_names": json.dumps(names) if names else "",
        "preprocess": json.dumps(subject.weights.preprocess.manifest()),
        "weights": subject.weights.source if subject.weights.source in ("bundled", "official", "random") else "file",
        "weights_sha256": subject.weights.sha256 or "",
        "licence": subject.weights.licence,
        **({"keep_ratio": str(subject.model.keep_ratio)} if subject.pruned else {}),
    }


def count(model: nn.Module) -> tuple[int, int]:
    """Parameters, and multiply-accumulates of one image: convolutions and matrix products only."""
    size = cast(int, model.image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2
