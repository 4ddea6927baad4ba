"""A weights file, read without running anything from it: safetensors, or pickles of plain tensors."""

import argparse
import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edgevit.errors import InputError
from edgevit.images import INTERPOLATIONS, Preprocess

FORMAT = "edgevit-weights-1"
PICKLED = {".pth", ".pt", ".bin"}


@dataclass(frozen=True)
class Metadata:
    """What a file that edgevit wrote says of itself; all None for any other file."""

    model: str | None = None
    image_size: int | None = None
    keep_ratio: float | None = None
    licence: str | None = None
    class_names: tuple[str, ...] | None = None
    preprocess: Preprocess | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors, floating ones as float32, under the names that they have there."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    metadata: Metadata


def read(path: Path) -> Checkpoint:
    """The checkpoint at ``path``. Raises InputError, naming the file, if it is none."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: --weights takes a file, or bundled, official or random")
    if not path.exists():
        raise InputError(f"there is no weights file {path}: --weights takes a file, or bundled, official or random")
    if path.suffix not in PICKLED | {".safetensors"}:
        raise InputError(f"{path} is of no kind that edgevit reads: take .pth, .pt, .bin or .safetensors")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not path.stat().st_size:
            raise InputError(f"{path} is empty: fetch it again")
        tensors, metadata = (read_pickled(path), {}) if path.suffix in PICKLED else read_safetensors(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): it may be truncated, fetch it again") from None
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    return Checkpoint(path, digest, tensors, read_metadata(path, metadata))


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The state dict of a ``torch.save`` file: bare, or under ``model`` or ``state_dict``. Runs no code from it."""
    try:
        # The authors' training script saves its arguments beside the model: a Namespace is plain data.
        # What torch warns of is the pickle protocol, of which a file that loads needs no warning.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is not a file of plain tensors but corrupt, or a pickle with code in it, which edgevit does not "
            "run: take the state dict alone, best as .safetensors"
        ) from None
    except OSError:
        raise
    except Exception as error:  # a damaged file may make torch's reader fail in any way
        raise InputError(f"{path} is corrupt or truncated ({str(error).splitlines()[0]}): fetch it again") from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path} holds no state dict, neither bare nor under the key model or state_dict")
    return content


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise InputError(f"{path} is corrupt or truncated ({error}): fetch it again") from None


def read_metadata(path: Path, raw: Mapping[str, str]) -> Metadata:
    """The metadata of a safetensors file, if edgevit wrote it. Raises InputError if it is damaged."""
    form = raw.get("format", "")
    if not form.startswith("edgevit-weights-"):
        return Metadata()
    if form != FORMAT:
        raise InputError(f"{path} is of format {form}, and this edgevit reads {FORMAT}: update edgevit")
    try:
        return Metadata(
            model=raw.get("model"),
            image_size=int(raw["image_size"]) if "image_size" in raw else None,
            keep_ratio=float(raw["keep_ratio"]) if "keep_ratio" in raw else None,
            licence=raw.get("licence"),
            class_names=tuple(map(str, json.loads(raw["class_names"]))) if "class_names" in raw else None,
            preprocess=read_preprocess(json.loads(raw["preprocess"])) if "preprocess" in raw else None,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} has damaged metadata ({error}): write it again with edgevit train") from None


def read_preprocess(fields: dict[str, Any]) -> Preprocess:
    """The inverse of ``dataclasses.asdict``. Raises ValueError, TypeError or KeyError if a field is wrong."""
    if fields["interpolation"] not in INTERPOLATIONS:
        raise ValueError(f"interpolation {fields['interpolation']}")
    return Preprocess(**fields | {"mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
