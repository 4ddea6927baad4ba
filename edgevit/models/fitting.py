"""A checkpoint's tensors → those of a model: other image sizes, class counts and key grammars, and nothing silently."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models import registry
from edgevit.models.checkpoint import Checkpoint
from edgevit.models.registry import Family

NAMED = 3  # keys that an error names before it counts the rest
PREDICTOR = "score_predictor."  # DynamicViT's token predictors, which its backbone can be had without

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True)
class Asked:
    """How the model shall be built. None stands for the file's own value, else the model's usual one."""

    image_size: int | None = None
    classes: int | None = None
    keep_ratio: float | None = None
    seed: int = 0  # of what the file does not hold
    fresh_predictors: bool = False  # token predictors that the file does not hold may be fresh, to be trained


def seeded(name: str, image_size: int, classes: int, seed: int, keep_ratio: float | None = None) -> nn.Module:
    """The named model freshly initialised from ``seed``; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return registry.build(name, image_size, classes, keep_ratio)


def unpruned(name: str, model: nn.Module) -> nn.Module:
    """A copy of the named model that keeps every token, in evaluation mode."""
    backbone = registry.build(name, cast(int, model.image_size), cast(int, model.classes), keep_ratio=1)
    state = model.state_dict()
    backbone.load_state_dict({key: state[key] for key in backbone.state_dict()})
    return backbone.eval()


def fitted(entry: registry.Entry, checkpoint: Checkpoint, asked: Asked) -> tuple[nn.Module, list[str]]:
    """The model with the checkpoint's tensors, and notes on what was changed for that.

    Raises InputError for anything that does not fit.
    """
    refuse_unusable(entry, checkpoint)
    family = registry.family(entry)
    tensors, notes = dict(checkpoint.tensors), []
    rows = head_rows(family, tensors)
    own_size = own_image_size(entry, checkpoint)
    size = own_size if asked.image_size is None else asked.image_size
    classes = next(n for n in (asked.classes, rows, entry.classes) if n is not None)
    keep_ratio = checkpoint.metadata.keep_ratio if asked.keep_ratio is None else asked.keep_ratio
    model = seeded(entry.name, size, classes, asked.seed, keep_ratio)
    fresh = model.state_dict()
    expected = {key: value.shape for key, value in fresh.items()}
    tensors = with_unit_dimensions(tensors, expected)
    if asked.image_size is None:
        if size not in (entry.image_size, checkpoint.metadata.image_size):
            notes.append(f"image size not stated: {size} px is the smallest that the {family.SIZED} fit")
    else:
        notes += fit_size(family, tensors, fresh, own_size, size)
    if asked.classes is not None and rows is not None and asked.classes != rows:
        tensors |= {key: fresh[key] for key in head_keys(family) if key in fresh}
        notes.append(f"head rows dropped: {rows} -> {classes} classes, the head is freshly initialised")
    if asked.fresh_predictors:
        tensors |= {key: value for key, value in fresh.items() if key.startswith(PREDICTOR) and key not in tensors}
    notes += fit_predictors(entry, checkpoint, tensors, expected)
    refuse_misfit(entry, checkpoint, {key: value.shape for key, value in tensors.items()}, expected)
    model.load_state_dict(tensors)
    return model, notes


def refuse_unusable(entry: registry.Entry, checkpoint: Checkpoint) -> None:
    """Raise InputError for another model's weights, a distilled head, or values that are not finite."""
    path, tensors, metadata = checkpoint.path, checkpoint.tensors, checkpoint.metadata
    if metadata.model not in (None, entry.name):
        raise InputError(f"{path} holds weights of {metadata.model}, not of {entry.name}: name that model instead")
    if any(key.startswith("head_dist.") for key in tensors):
        raise InputError(f"{path} has a second, distilled head (head_dist): take a checkpoint with one head")
    for key, value in tensors.items():
        if not value.isfinite().all():
            raise InputError(f"{key} in {path} holds NaN or infinite values: take a checkpoint from before it diverged")
    rows = head_rows(registry.family(entry), tensors)
    if metadata.class_names is not None and len(metadata.class_names) != rows:
        raise InputError(f"{path} names {len(metadata.class_names)} classes, but its head has {rows}")


def head_keys(family: Family) -> list[str]:
    """The parameters with one row a class."""
    return [f"{layer}.{part}" for layer in family.HEADS for part in ("weight", "bias")]


def head_rows(family: Family, tensors: Mapping[str, Tensor]) -> int | None:
    """How many classes the file's head tells apart."""
    key = head_keys(family)[0]
    return len(tensors[key]) if key in tensors else None


