"""Weights in and out: the bundled checkpoint, the authors' file, random ones, or any file with a state dict.

The authors' keys and timm's, ``.pth`` and ``.safetensors``, other image sizes and class counts all load. What had to be
changed for that is said in ``Weights.notes``; anything that does not fit is refused in one sentence.
"""

import argparse
import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from math import isqrt
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.images import INTERPOLATIONS, Preprocess
from edgevit.models import download, names, registry
from edgevit.models.efficientvit import IMAGE_SIZE_STEP, MAX_IMAGE_SIZE, MIN_IMAGE_SIZE

FORMAT = "edgevit-weights-1"
PICKLED = {".pth", ".pt", ".bin"}
HEAD = ("head.l.weight", "head.l.bias")
NAMED = 3  # keys that an error names before it counts the rest

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True)
class Weights:
    """Where a model's weights come from, and what they expect."""

    source: str  # bundled, official, random, or the path
    sha256: str | None  # of the file
    licence: str
    preprocess: Preprocess
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]  # what was changed to make them fit


@dataclass(frozen=True)
class Metadata:
    """What a file that edgevit wrote says of itself; all None for any other file."""

    model: str | None = None
    image_size: int | None = None
    licence: str | None = None
    class_names: tuple[str, ...] | None = None
    preprocess: Preprocess | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors, floating ones as float32, under the authors' names."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    metadata: Metadata


def load(
    name: str,
    spec: str,
    *,
    image_size: int | None = None,
    classes: int | None = None,
    seed: int = 0,
    report: download.Report = lambda done, total: None,
) -> tuple[nn.Module, Weights]:
    """The named model in evaluation mode, with weights from ``spec``: bundled, official, random, or a path.

    ``image_size`` and ``classes`` default to the file's own, else to 224 and 1000. ``seed`` decides random weights and
    a fresh head; ``report`` follows a download. Raises InputError for anything that does not fit, ClaimError for an
    official file that is not the published one.
    """
    entry = registry.entry(name)
    if spec == "random":
        return random_weights(entry, image_size, classes, seed)
    checkpoint = find(entry, spec, report)
    model, notes = fitted(entry, checkpoint, image_size, classes, seed)
    size, kept = cast(int, model.image_size), cast(int, model.classes) == head_rows(checkpoint.tensors)
    metadata = checkpoint.metadata
    return model.eval(), Weights(
        source=spec,
        sha256=checkpoint.sha256,
        licence=metadata.licence or (entry.licence if spec == "official" else "not stated"),
        preprocess=preprocess_for(size, metadata.preprocess),
        class_names=metadata.class_names if kept else None,
        notes=tuple(notes),
    )


def save(path: Path, model: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write the model's state as float16 safetensors with ``metadata``, whole or not at all.

    Equal weights make equal files.

    ``load`` reads ``model``, ``image_size``, ``licence``, ``class_names`` (JSON list) and ``preprocess`` (JSON object)
    back. Raises InputError for a value beyond float16 or a file that cannot be written.
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


def random_weights(
    entry: registry.Entry, image_size: int | None, classes: int | None, seed: int
) -> tuple[nn.Module, Weights]:
    """The seeded, randomised model: it computes all that a trained one does, and classifies nothing."""
    size = entry.image_size if image_size is None else image_size
    model = seeded(entry.name, size, entry.classes if classes is None else classes, seed)
    randomize_(model, seed)
    note = f"random weights, seed {seed}: good for latency, not for accuracy"
    return model.eval(), Weights("random", None, "none (random weights)", Preprocess.imagenet(size), None, (note,))


def seeded(name: str, image_size: int, classes: int, seed: int) -> nn.Module:
    """The named model freshly initialised from ``seed``; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return registry.build(name, image_size, classes)


@torch.no_grad()
def randomize_(model: nn.Module, seed: int) -> None:
    """Give every norm and bias table random values, in place, so that each block does something.

    Fresh models are the identity (their gammas are 0). The norms' statistics are those of a batch of smooth random
    images: made-up ones would let activations vanish or explode within a few layers.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.uniform_(0.5, 1.5, generator=generator)
        norm.bias.normal_(0, 0.2, generator=generator)
    for key, parameter in model.named_parameters():
        if is_bias_table(key):
            parameter.normal_(generator=generator)
    images = F.interpolate(torch.randn(8, 3, 8, 8, generator=generator), cast(int, model.image_size), mode="bilinear")
    momenta, training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this batch alone
    model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)


