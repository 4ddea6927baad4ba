"""What was made and measured, as a manifest has it."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calibrate.program import QuantizedProgram
from convert.fold import FoldReport
from convert.registry import TARGETS
from edgevit import __version__, artifact, selection
from edgevit.bench import local, protocol
from edgevit.lowering import SELECTION, Lowered
from edgevit.measuring import Latency
from edgevit.options import Options
from edgevit.selection import Selection
from edgevit.steps import Subject, describe_model
from edgevit.verify.parity import Link

PACKAGES = ("torch", "torchao", "onnx", "onnxruntime", "openvino", "executorch", "coremltools", "numpy", "pillow")


def describe_making(
    options: Options,
    subject: Subject,
    folder: Path,
    reports: Sequence[FoldReport],
    quantized: QuantizedProgram | None,
    links: list[Link],
) -> dict[str, Any]:
    """What exports and calibrations have in common; the list of images is in ``folder``."""
    return {
        "edgevit": __version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "options": asdict(options),
        "seed": options.seed,
        "model": describe_model(subject),
        "preprocess": subject.weights.preprocess.manifest(),
        "fold": [asdict(report) for report in reports],
        "images": describe_images(subject.images, folder / artifact.IMAGES),
        "quant": describe_quant(options, subject, quantized),
        "parity": describe_parity(subject, links),
        "environment": local.describe_host(PACKAGES),
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
    """Whether it was calibrated here or before."""
    if quantized is None:
        return {"mode": options.quant}
    made, images = subject.calibration, subject.images.calibration
    calibrated = (
        made.description["quant"]
        if made
        else {
            "method": "ptq",
            "calibration": {
                "images": len(images),
                "sha256_of_list": selection.sha256_of_list(images),
                "observer": subject.recipe.observer,
            },
        }
    )
    return {
        "mode": options.quant,
        "recipe": subject.recipe.manifest(),
        "method": calibrated["method"],
        "calibration": calibrated["calibration"],
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
        "batch": options.batch,
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