def own_image_size(entry: registry.Entry, checkpoint: Checkpoint) -> int:
    """The size the file says it is for, else the model's usual size if what depends on it fits, else one that fits.

    Where several sizes have the same shapes the weights serve them equally, and the smallest is taken.
    """
    if checkpoint.metadata.image_size is not None:
        return checkpoint.metadata.image_size
    family = registry.family(entry)
    own = {key: value.shape for key, value in checkpoint.tensors.items() if family.is_sized(key)}
    for size in (entry.image_size, *family.IMAGE_SIZES):
        if own == {key: shape for key, shape in shapes(entry.name, size).items() if family.is_sized(key)}:
            return size
    return entry.image_size


@cache
def shapes(name: str, image_size: int) -> Shapes:
    """The named model's keys and shapes, without allocating it."""
    with torch.device("meta"):
        model = registry.build(name, image_size, registry.entry(name).classes)
    return {key: value.shape for key, value in model.state_dict().items()}


def with_unit_dimensions(tensors: Mapping[str, Tensor], expected: Shapes) -> dict[str, Tensor]:
    """1x1 kernels that are stored as matrices ``[out, in]`` become ``[out, in, 1, 1]``."""
    return {
        key: value[..., None, None] if expected.get(key) == (*value.shape, 1, 1) else value
        for key, value in tensors.items()
    }


def fit_size(
    family: Family, tensors: dict[str, Tensor], fresh: Mapping[str, Tensor], own_size: int, size: int
) -> list[str]:
    """Bring what depends on the image size from ``own_size`` to ``size``, in place; returns notes."""
    notes = []
    resized = {}
    for key, value in tensors.items():
        if family.is_sized(key) and key in fresh and value.shape != fresh[key].shape:
            other = family.resized(value, fresh[key].shape)
            if other is not None:
                resized[key] = other
    tensors |= resized
    if resized:
        notes.append(f"{family.SIZED} resized for {size} px")
    if own_size == size:
        return notes
    missing = [key for key in fresh if key not in tensors and family.is_conditional(key)]
    surplus = [key for key in tensors if key not in fresh and family.is_conditional(key)]
    tensors |= {key: fresh[key] for key in missing}
    for key in surplus:
        del tensors[key]
    if missing:
        notes.append(f"{len(missing)} tensors that {own_size} px do not need are freshly initialised: train further")
    if surplus:
        notes.append(f"{len(surplus)} tensors that {size} px do not need are dropped")
    return notes


def fit_predictors(
    entry: registry.Entry, checkpoint: Checkpoint, tensors: dict[str, Tensor], expected: Shapes
) -> list[str]:
    """Drop token predictors that an unpruned model does not have, in place; returns notes.

    Raises InputError if a pruned model finds none: random ones would keep random tokens.
    """
    found = [key for key in tensors if key.startswith(PREDICTOR)]
    needed = any(key.startswith(PREDICTOR) for key in expected)
    if needed and not found:
        raise InputError(
            f"{checkpoint.path} holds no token predictors: add --predictors (bundled or a file), "
            f"or take --keep-ratio 1 to leave {entry.name} unpruned"
        )
    if needed or not found:
        return []
    for key in found:
        del tensors[key]
    return ["the token predictors are dropped: with keep ratio 1 nothing is pruned"]


def refuse_misfit(entry: registry.Entry, checkpoint: Checkpoint, found: Shapes, expected: Shapes) -> None:
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
    path = checkpoint.path
    for name, other in registry.ENTRIES.items():
        family = registry.family(other)
        if name != entry.name and skeleton(family, found) == skeleton(family, shapes(name, other.image_size)):
            what = f"no weights of {entry.name} but what looks like {name}"
            raise InputError(f"{path} holds {what}: name that model instead")
    rest = f", and {len(faults) - NAMED} more differ" if len(faults) > NAMED else ""
    raise InputError(f"{path} does not fit {entry.name}: {', '.join(faults[:NAMED])}{rest}")


def skeleton(family: Family, found: Shapes) -> dict[str, tuple[int, ...]]:
    """Shapes less what image size, class count and the storing of 1x1 kernels as matrices decide."""
    heads, fixed = head_keys(family), dict[str, tuple[int, ...]]()
    for key, shape in found.items():
        if family.is_sized(key) or family.is_conditional(key) or key.startswith(PREDICTOR):
            continue
        fixed[key] = shape[1:] if key in heads else shape[:2] if shape[2:] == (1, 1) else shape
    return fixed