# Finding and reading a file


def find(entry: registry.Entry, spec: str, report: download.Report) -> Checkpoint:
    """The checkpoint that ``spec`` names. Raises InputError if there is none."""
    if spec == "official":
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
        raise InputError(
            f"no weights for {entry.name} are bundled: take --weights official ({entry.official_url}), "
            "--weights PATH, or --weights random for latency alone"
        )
    with resources.as_file(bundled_file(entry.name)) as path:
        return read(path)


def assets() -> Traversable:
    """The folder of files that ship with edgevit."""
    return resources.files("edgevit") / "assets"


def bundled_file(name: str) -> Traversable:
    return assets() / f"{name}-fashion-mnist.safetensors"


def bundled_available(name: str) -> bool:
    """Whether weights of the named model ship with edgevit."""
    return bundled_file(name).is_file()


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
    if names.grammar(tensors) == "timm":
        tensors = names.to_authors(tensors)
    tensors = {
        key: value.float() if value.is_floating_point() else value
        for key, value in tensors.items()
        if not names.is_index_buffer(key)
    }
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


def preprocess_for(image_size: int, own: Preprocess | None) -> Preprocess:
    """The file's own preprocessing, scaled where the model is built for another size; ImageNet's if it has none."""
    if own is None:
        return Preprocess.imagenet(image_size)
    if own.crop == image_size:
        return own
    return replace(own, resize=round(own.resize * image_size / own.crop), crop=image_size)


# Fitting a checkpoint to the model


def fitted(
    entry: registry.Entry, checkpoint: Checkpoint, image_size: int | None, classes: int | None, seed: int
) -> tuple[nn.Module, list[str]]:
    """The model with the checkpoint's tensors, and notes on what was changed for that."""
    refuse_unusable(entry.name, checkpoint)
    notes = []
    rows = head_rows(checkpoint.tensors)
    size = own_image_size(entry, checkpoint) if image_size is None else image_size
    model = seeded(entry.name, size, next(n for n in (classes, rows, entry.classes) if n is not None), seed)
    fresh = model.state_dict()
    expected = {key: value.shape for key, value in fresh.items()}
    tensors = with_unit_dimensions(checkpoint.tensors, expected)
    if image_size is None:
        if size not in (entry.image_size, checkpoint.metadata.image_size):
            notes.append(f"image size not stated: {size} px is the smallest that the bias tables fit")
    else:
        resized = resized_tables(tensors, expected)
        tensors |= resized
        if resized:
            notes.append(f"attention bias tables resized for {size} px")
    if classes is not None and rows is not None and classes != rows:
        tensors |= {key: fresh[key] for key in HEAD}
        notes.append(f"head rows dropped: {rows} -> {classes} classes, the head is freshly initialised")
    refuse_misfit(entry.name, checkpoint.path, {key: value.shape for key, value in tensors.items()}, expected)
    model.load_state_dict(tensors)
    return model, notes


def refuse_unusable(name: str, checkpoint: Checkpoint) -> None:
    """Raise InputError for another model's weights, a distilled head, or values that are not finite."""
    path, tensors, metadata = checkpoint.path, checkpoint.tensors, checkpoint.metadata
    if metadata.model not in (None, name):
        raise InputError(f"{path} holds weights of {metadata.model}, not of {name}: name that model instead")
    if any(key.startswith("head_dist.") for key in tensors):
        raise InputError(f"{path} has a second, distilled head (head_dist): take a checkpoint with one head")
    for key, value in tensors.items():
        if not value.isfinite().all():
            raise InputError(f"{key} in {path} holds NaN or infinite values: take a checkpoint from before it diverged")
    if metadata.class_names is not None and len(metadata.class_names) != head_rows(tensors):
        raise InputError(f"{path} names {len(metadata.class_names)} classes, but its head has {head_rows(tensors)}")


