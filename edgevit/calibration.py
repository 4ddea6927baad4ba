"""A calibration on disk: the quantised program as tensors, and what it was made of and what it came to as JSON."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from calibrate.recipe import Recipe
from edgevit import artifact
from edgevit.errors import ClaimError, InputError
from edgevit.images import printable

DESCRIPTION, TENSORS = artifact.DESCRIPTION, "calibration.safetensors"
SENSITIVITY, CHART = artifact.SENSITIVITY, "sensitivity.svg"  # where they were asked for
SCHEMA = artifact.CALIBRATION_SCHEMA
SEEN = ("calibration", "trained")  # parts of its list of images


@dataclass(frozen=True)
class Calibration:
    """``tensors`` are those of ``calibrate.saved``; ``description`` is ``calibration.json``."""

    folder: Path
    description: Mapping[str, Any]
    recipe: Recipe
    tensors: dict[str, Tensor]
    images: frozenset[str]  # SHA-256 of each image that calibrated or trained


def write(folder: Path, tensors: dict[str, Tensor]) -> dict[str, str]:
    """Write the tensors; returns where they are and their digest, which is that of the quantised program."""
    (folder / TENSORS).write_bytes(save(tensors))
    return {"path": TENSORS, "sha256": artifact.sha256_of(folder / TENSORS)}


def describe(folder: Path) -> Mapping[str, Any]:
    """``calibration.json`` of ``folder``. Raises InputError if that is no calibration of this schema."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InputError(f"{folder} holds no {DESCRIPTION}: name a folder that edgevit calibrate wrote")
    try:
        description = artifact.read_json(path)
    except ClaimError:
        raise damaged(folder) from None
    if not isinstance(description, dict) or description.get("schema") != SCHEMA:
        raise InputError(f"{path} is not of schema {SCHEMA}: calibrate again with this edgevit")
    return description


def read(folder: Path) -> Calibration:
    """Raises InputError if ``folder`` holds no calibration, or a damaged one."""
    description = describe(folder)
    try:
        stated = {entry["path"]: entry["sha256"] for entry in (description["tensors"], description["images"]["list"])}
        if any(artifact.sha256_of(folder / path) != digest for path, digest in stated.items()):
            raise damaged(folder)
        listed = artifact.read_json(folder / artifact.IMAGES)
        return Calibration(
            folder,
            description,
            Recipe.from_manifest(description["quant"]["recipe"]),
            load_file(folder / TENSORS),
            frozenset(entry["sha256"] for part in SEEN for entry in listed.get(part, [])),
        )
    except (OSError, LookupError, TypeError, ValueError, SafetensorError, ClaimError):
        raise damaged(folder) from None


def copy(calibration: Calibration, folder: Path) -> Path:
    """A copy below ``folder``, which an export keeps to be verified by."""
    copied = folder / artifact.CALIBRATION
    copied.mkdir()
    for name in (DESCRIPTION, TENSORS, artifact.IMAGES, SENSITIVITY, CHART):
        if (calibration.folder / name).exists():
            shutil.copyfile(calibration.folder / name, copied / name)
    return copied


def damaged(folder: Path) -> InputError:
    return InputError(f"the calibration in {folder} is damaged: copy it whole, or calibrate again")


def check_subject(calibration: Calibration, model: Mapping[str, Any], preprocess: Mapping[str, Any]) -> None:
    """Raise InputError unless it is for the model that ``model`` and ``preprocess`` describe as a manifest does."""
    stated = calibration.description["model"]
    asked = json.loads(json.dumps({**model, **model["weights"], "preprocess": preprocess}))
    made = {**stated, **stated["weights"], "preprocess": calibration.description["preprocess"]}
    names = {
        "name": "model",
        "image_size": "image size",
        "classes": "number of classes",
        "keep_ratio": "keep ratio",
        "sha256": "weights",
        "predictors_sha256": "token predictors",
        "preprocess": "preprocessing",
    }
    for key, name in names.items():
        if asked.get(key) != made.get(key):
            here, there = (printable(shown(value)) for value in (asked.get(key), made.get(key)))
            raise InputError(
                f"the calibration in {calibration.folder} is for another {name}, {there} where {here} is given: "
                "give the same, or calibrate this one"
            )


def check_folds(calibration: Calibration, reports: Sequence[Mapping[str, Any]]) -> None:
    """Raise InputError unless the model was folded as it was for ``calibration``."""
    stated, found = (
        [(report["rule"], report["count"]) for report in made] for made in (calibration.description["fold"], reports)
    )
    if stated != found:
        raise InputError(
            f"the calibration in {calibration.folder} is of another fold, by another edgevit: calibrate again"
        )


def shown(value: object) -> str:
    """Short: of a digest its first digits."""
    return value[:12] if isinstance(value, str) else str(value)
