"""The steps of an export, each a function of what the one before it made. ``edgevit.pipeline`` puts them in order."""

import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule
from torch.utils.flop_counter import FlopCounterMode

from calibrate.program import QuantizedProgram
from calibrate.ptq import calibrate
from calibrate.recipe import Observer, Recipe
from calibrate.recipes import DEFAULTS
from convert.fold import FoldReport, fold
from convert.registry import TARGETS
from convert.source import Precision, Source
from convert.target import Census, Target, readable, write
from edgevit import __version__, selection
from edgevit.bench import local, protocol
from edgevit.beside import Beside, Job, Written
from edgevit.errors import ClaimError, InputError
from edgevit.images import open_images
from edgevit.models import registry
from edgevit.models import weights as model_weights
from edgevit.models.weights import Weights
from edgevit.selection import Selection
from edgevit.verify import grid, parity
from edgevit.verify.parity import Limits, Link, Logits, Stage

Advance = Callable[[int], None]
Progress = Callable[[str, int | None], AbstractContextManager[Advance]]
BATCH = 25  # images at once through torch: more gains nothing on a few cores
PROBE = 4  # images that measure what a fold changes


@contextmanager
def silent(title: str, total: int | None = None) -> Iterator[Advance]:
    """The progress that shows nothing."""
    yield lambda count: None


@dataclass(frozen=True)
class Options:
    """What an export is asked to do. None stands for the default that depends on the weights or the images."""

    model: str = "efficientvit_m0"
    targets: tuple[str, ...] = ("openvino",)
    quant: Precision = "int8"
    weights: str | None = None  # bundled where there are such, else it must be named
    data: str = "bundled"
    image_size: int | None = None
    classes: int | None = None
    calib_size: int | None = None
    parity_images: int | None = None
    observer: Observer | None = None
    seed: int = 0
    threads: int = 1
    runs: int = 480
    min_sqnr: float | None = None
    min_agreement: float | None = None
    max_drop: float | None = None
    allow_slower: bool = False
    skip_bad_images: bool = False
    ios: int = 17
    image_input: bool = False
    classifier: bool = False

    @property
    def judges_latency(self) -> bool:
        """Whether being slower than the float twin is a failure."""
        return self.quant == "int8" and not self.allow_slower

    @property
    def trained(self) -> bool:
        """Whether accuracy means anything."""
        return self.weights != "random"

    def limits(self, self_noise_db: float) -> Limits:
        """Of the links that end in an artifact or the quantised program; the noise is that of the original."""
        if self.trained:
            usual = parity.LIMITS[self.quant]
        else:
            usual = parity.EXACT_UNTRAINED if self.quant == "fp32" else parity.UNTRAINED
        given = {"min_sqnr_db": self.min_sqnr, "min_agreement": self.min_agreement, "max_drop": self.max_drop}
        usual = parity.above_noise(usual, self_noise_db)
        return replace(usual, **{k: v for k, v in given.items() if v is not None})

    def form(self, name: str) -> dict[str, Any]:
        """How an app meets the artifact of target ``name``: only Core ML offers a choice."""
        if name != "coreml":
            return {}
        return {"ios": self.ios, "image_input": self.image_input, "classifier": self.classifier}

    def anchored(self) -> "Options":
        """With absolute paths and the targets' own names, so that they mean the same anywhere and at any time."""
        data = self.data if self.data == "bundled" else str(Path(self.data).absolute())
        named = self.weights in (None, "bundled", "official", "random")
        weights = self.weights if named else str(Path(str(self.weights)).absolute())
        return replace(self, data=data, weights=weights, targets=chosen_targets(self.targets))


@dataclass(frozen=True)
class Subject:
    """The model with its weights, and the images that it is calibrated and scored on."""

    name: str
    model: nn.Module
    weights: Weights
    images: Selection

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """In the order of the logits: the weights' own, else those of the images where they are as many."""
        names = self.weights.class_names or self.images.scored.classes
        return names if names is not None and len(names) == self.model.classes else None

    @property
    def example(self) -> torch.Tensor:
        """``[1, 3, S, S]``: the first calibration image."""
        return torch.from_numpy(next(self.images.calibration.batches(self.weights.preprocess)))


@dataclass(frozen=True)
class Lowered:
    """One target's artifact, opened again."""

    folder: Path
    module: Target
    census: Census
    grid: grid.GridDiff | None  # None for a float artifact
    seconds: float
    peak_rss_mb: float

    def failures(self, name: str) -> list[str]:
        failures = []
        if self.census.missing:
            first = ", ".join(self.census.missing[:3])
            count = len(self.census.missing)
            failures.append(f"{name}: {count} operators asked in INT8 run in float, such as {first}")
        if self.grid is not None and not self.grid.matches:
            first = ", ".join(self.grid.differing[:3])
            failures.append(f"{name}: {len(self.grid.differing)} tensors are on another grid, such as {first}")
        return failures


