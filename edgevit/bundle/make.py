"""The bundle of an export: its artifacts, and one reference input with what each of them gives for it here.

A device's kernels differ from this host's as those of another implementation do. How near it has to come is therefore
taken from what was measured: how far the artifact is from its program, how far its answer moves when the reference
moves by one part in a million, and MARGIN beyond the lower of the two.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.registry import TARGETS
from convert.source import INPUT
from convert.target import Run, target
from edgevit import __version__, artifact, metrics
from edgevit.bundle.contract import BUNDLE, SCHEMA, check_bundle
from edgevit.errors import ClaimError, InputError
from edgevit.images import ImageSet, Preprocess, open_images, printable
from edgevit.models.checkpoint import read_preprocess
from edgevit.verify import parity

LOOKED_AT = 16  # scored images, of which the clearest becomes the reference
REFERENCE = "reference.f32"
MARGIN = 6.0  # dB: twice the noise
NEAREST = 60.0  # dB: no device is asked for more

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


def make(folder: Path, names: Sequence[str], data: str | None, out: Path, progress: Progress) -> dict[str, Any]:
    """Write the bundle of the targets ``names`` of the export in ``folder`` to ``out``, and return it.

    ``data`` says where the export's images are, if they were moved. Raises InputError where they are not there, or for
    an export that an app cannot take; ClaimError for an artifact that is not what the export wrote; MissingError for a
    runtime that is not installed.
    """
    manifest = artifact.read_manifest(folder)
    check_form(manifest, names)
    check_files(folder, manifest, names)
    images = reference_images(folder, data or str(manifest["options"]["data"]))
    runs = {name: target(name).load(folder / manifest["targets"][name]["path"]) for name in names}
    with progress("choosing the reference", len(images)) as advance:
        x = clearest(runs[names[0]], images.batches(preprocess_of(manifest)), advance)
    models = {}
    for name in names:
        with progress(f"reference output of {name}", None):
            shutil.copytree(folder / manifest["targets"][name]["path"], out / name)
            models[name] = model(name, runs[name], x, manifest, out)
    bundle = {
        "schema": SCHEMA,
        "edgevit": __version__,
        "export_sha256": artifact.sha256_of(folder / artifact.MANIFEST),
        "model": manifest["model"]["name"],
        "quant": manifest["quant"]["mode"],
        "input": {"name": INPUT, "shape": list(x.shape)},
        "classes": manifest["model"]["classes"],
        "labels": manifest["model"]["class_names"],
        "preprocess": manifest["preprocess"],
        "reference": write_floats(out / REFERENCE, x),
        "models": models,
    }
    check_bundle(bundle)
    artifact.write_json(out / BUNDLE, bundle)
    return bundle


def check_form(manifest: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise InputError for artifacts that take or give something else than an app does."""
    options = manifest["options"]
    if options.get("batch", 1) > 1:
        raise InputError(f"this export takes {options['batch']} images at once, an app one: export without --batch")
    if "coreml" in names and (options["image_input"] or options["classifier"]):
        raise InputError("an app takes a tensor and logits: export Core ML without --image-input and --classifier")


def check_files(folder: Path, manifest: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        place = folder / manifest["targets"][name]["path"]
        if artifact.describe_files(place)["files"] != manifest["targets"][name]["files"]:
            raise ClaimError(f"{place} is not what its manifest describes: export it again")


def reference_images(folder: Path, data: str) -> ImageSet:
    """The first of those that were scored. Raises InputError where they are not there as they were."""
    listed = artifact.read_json(folder / artifact.IMAGES)["scored"][:LOOKED_AT]
    images = open_images(data)
    items = {item.name: item for item in images.items}
    for entry in listed:
        if entry["name"] not in items or items[entry["name"]].sha256() != entry["sha256"]:
            name = printable(entry["name"])
            raise InputError(f"{name} is not in {printable(data)} as it was scored: say where it is with --data")
    return ImageSet(images.source, [items[entry["name"]] for entry in listed])


def preprocess_of(manifest: Mapping[str, Any]) -> Preprocess:
    return read_preprocess({k: v for k, v in manifest["preprocess"].items() if k not in ("layout", "colour")})


def clearest(run: Run, images: Any, advance: Callable[[int], None]) -> NDArray[np.float32]:
    """``[1, 3, S, S]``: the image whose first class is farthest before its second, beside the spread of its logits."""
    best, chosen = -1.0, None
    for x in images:
        logits = np.sort(run(x)[0].astype(np.float64))
        margin = (logits[-1] - logits[-2]) / (logits.std() or 1.0) if len(logits) > 1 else 0.0
        if margin > best:
            best, chosen = margin, x
        advance(1)
    assert chosen is not None  # an export scores one image at least
    return np.ascontiguousarray(chosen, np.float32)


def model(name: str, run: Run, x: NDArray[np.float32], manifest: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """What a bundle says of one model, whose files lie in ``out / name``."""
    described = artifact.describe_files(out / name)
    logits = run(x)
    if not np.any(logits):
        raise InputError(f"{name} gives nothing but zeros, so that nothing compares with it: export trained weights")
    return {
        "path": f"{name}/{TARGETS[name].file}",
        "files": {f"{name}/{path}": digest for path, digest in described["files"].items()},
        "bytes": described["bytes"],
        "reference": write_floats(out / f"reference-{name}.f32", logits),
        "min_sqnr_db": nearness(name, run, x, manifest),
    }


def nearness(name: str, run: Run, x: NDArray[np.float32], manifest: Mapping[str, Any]) -> float:
    """``min_sqnr_db``; 0 where the artifact's own noise is as large as its answer."""
    floor = min(metrics.self_noise(run, [x], seed) for seed in range(parity.FLOOR_DRAWS))
    link = next(link for link in manifest["parity"]["links"] if link["to"] == name and link["from"] != parity.ORIGINAL)
    measured: float = link["tokens"]["each_its_own"]["sqnr_db"] if "tokens" in link else link["sqnr_db"]
    return max(0.0, min(NEAREST, floor - MARGIN, measured - MARGIN))


def write_floats(path: Path, values: NDArray[np.float32]) -> dict[str, str]:
    """Little-endian float32; returns what a bundle says of the file."""
    data = np.ascontiguousarray(values, "<f4").tobytes()
    path.write_bytes(data)
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}
