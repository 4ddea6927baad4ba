"""Weights in and out: the bundled checkpoint, the authors' file, random ones, or any file with a state dict.

The authors' keys and timm's, ``.pth`` and ``.safetensors``, other image sizes and class counts all load. What had to be
changed for that is said in ``Weights.notes``; anything that does not fit is refused in one sentence.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save as serialise
from torch import nn

from edgevit.errors import InputError
from edgevit.images import Preprocess
from edgevit.models import download, registry
from edgevit.models.checkpoint import FORMAT, Checkpoint, read
from edgevit.models.fitting import PREDICTOR, Asked, fitted, head_rows, seeded

SHARPER = 1000  # times the last layer of random token predictors: scores differ by more than float noise


@dataclass(frozen=True)
class Weights:
    """Where a model's weights come from, and what they expect."""

    source: str  # bundled, official, random, or the path
    sha256: str | None  # of the file
    licence: str
    preprocess: Preprocess
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]  # what was changed to make them fit
    predictors_sha256: str | None = None  # of the file with the token predictors, where they have one of their own


def load(
    name: str,
    spec: str,
    *,
    image_size: int | None = None,
    classes: int | None = None,
    keep_ratio: float | None = None,
    predictors: str | None = None,
    fresh_predictors: bool = False,
    seed: int = 0,
    report: download.Report = lambda done, total: None,
) -> tuple[nn.Module, Weights]:
    """The named model in evaluation mode, with weights from ``spec``: bundled, official, random, or a path.

    ``image_size``, ``classes`` and ``keep_ratio`` (of a model that prunes tokens; 1 for none) default to the file's
    own, else to the registry's. ``predictors`` names a file of token predictors that join a plain backbone: bundled,
    or a path; with ``fresh_predictors`` those that it lacks are fresh, to be trained. ``seed`` decides random weights
    and what is fresh; ``report`` follows a download. Raises InputError for anything that does not fit, ClaimError for
    an official file that is not the published one.
    """
    entry = registry.entry(name)
    asked = Asked(image_size, classes, keep_ratio, seed, fresh_predictors)
    if predictors is not None and (entry.keep_ratio is None or keep_ratio == 1 or spec == "random"):
        raise InputError(f"{name} with {spec} weights takes no token predictors here: leave --predictors away")
    if spec == "random":
        return random_weights(entry, asked)
    backbone = find(entry, spec, report)
    added = None if predictors is None else read_predictors(entry, predictors)
    checkpoint = backbone if added is None else joined(backbone, added)
    model, notes = fitted(entry, checkpoint, asked)
    rows = head_rows(registry.family(entry), checkpoint.tensors)
    metadata = checkpoint.metadata
    return model.eval(), Weights(
        source=spec,
        sha256=checkpoint.sha256,
        licence=metadata.licence or (entry.licence if spec == "official" else "not stated"),
        preprocess=preprocess_for(cast(int, model.image_size), metadata.preprocess),
        class_names=metadata.class_names if cast(int, model.classes) == rows else None,
        notes=tuple(notes),
        predictors_sha256=None if added is None else added.sha256,
    )


def preprocess_for(image_size: int, own: Preprocess | None) -> Preprocess:
    """The file's own preprocessing, scaled where the model is built for another size; ImageNet's if it has none."""
    if own is None:
        return Preprocess.imagenet(image_size)
    if own.crop == image_size:
        return own
    return replace(own, resize=round(own.resize * image_size / own.crop), crop=image_size)