def chosen_targets(names: tuple[str, ...]) -> tuple[str, ...]:
    """In their order, once each; ``all`` stands for every target, installed or not."""
    expanded = [t for name in names for t in (TARGETS if name == "all" else [name])]
    return tuple(dict.fromkeys(expanded))


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
            seed=options.seed,
            report=report,
        )


def fold_model(subject: Subject, progress: Progress) -> tuple[GraphModule, list[FoldReport]]:
    """Fold on a batch of calibration images."""
    images = subject.images.calibration
    probe = next(images.take(range(min(PROBE, len(images)))).batches(subject.weights.preprocess, PROBE))
    with progress("folding", None):
        return fold(subject.model, torch.from_numpy(probe))


def make_source(
    options: Options, subject: Subject, folded: GraphModule, progress: Progress
) -> tuple[Source, QuantizedProgram | None]:
    """The program that every target is lowered from: quantised for int8, else the folded one."""
    if options.quant != "int8":
        return Source(torch.export.export(folded, (subject.example,)), options.quant), None
    images = subject.images.calibration
    with progress("calibrating", len(images)) as advance:

        def batches() -> Iterator[torch.Tensor]:
            for x in images.batches(subject.weights.preprocess, BATCH):
                yield torch.from_numpy(x)
                advance(len(x))

        quantized = calibrate(folded, chosen_recipe(options), batches(), subject.example)
    return Source(quantized, "int8"), quantized


def chosen_recipe(options: Options) -> Recipe:
    """The model family's default, with the observer that was asked for."""
    recipe = DEFAULTS[registry.entry(options.model).family]
    return recipe if options.observer is None else replace(recipe, observer=options.observer)


class Lowering(Beside):
    """What is to be written of each target: its artifact, in the export, and a float twin of it, which is thrown away.

    Slow targets are written beside the rest: both of theirs, or the twin alone where there is no rest, or no
    artifact to be written (``folder`` is None).
    """

    def __init__(
        self,
        options: Options,
        subject: Subject,
        folded: GraphModule,
        source: Source,
        metadata: Mapping[str, str],
        folder: Path | None,
    ) -> None:
        self.options, self.source, self.metadata = options, source, metadata
        self.twin = Source(torch.export.export(folded, (subject.example,)), "fp32")
        self.twins = tempfile.TemporaryDirectory(prefix="edgevit-")
        jobs: list[Job] = []
        for name in options.targets:
            if not TARGETS[name].needs_macos:
                self.twin_of(name).mkdir()
            if TARGETS[name].slow:
                jobs = [Job(name, self.twin, self.twin_of(name), {}, options.form(name)), *jobs]
                if folder is not None and len(options.targets) > 1:
                    (folder / name).mkdir()
                    jobs = [Job(name, source, folder / name, metadata, options.form(name)), *jobs]
        super().__init__(jobs)

    def twin_of(self, name: str) -> Path:
        return Path(self.twins.name) / name

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.twins.cleanup()

    def write_artifact(self, name: str, module: Target, folder: Path) -> Written:
        """Have the artifact of ``name`` written into ``folder``."""
        if (written := self.finish(folder)) is not None:
            return written
        folder.mkdir()
        started = time.perf_counter()
        write(name, module, self.source, folder, self.metadata, self.options.form(name))
        return Written(time.perf_counter() - started, local.peak_rss_mb())

    def write_twin(self, name: str, module: Target) -> Path:
        """Have the float twin of ``name`` written, unless it is; returns its folder."""
        folder = self.twin_of(name)
        if self.finish(folder) is None and not any(folder.iterdir()):
            write(name, module, self.twin, folder, {}, self.options.form(name))
        return folder


def lower(name: str, module: Target, lowering: Lowering, folder: Path, progress: Progress) -> Lowered:
    """Write one target's artifact, open it again in its runtime and run it once.

    Raises InputError if the target cannot express an operator, ClaimError if what it wrote does not load or run.
    """
    source = lowering.source
    with progress(f"lowering to {name}", None):
        written = lowering.write_artifact(name, module, folder)
        run_once(name, module, source, folder, lowering.options.threads)
        asked = source.quantized.asked if source.quantized else {}
        census = module.census(folder, asked)
        difference = grid.diff(source.quantized.tensors, module.grid(folder)) if source.quantized else None
    return Lowered(folder, module, census, difference, written.seconds, written.peak_rss_mb)


def run_once(name: str, module: Target, source: Source, folder: Path, threads: int) -> None:
    """Some failures of a lowering show only here."""
    assert source.program.example_inputs is not None
    (x,) = source.program.example_inputs[0]
    try:
        module.load(folder, threads)(x.numpy())
    except Exception as error:
        notes = " ".join(getattr(error.__cause__ or error, "__notes__", []))
        raise ClaimError(
            f"what was lowered to {name} does not run here ({error} {notes}): leave the target out"
        ) from error


