"""The verbs of the command line as functions: ``export`` makes artifacts, ``verify`` derives their claims again."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calibrate.program import QuantizedProgram
from convert.registry import TARGETS
from convert.target import Target, target
from edgevit import __version__, artifact, selection
from edgevit.bench import local, protocol
from edgevit.lowering import SELECTION, Lowered, Lowering, lower
from edgevit.measuring import Latency, float_bytes, measure_latency, measure_parity, write_twins
from edgevit.options import Options
from edgevit.rederive import rederive
from edgevit.selection import Selection
from edgevit.steps import (
    Progress,
    Subject,
    artifact_metadata,
    chosen_recipe,
    count,
    fold_model,
    make_programs,
    prepare,
    silent,
)
from edgevit.verify.claims import Check
from edgevit.verify.parity import Link

PACKAGES = ("torch", "torchao", "onnx", "onnxruntime", "openvino", "executorch", "coremltools", "numpy", "pillow")
Note = Callable[[str], None]


def ignore(message: str) -> None:
    """The ``note`` that nobody reads."""


def export(
    options: Options,
    out: Path,
    *,
    force: bool = False,
    command: Sequence[str] = (),
    progress: Progress = silent,
    note: Note = ignore,
) -> dict[str, Any]:
    """Export to ``out`` and return the manifest, whose ``failures`` lists every claim that does not hold.

    ``command`` is recorded as what made the export, and ``note`` is told what a user should know on the way. Raises
    InputError for wrong input, with nothing written, and MissingError for a target whose runtime is not installed.
    """
    started = time.perf_counter()
    options = options.anchored()
    modules = {name: target(name) for name in options.targets}
    artifact.check_destination(out, force)
    subject = prepare(options, progress, note)
    with artifact.staged(out) as folder:
        manifest = build(options, subject, modules, folder, progress) | {"command": list(command)}
        manifest["export_seconds"] = round(time.perf_counter() - started, 2)
        artifact.write_json(folder / artifact.MANIFEST, manifest)
    for name, timing in manifest["latency"].items():
        if (reason := pruning_costs(name, timing)) is not None:
            note(reason)
    return artifact.read_manifest(out)


def build(
    options: Options, subject: Subject, modules: Mapping[str, Target], folder: Path, progress: Progress
) -> dict[str, Any]:
    """Fold, calibrate, lower and measure into ``folder``; returns the manifest."""
    folded, reports = fold_model(options, subject, progress)
    programs, quantized = make_programs(options, subject, folded, progress)
    metadata, forms = artifact_metadata(options, subject), {name: options.form(name) for name in modules}
    with Lowering(programs, forms, metadata, folder) as lowering:

        def lowered_to(name: str) -> Lowered:
            with progress(f"lowering to {name}", None):
                return lower(name, modules[name], lowering, options.threads)

        # Those that are lowered beside come last: until they are done, there is time for the others' twins.
        slow = [name for name in modules if TARGETS[name].slow]
        fast = [name for name in modules if name not in slow]
        done = {name: lowered_to(name) for name in fast}
        write_twins({name: modules[name] for name in fast}, lowering, progress)
        done |= {name: lowered_to(name) for name in slow}
        lowered = {name: done[name] for name in modules}
        links = measure_parity(options, subject, folded, quantized, lowered, progress)
        latency = measure_latency(options, subject, lowered, lowering, progress)
        sizes = float_bytes(lowered, lowering)
    artifact.write_json(folder / artifact.IMAGES, image_lists(subject.images))
    return {
        "schema": artifact.SCHEMA,
        "edgevit": __version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "options": asdict(options),
        "seed": options.seed,
        "model": describe_model(subject),
        "preprocess": subject.weights.preprocess.manifest(),
        "fold": [asdict(report) for report in reports],
        "images": describe_images(subject.images, folder / artifact.IMAGES),
        "quant": describe_quant(options, subject, quantized),
        "targets": {name: describe_target(name, entry, sizes.get(name)) for name, entry in lowered.items()},
        "parity": describe_parity(subject, links),
        "latency": {name: describe_latency(options, item) for name, item in latency.items()},
        "failures": find_failures(options, lowered, links, latency),
        "environment": local.describe_host(PACKAGES),
    }


def find_failures(
    options: Options,
    lowered: Mapping[str, Lowered],
    links: list[Link],
    latency: Mapping[str, Latency],
) -> list[str]:
    """A sentence for every claim that does not hold."""
    failures = [failure for name, entry in lowered.items() for failure in entry.failures(name)]
    failures += [f"{link.name}: {reason}" for link in links if (reason := link.broken()) is not None]
    if options.judges_latency:
        failures += [
            f"{name}: INT8 takes {ratio.median:.2f} of the float time (95 % interval {ratio.ci95[0]:.2f} to "
            f"{ratio.ci95[1]:.2f}): slower on this host, which --allow-slower accepts"
            for name, ratio in ((name, item.float.ratio) for name, item in latency.items())
            if protocol.slower_beyond_noise(ratio)
        ]
    return failures


def pruning_costs(name: str, timing: Mapping[str, Any]) -> str | None:
    """What to say where an artifact that prunes tokens takes longer than itself keeping them all, beyond the noise."""
    if "pruning_speedup" not in timing or timing["pruning_speedup_ci95"][1] >= 1:
        return None
    low, high = timing["pruning_speedup_ci95"]
    return (
        f"{name}: pruning makes it slower here, {timing['pruning_speedup']:.2f} times as fast as unpruned "
        f"(95 % interval {low:.2f} to {high:.2f}): --keep-ratio 1 exports the unpruned model"
    )


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


def describe_images(images: Selection, listed: Path) -> dict[str, Any]:
    """Where the images lie, which file lists those that were used, and what was passed over."""
    return {
        "data": images.scored.source,
        "list": {"path": listed.name, "sha256": artifact.sha256_of(listed)},
        "skipped": len(images.bad),
        "bad": [{"name": name, "reason": reason} for name, reason in images.bad],
        "duplicates": images.duplicates,
    }


def describe_quant(options: Options, subject: Subject, quantized: QuantizedProgram | None) -> dict[str, Any]:
    if quantized is None:
        return {"mode": options.quant}
    recipe, images = chosen_recipe(options), subject.images.calibration
    return {
        "mode": options.quant,
        "recipe": recipe.manifest(),
        "method": "ptq",
        "calibration": {
            "images": len(images),
            "sha256_of_list": selection.sha256_of_list(images),
            "observer": recipe.observer,
        },
        "operators": quantized.asked,
        "tensors": {name: entry.manifest() for name, entry in quantized.tensors.items()},
    }


def describe_target(name: str, lowered: Lowered, float_bytes: int | None) -> dict[str, Any]:
    census = lowered.census
    described = {
        "path": lowered.folder.name,
        **artifact.describe_files(lowered.folder),
        "float_bytes": float_bytes,
        "tool_version": local.installed_version(TARGETS[name].package),
        "export_seconds": round(lowered.seconds, 2),
        "peak_rss_mb": round(lowered.peak_rss_mb),
        "census": {
            **census.counts(),
            "int8_asked": len(census.asked),
            "int8_delivered": len(census.asked) - len(census.missing),
        },
    }
    if lowered.grid is not None:
        described["grid"] = lowered.grid.manifest()
    if lowered.selection is not None:
        path = f"{SELECTION}/{name}"
        described["selection"] = {"path": path, **artifact.describe_files(lowered.selection)}
    return described


def describe_parity(subject: Subject, links: list[Link]) -> dict[str, Any]:
    scored = subject.images.scored
    return {
        "images": len(scored),
        "labels": scored.labelled,
        "sha256_of_list": selection.sha256_of_list(scored),
        "links": [link.manifest() for link in links],
    }


def describe_latency(options: Options, latency: Latency) -> dict[str, Any]:
    """``speedup`` is float time over artifact time, with its interval, from paired blocks of one run.

    ``pruning_speedup`` likewise, over the time of the same artifact without pruning.
    """
    comparison = latency.float
    ours, twin = comparison.a, comparison.b
    described = {
        "device": "this host",
        "threads": options.threads,
        "batch": 1,
        "runs": ours.runs,
        "p50_ms": ours.p50_ms,
        "p90_ms": ours.p90_ms,
        "p99_ms": ours.p99_ms,
        "float_p50_ms": twin.p50_ms,
        "float_p90_ms": twin.p90_ms,
        "float_p99_ms": twin.p99_ms,
        **speedup("speedup", comparison),
        "steady": comparison.steady,
    }
    if latency.unpruned is not None:
        beside = latency.unpruned  # a run of its own, with its own median of the artifact
        described |= {"pruned_p50_ms": beside.a.p50_ms, "unpruned_p50_ms": beside.b.p50_ms}
        described |= speedup("pruning_speedup", beside)
    return described


def speedup(name: str, comparison: protocol.Comparison) -> dict[str, Any]:
    ratio = comparison.ratio
    return {name: 1 / ratio.median, f"{name}_ci95": [1 / ratio.ci95[1], 1 / ratio.ci95[0]]}


def image_lists(images: Selection) -> dict[str, Any]:
    return {
        "calibration": selection.manifest_images(images.calibration),
        "scored": selection.manifest_images(images.scored),
    }


def verify(
    folder: Path,
    *,
    data: str | None = None,
    weights: str | None = None,
    progress: Progress = silent,
) -> list[Check]:
    """Derive every claim of the export in ``folder`` again: from its files, its weights and its images.

    ``data`` and ``weights`` say where those lie now, if they were moved. Raises InputError if ``folder`` is no export,
    ClaimError if its manifest is no JSON, and MissingError for a runtime that is not installed.

    Some of a manifest is a record of the moment and cannot be derived again: ``created``, ``command``, ``environment``,
    ``tool_version``, ``runs``, seconds, peak memory, and what a millisecond was on that machine that day. Latency is
    therefore checked as a ratio to the float twin, timed again, and for agreement with itself. Neither is a manifest
    signed: verify tells what no longer fits together, not who made it.
    """
    manifest = artifact.read_manifest(folder)
    checks = []
    try:
        for check in rederive(folder, manifest, data, weights, progress):
            checks.append(check)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        checks.append(Check("the manifest's form", f"damaged ({error!r}): export again"))
    return checks