def save(path: Path, model: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write the model's state as float16 safetensors with ``metadata``, whole or not at all.

    Equal weights make equal files.

    ``load`` reads ``model``, ``image_size``, ``keep_ratio``, ``licence``, ``class_names`` (JSON list) and
    ``preprocess`` (JSON object) back. Raises InputError for a value beyond float16 or a file that cannot be written.
    """
    tensors = {}
    for key, value in model.state_dict().items():
        tensors[key] = value.to("cpu", torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        if not tensors[key].isfinite().all():
            raise InputError(f"{key} holds values that float16 cannot: the training diverged, lower its learning rate")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(with_sorted_header(serialise(tensors, {"format": FORMAT, **metadata})))
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write {path}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def with_sorted_header(data: bytes) -> bytes:
    """A safetensors file with its JSON header in sorted order, which the library leaves to chance.

    Format: 8 bytes of header length, little-endian; the header, padded with spaces; tensors at offsets from its end.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


# Random weights


def random_weights(entry: registry.Entry, asked: Asked) -> tuple[nn.Module, Weights]:
    """The seeded, randomised model: it computes all that a trained one does, and classifies nothing."""
    size = entry.image_size if asked.image_size is None else asked.image_size
    classes = entry.classes if asked.classes is None else asked.classes
    model = seeded(entry.name, size, classes, asked.seed, asked.keep_ratio)
    randomize_(model, registry.family(entry), asked.seed)
    note = f"random weights, seed {asked.seed}: good for latency, not for accuracy"
    return model.eval(), Weights("random", None, "none (random weights)", Preprocess.imagenet(size), None, (note,))


@torch.no_grad()
def randomize_(model: nn.Module, family: registry.Family, seed: int) -> None:
    """Give every norm, and what depends on the image size, random values, in place, so that each block does something.

    Fresh blocks may be the identity (EfficientViT's gammas are 0). The statistics of batch norms are those of a batch
    of smooth random images: made-up ones would let activations vanish or explode within a few layers.
    """
    generator = torch.Generator().manual_seed(seed)
    batch_norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.normal_(0, 0.2, generator=generator)
    for key, parameter in model.named_parameters():
        if family.is_sized(key):
            parameter.normal_(generator=generator)
        elif key.startswith(PREDICTOR) and len(parameter) == 2:
            parameter.mul_(SHARPER)
    if not batch_norms:
        return
    images = F.interpolate(torch.randn(8, 3, 8, 8, generator=generator), cast(int, model.image_size), mode="bilinear")
    momenta, training = [norm.momentum for norm in batch_norms], model.training
    for norm in batch_norms:
        norm.momentum = 1.0  # the statistics of this batch alone
    model.train()(images)
    for norm, momentum in zip(batch_norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)


# Finding a file


def find(entry: registry.Entry, spec: str, report: download.Report) -> Checkpoint:
    """The checkpoint that ``spec`` names, under the names of the family. Raises InputError if there is none."""
    checkpoint = read_spec(entry, spec, report)
    return replace(checkpoint, tensors=registry.family(entry).own_names(checkpoint.tensors))


def read_spec(entry: registry.Entry, spec: str, report: download.Report) -> Checkpoint:
    if spec == "official":
        if entry.official_url is None:
            raise InputError(
                f"the authors publish no file of {entry.name} that can be fetched: take --weights PATH, or random for "
                "latency alone"
            )
        path = download.fetch(
            entry.official_url,
            download.default_cache(),
            expected_bytes=entry.official_bytes,
            expected_sha256=entry.official_sha256,
            report=report,
        )
        return read(path)
    if spec != "bundled":
        return read(Path(spec))
    if not bundled_available(entry.name):
        official = f"--weights official ({entry.official_url}), " if entry.official_url else ""
        raise InputError(
            f"no weights for {entry.name} are bundled: take {official}--weights PATH, or --weights random for latency "
            "alone"
        )
    with resources.as_file(bundled_file(entry.name)) as path:
        return read(path)


def read_predictors(entry: registry.Entry, spec: str) -> Checkpoint:
    """A file of token predictors for the named model. Raises InputError if it is none."""
    if spec != "bundled":
        predictors = read(Path(spec))
    elif predictors_file(entry.name).is_file():
        with resources.as_file(predictors_file(entry.name)) as path:
            predictors = read(path)
    else:
        raise InputError(
            f"no token predictors for {entry.name} are bundled: train some with edgevit train --only predictors"
        )
    if predictors.metadata.model not in (None, entry.name):
        made_for = predictors.metadata.model
        raise InputError(
            f"{predictors.path} holds predictors of {made_for}, not of {entry.name}: name that model instead"
        )
    if not all(key.startswith(PREDICTOR) for key in predictors.tensors):
        raise InputError(f"{predictors.path} holds more than token predictors: give it as --weights")
    return predictors


def joined(backbone: Checkpoint, predictors: Checkpoint) -> Checkpoint:
    """Both in one. Raises InputError if the backbone has token predictors of its own."""
    if any(key.startswith(PREDICTOR) for key in backbone.tensors):
        raise InputError(f"{backbone.path} has token predictors of its own: leave --predictors away")
    return replace(backbone, tensors=backbone.tensors | predictors.tensors)


def assets() -> Traversable:
    """The folder of files that ship with edgevit."""
    return resources.files("edgevit") / "assets"


def bundled_file(name: str) -> Traversable:
    return assets() / f"{name}-fashion-mnist.safetensors"


def predictors_file(name: str) -> Traversable:
    return assets() / f"predictors-{name}.safetensors"


def bundled_available(name: str) -> bool:
    """Whether weights of the named model ship with edgevit."""
    return bundled_file(name).is_file()
