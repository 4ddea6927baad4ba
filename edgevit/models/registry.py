"""The models edgevit knows, as data: listing them imports no torch."""

import difflib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.errors import InputError

if TYPE_CHECKING:
    from torch import nn

CREAM = "microsoft/Cream, EfficientViT/classification/README.md, Acc@1 on ImageNet-1k at 224 px"
MODEL_ZOO = "https://github.com/xinyuliu-jeffrey/EfficientViT_Model_Zoo/releases/download/v1.0"


@dataclass(frozen=True)
class Entry:
    """One model at its published size. ``macs`` count convolutions, matrix products and linear layers."""

    name: str
    family: str  # the module of edgevit.models that builds it
    params: int
    macs: int  # at image_size
    top1: float  # percent, as the authors report it
    top1_source: str
    official_url: str
    licence: str  # of the official weights
    official_bytes: int | None = None  # None: the README states none, so only the download's own length is checked
    official_sha256: str | None = None  # None: the README states none
    image_size: int = 224
    classes: int = 1000


def efficientvit(size: str, params: int, macs: int, top1: float) -> Entry:
    name = f"efficientvit_{size}"
    return Entry(name, "efficientvit", params, macs, top1, CREAM, f"{MODEL_ZOO}/{name}.pth", licence="MIT")


ENTRIES = {
    entry.name: entry
    for entry in (
        efficientvit("m0", 2_349_436, 79_193_600, 63.2),
        efficientvit("m1", 2_980_560, 167_051_840, 68.4),
        efficientvit("m2", 4_187_554, 201_035_712, 70.8),
        efficientvit("m3", 6_900_722, 262_662_208, 73.4),
        efficientvit("m4", 8_804_228, 299_308_544, 74.3),
        efficientvit("m5", 12_473_772, 521_583_104, 77.1),
    )
}


def entry(name: str) -> Entry:
    """The named model's entry. Raises InputError, with the closest names, if there is none."""
    if name in ENTRIES:
        return ENTRIES[name]
    close = difflib.get_close_matches(name, ENTRIES) or list(ENTRIES)
    raise InputError(f"there is no model {name!r}: take {' or '.join(close)}")


def build(name: str, image_size: int, classes: int) -> "nn.Module":
    """The named model, freshly initialised, in training mode: ``[B, 3, image_size, image_size]`` → ``[B, classes]``.

    Raises InputError for an unknown name, a size the family does not take, or fewer than one class.
    """
    if classes < 1:
        raise InputError(f"a model needs at least one class, not {classes}")
    family = importlib.import_module(f"edgevit.models.{entry(name).family}")
    try:
        model: nn.Module = family.build(name, image_size, classes)
    except ValueError as error:
        raise InputError(str(error)) from None
    return model