def head_rows(tensors: Mapping[str, Tensor]) -> int | None:
    """How many classes the file's head tells apart."""
    return len(tensors[HEAD[0]]) if HEAD[0] in tensors else None


def own_image_size(entry: registry.Entry, checkpoint: Checkpoint) -> int:
    """The size the file says it is for, else the model's usual size if its bias tables fit that, else one they fit.

    Sizes with the same windows have the same tables, and then the weights serve them equally; the smallest is taken.
    """
    if checkpoint.metadata.image_size is not None:
        return checkpoint.metadata.image_size
    own = {key: value.shape for key, value in checkpoint.tensors.items() if is_bias_table(key)}
    sizes: list[int] = [entry.image_size, *range(MIN_IMAGE_SIZE, MAX_IMAGE_SIZE + 1, IMAGE_SIZE_STEP)]
    for size in sizes:
        if own == {key: shape for key, shape in shapes(entry.name, size).items() if is_bias_table(key)}:
            return size
    return entry.image_size


@cache
def shapes(name: str, image_size: int) -> Shapes:
    """The named model's keys and shapes, without allocating it."""
    with torch.device("meta"):
        model = registry.build(name, image_size, registry.entry(name).classes)
    return {key: value.shape for key, value in model.state_dict().items()}


def is_bias_table(key: str) -> bool:
    return key.endswith(".attention_biases")


def with_unit_dimensions(tensors: Mapping[str, Tensor], expected: Shapes) -> dict[str, Tensor]:
    """1x1 kernels that are stored as matrices ``[out, in]`` become ``[out, in, 1, 1]``."""
    return {
        key: value[..., None, None] if expected.get(key) == (*value.shape, 1, 1) else value
        for key, value in tensors.items()
    }


def resized_tables(tensors: Mapping[str, Tensor], expected: Shapes) -> dict[str, Tensor]:
    """The bias tables ``[heads, w * w]`` of another window, each head's resized bicubically as a w x w image.

    So do the authors when they fine-tune at a higher resolution (MODELS.md 1.3).
    """
    resized = {}
    for key, value in tensors.items():
        if not is_bias_table(key) or key not in expected or value.shape == expected[key]:
            continue
        heads, old, new = len(value), isqrt(value.shape[-1]), isqrt(expected[key][1])
        if value.shape == (expected[key][0], old * old):
            image = value.reshape(1, heads, old, old)
            resized[key] = F.interpolate(image, (new, new), mode="bicubic").reshape(heads, new * new)
    return resized


def refuse_misfit(name: str, path: Path, found: Shapes, expected: Shapes) -> None:
    """Raise InputError unless the keys and shapes are those of the model."""
    faults = [f"{key} {list(expected[key])} is missing" for key in expected if key not in found]
    faults += [
        f"{key} is {list(found[key])} instead of {list(expected[key])}"
        for key in expected
        if key in found and found[key] != expected[key]
    ]
    faults += [f"{key} {list(found[key])} is not in the model" for key in found if key not in expected]
    if not faults:
        return
    for other in registry.ENTRIES:
        if other != name and skeleton(found) == skeleton(shapes(other, registry.entry(other).image_size)):
            raise InputError(f"{path} holds no weights of {name} but what looks like {other}: name that model instead")
    rest = f", and {len(faults) - NAMED} more differ" if len(faults) > NAMED else ""
    raise InputError(f"{path} does not fit {name}: {', '.join(faults[:NAMED])}{rest}")


def skeleton(found: Shapes) -> dict[str, tuple[int, ...]]:
    """Shapes less what image size, class count and the storing of 1x1 kernels as matrices decide."""
    fixed: dict[str, tuple[int, ...]] = {}
    for key, shape in found.items():
        if is_bias_table(key):
            fixed[key] = shape[:1]
        elif key in HEAD:
            fixed[key] = shape[1:]
        else:
            fixed[key] = shape[:2] if shape[2:] == (1, 1) else shape
    return fixed