def measure_parity(
    options: Options,
    subject: Subject,
    folded: GraphModule,
    quantized: QuantizedProgram | None,
    lowered: Mapping[str, Lowered],
    progress: Progress,
) -> list[Link]:
    """Every link of the chain, and each artifact against the original."""
    images, preprocess = subject.images.scored, subject.weights.preprocess
    chain = [Stage(parity.ORIGINAL, torch_run(subject.model), BATCH), Stage(parity.FOLDED, torch_run(folded), BATCH)]
    if quantized is not None:
        chain.append(Stage(parity.QUANTISED, torch_run(quantized.run), BATCH))
    artifacts = [
        Stage(name, artifact_run(entry, options.threads), entry.module.BATCH) for name, entry in lowered.items()
    ]
    stages = [*chain, *artifacts, *mac_stages(lowered)]
    with progress("parity", len(images)) as advance:
        outputs = parity.predict(stages, images, preprocess, advance)
    noise: dict[str, float] = {}
    for stage in stages:
        with progress(f"self-noise: {stage.name}", None):
            noise[stage.name] = parity.self_noise(stage, images, preprocess, options.seed)

    def link(from_: Stage, to: Stage, limits: Limits) -> Link:
        ends = [(stage.name, outputs[stage.name]) for stage in (from_, to)]
        return parity.link(ends[0], ends[1], noise[to.name], images.labels(), limits)

    limits = options.limits(noise[parity.ORIGINAL])
    exact = parity.EXACT if options.trained else parity.EXACT_UNTRAINED
    links = [link(chain[0], chain[1], parity.above_noise(exact, noise[parity.ORIGINAL]))]
    links += [link(chain[1], stage, limits) for stage in chain[2:]]
    links += [link(chain[-1], stage, limits) for stage in artifacts]
    links += [link(chain[0], stage, limits) for stage in artifacts]
    if stages[-1].name == parity.ON_MAC:
        if options.classifier:
            outputs["coreml"] = softmax(outputs["coreml"])  # a classifier on a Mac gives probabilities
        links.append(link(stages[len(chain) + list(lowered).index("coreml")], stages[-1], limits))
    return links


def mac_stages(lowered: Mapping[str, Lowered]) -> list[Stage]:
    """Core ML itself, beside the evaluator that stands in for it elsewhere."""
    if "coreml" not in lowered or platform.system() != "Darwin":
        return []
    from convert import coreml

    return [Stage(parity.ON_MAC, coreml.predict(lowered["coreml"].folder))]


def softmax(logits: Logits) -> Logits:
    probabilities: Logits = torch.from_numpy(logits).softmax(-1).numpy()
    return probabilities


def torch_run(model: Callable[[torch.Tensor], torch.Tensor]) -> parity.Run:
    @torch.no_grad()
    def run(x: NDArray[np.float32]) -> Logits:
        logits: Logits = model(torch.from_numpy(x)).numpy()
        return logits

    return run


def artifact_run(lowered: Lowered, threads: int) -> parity.Run:
    """An artifact as a function. Raises ClaimError if its runtime cannot load or run it."""
    runtime = lowered.module.load(lowered.folder, threads)

    def run(x: NDArray[np.float32]) -> Logits:
        with readable(lowered.folder):
            return runtime(x)

    return run


def measure_latency(
    subject: Subject, lowered: Mapping[str, Lowered], lowering: Lowering, progress: Progress
) -> dict[str, protocol.Comparison]:
    """Each artifact against the fp32 artifact of its target, once nothing else runs.

    A target whose runtime is not on this host is left out: an evaluator's time says nothing about a device's.
    """
    options, x = lowering.options, subject.example.numpy()
    twins = write_twins({name: entry.module for name, entry in lowered.items()}, lowering, progress)
    comparisons = {}
    for name, twin in twins.items():
        with progress(f"latency: {name}", None):
            entry = lowered[name]
            run, float_run = (entry.module.load(path, options.threads) for path in (entry.folder, twin))
            comparisons[name] = protocol.compare(
                lambda run=run: run(x),  # type: ignore[misc]
                lambda float_run=float_run: float_run(x),  # type: ignore[misc]
                runs=options.runs,
                seed=options.seed,
            )
    return comparisons


def write_twins(modules: Mapping[str, Target], lowering: Lowering, progress: Progress) -> dict[str, Path]:
    """Have the float twin of every target written that can be timed here; their folders."""
    twins = {}
    for name, module in modules.items():
        if not TARGETS[name].needs_macos:
            with progress(f"float twin: {name}", None):
                twins[name] = lowering.write_twin(name, module)
    return twins


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
    }


def count(model: nn.Module) -> tuple[int, int]:
    """Parameters, and multiply-accumulates of one image: convolutions and matrix products only."""
    size = cast(int, model.image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2
