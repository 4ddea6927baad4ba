"""The verbs of the command line as plain functions: ``export`` makes artifacts, ``verify`` derives their claims again."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calibrate.program import QuantizedProgram
from convert.target import Target, target
from edgevit import __version__, artifact, selection
from edgevit.bench import local, protocol
from edgevit.errors import ClaimError
from edgevit.rederive import rederive
from edgevit.selection import Selection
from edgevit.steps import (
    Lowered,
    Options,
    Progress,
    Subject,
    artifact_metadata,
    chosen_recipe,
    chosen_targets,
    count,
    fold_model,
    lower,
    make_source,
    measure_latency,
    measure_parity,
    prepare,
    silent,
)
from edgevit.verify.claims import Check
from edgevit.verify.parity import Link

PACKAGES = ("torch", "torchao", "onnx", "onnxruntime", "openvino", "numpy", "pillow")
Note = Callable[[str], None]


def ignore(message: str) -> None:
    """The ``note`` that nobody reads."""


def export(
    options: Options, out: Path, *, force: bool = False, progress: Progress = silent, note: Note = ignore
) -> dict[str, Any]:
    """Export to ``out`` and return the manifest, whose ``failures`` lists every claim that does not hold.

    ``note`` is told what a user should know on the way. Raises InputError for wrong input, with nothing written, and
    MissingError for a target whose runtime is not installed.
    """
    started = time.perf_counter()
    modules = {name: target(name) for name in chosen_targets(options.targets)}
    artifact.check_destination(out, force)
    subject = prepare(options, progress, note)
    with artifact.staged(out) as folder:
        manifest = build(options, subject, modules, folder, progress)
        manifest["export_seconds"] = round(time.perf_counter() - started, 2)
        artifact.write_json(folder / artifact.MANIFEST, manifest)
    return manifest


def build(
    options: Options, subject: Subject, modules: Mapping[str, Target], folder: Path, progress: Progress
) -> dict[str, Any]:
    """Fold, calibrate, lower and measure into ``folder``; returns the manifest."""
    folded, reports = fold_model(subject, progress)
    source, quantized = make_source(options, subject, folded, progress)
    metadata = artifact_metadata(options, subject)
    lowered = {name: lower(name, module, source, folder / name, metadata, progress) for name, module in modules.items()}
    links = measure_parity(options, subject, folded, quantized, lowered, progress)
    latency = measure_latency(options, subject, folded, lowered, progress)
    artifact.write_json(folder / artifact.IMAGES, image_lists(subject.images))
    return {
        "schema": artifact.SCHEMA,
        "edgevit": __version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": ["edgevit", *sys.argv[1:]],
        "options": asdict(options),
        "seed": options.seed,
        "model": describe_model(subject),
        "preprocess": subject.weights.preprocess.manifest(),
        "fold": [asdict(report) for report in reports],
        "quant": describe_quant(options, subject, quantized),
        "targets": {name: describe_target(entry) for name, entry in lowered.items()},
        "parity": describe_parity(subject, links),
        "latency": {name: describe_latency(options, item) for name, item in latency.items()},
        "failures": find_failures(options, lowered, links, latency),
        "environment": local.describe_host(PACKAGES),
    }


def find_failures(
    options: Options,
    lowered: Mapping[str, Lowered],
    links: list[Link],
    latency: Mapping[str, protocol.Comparison],
) -> list[str]:
    """A sentence for every claim that does not hold."""
    failures = [failure for name, entry in lowered.items() for failure in entry.failures(name)]
    failures += [reason for link in links if (reason := link.broken()) is not None]
    if options.judges_latency:
        failures += [
            f"{name}: INT8 takes {item.ratio.median:.2f} of the float time (95 % interval {item.ratio.ci95[0]:.2f} to "
            f"{item.ratio.ci95[1]:.2f}): slower on this host, which --allow-slower accepts"
            for name, item in latency.items()
            if protocol.slower_beyond_noise(item.ratio)
        ]
    return failures


def describe_model(subject: Subject) -> dict[str, Any]:
    weights = subject.weights
    params, macs = count(subject.model, subject.example)
    return {
        "name": subject.name,
        "image_size": subject.model.image_size,
        "classes": subject.model.classes,
        "class_names": list(weights.class_names) if weights.class_names else None,
        "params": params,
        "macs": macs,
        "weights": {
            "source": weights.source,
            "sha256": weights.sha256,
            "licence": weights.licence,
            "notes": list(weights.notes),
        },
    }


def describe_quant(options: Options, subject: Subject, quantized: QuantizedProgram | None) -> dict[str, Any]:
    images = subject.images
    described: dict[str, Any] = {
        "mode": options.quant,
        "data": images.calibration.source,
        "bad_images": [{"name": name, "reason": reason} for name, reason in images.bad],
    }
    if quantized is None:
        return described
    recipe = chosen_recipe(options)
    return described | {
        "recipe": recipe.manifest(),
        "method": "ptq",
        "calibration": {
            "images": len(images.calibration),
            "sha256_of_list": selection.sha256_of_list(images.calibration),
            "observer": recipe.observer,
        },
        "operators": quantized.asked,
        "tensors": {name: entry.manifest() for name, entry in quantized.tensors.items()},
    }


def describe_target(lowered: Lowered) -> dict[str, Any]:
    census = lowered.census
    described = {
        "path": lowered.folder.name,
        **artifact.describe_files(lowered.folder),
        "tool_version": local.installed_version(lowered.module.PACKAGE),
        "export_seconds": round(lowered.seconds, 2),
        "peak_rss_mb": round(lowered.peak_rss_mb),
        "census": {
            "int8": census.int8,
            "float": census.float,
            "int8_asked": len(census.asked),
            "int8_delivered": len(census.asked) - len(census.missing),
        },
    }
    return described if lowered.grid is None else described | {"grid": lowered.grid.manifest()}


def describe_parity(subject: Subject, links: list[Link]) -> dict[str, Any]:
    scored = subject.images.scored
    return {
        "images": len(scored),
        "labels": scored.labelled,
        "sha256_of_list": selection.sha256_of_list(scored),
        "links": [link.manifest() for link in links],
    }


def describe_latency(options: Options, comparison: protocol.Comparison) -> dict[str, Any]:
    """``speedup`` is float time over artifact time, with its interval, from paired blocks of one run."""
    ours, twin, ratio = comparison.a, comparison.b, comparison.ratio
    return {
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
        "speedup": 1 / ratio.median,
        "speedup_ci95": [1 / ratio.ci95[1], 1 / ratio.ci95[0]],
        "steady": comparison.steady,
    }


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
    note: Note = ignore,
) -> list[Check]:
    """Derive every claim of the export in ``folder`` again: from its files, its weights and its images.

    ``data`` and ``weights`` say where those lie now, if they were moved. Raises InputError if ``folder`` is no export.
    """
    manifest = artifact.read_manifest(folder)
    try:
        return list(rederive(folder, manifest, data, weights, progress, note))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ClaimError(f"{folder / artifact.MANIFEST} is damaged ({error!r}): export again") from error
