"""The steps of an export, each a function of what the one before it made. ``edgevit.pipeline`` puts them in order."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn
from torch.fx import GraphModule
from torch.utils.flop_counter import FlopCounterMode

from calibrate.program import QuantizedProgram
from calibrate.ptq import calibrate, passes
from calibrate.recipe import Recipe
from calibrate.recipes import DEFAULTS
from convert.fold import RULES, RULES_BEFORE_INT8, FoldReport, fold
from convert.source import Source
from edgevit import __version__, selection
from edgevit.errors import InputError
from edgevit.images import open_images
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
        """``[1, 3, S, S]``: the first calibration image."""
        return torch.from_numpy(next(self.images.calibration.batches(self.weights.preprocess)))


def prepare(options: Options, progress: Progress, note: Callable[[str], None]) -> Subject:
    """Load the model and draw the images, checking both before anything is written."""
    registry.entry(options.model)
    check_form(options)
    images = open_images(options.data)
    model, weights = load_model(options, progress)
    selection.check_labels(images, cast(int, model.classes))
    with progress("checking images", None):
        chosen = selection.select(
            images,
            calibration=options.calib_size,
            scored=options.parity_images,
            seed=options.seed,
            skip_bad=options.skip_bad_images,
            report=note,
        )
    for message in weights.notes:
        note(message)
    if not options.trained:
        note("parity is measured, but with random weights only limits that are named on the command line are judged")
    subject = Subject(options.model, model, weights, chosen)
    if options.classifier and subject.class_names is None:
        raise InputError(
            "--classifier needs the names of the classes, which neither the weights nor the images give: "
            "name class folders with --data"
        )
    return subject


def check_form(options: Options) -> None:
    """Raise InputError if an option that only Core ML has was given without that target."""
    if options.form("coreml") != Options().form("coreml") and "coreml" not in options.targets:
        raise InputError("--ios, --image-input and --classifier are about Core ML: add --target coreml")


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
        return fold(subject.model, torch.from_numpy(probe), RULES_BEFORE_INT8 if options.quant == "int8" else RULES)


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
        twin = replace(twin, images=replace(twin.images, calibration=few))
        source, _ = make_source(options, twin, fold_model(options, twin, silent)[0], silent)
    return Programs(whole.logits_only(), floats.logits_only(), whole, source), quantized


def make_source(
    options: Options, subject: Subject, folded: GraphModule, progress: Progress
) -> tuple[Source, QuantizedProgram | None]:
    """The folded model in the precision that is asked, calibrated for int8."""
    if options.quant != "int8":
        return Source(torch.export.export(folded, (subject.example,)), options.quant), None
    recipe = chosen_recipe(options)
    with progress("calibrating", passes(recipe) * len(subject.images.calibration)) as advance:
        quantized = calibrate(folded, recipe, Batches(subject, advance), subject.example)
    return Source(quantized, "int8"), quantized


@dataclass(frozen=True)
class Batches:
    """The calibration images, read again each time: however many there are, few are in memory."""

    subject: Subject
    advance: Advance

    def __iter__(self) -> Iterator[torch.Tensor]:
        for x in self.subject.images.calibration.batches(self.subject.weights.preprocess, BATCH):
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


def artifact_metadata(options: Options, subject: Subject) -> dict[str, str]:
    """What an artifact says of itself, as strings."""
    names = subject.class_names
    return {
        "edgevit_version": __version__,
        "model": subject.name,
        "quant": options.quant,
        "image_size": str(subject.model.image_size),
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
