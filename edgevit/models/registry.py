"""The models edgevit knows, as data: listing them imports no torch."""

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgevit.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CREAM = "microsoft/Cream, EfficientViT/classification/README.md, Acc@1 on ImageNet-1k at 224 px"
MODEL_ZOO = "https://github.com/xinyuliu-jeffrey/EfficientViT_Model_Zoo/releases/download/v1.0"


@dataclass(frozen=True)
class Entry:
    """One model at its published size. ``macs`` count convolutions, matrix products and linear layers."""

    name: str
    family: str  # the module of edgevit.models that builds it
    params: int
    macs: int  # at image_size
    top1: float | None  # percent, as the authors report it; None where they report none
    top1_source: str
    official_url: str | None  # None: the authors published no file
    licence: str  # of the official weights
    official_bytes: int | None = None  # None: the README states none, so only the download's own length is checked
    official_sha256: str | None = None  # or its first digits; None: the README states none
    image_size: int = 224
    classes: int = 1000
    keep_ratio: float | None = None  # of tokens at each pruning site, unless another is asked for; None: no such sites


class Family(Protocol):
    """What a module of this folder that is a family of models offers besides its layers."""

    IMAGE_SIZES: Sequence[int]  # pixels, those that its models can be built for
    HEADS: tuple[str, ...]  # layers with one row a class, the classifier first
    SIZED: str  # what of its weights depends on the image size, in words

    def build(self, name: str, image_size: int, classes: int, **form: float) -> "nn.Module":
        """``[B, 3, image_size, image_size]`` → ``[B, classes]``, fresh. ValueError for a size that does not fit."""
        ...

    def own_names(self, tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """A published state dict under the names of the model here; a name that is in none of its grammars is kept."""
        ...

    def is_sized(self, key: str) -> bool:
        """Whether the shape of this parameter depends on the image size."""
        ...

    def resized(self, value: "Tensor", shape: "torch.Size") -> "Tensor | None":
        """A parameter that ``is_sized`` for another image size; None if it cannot be one of this model."""
        ...

    def is_conditional(self, key: str) -> bool:
        """Whether this parameter exists at some image sizes only."""
        ...


DYNAMICVIT = "raoyongming/DynamicViT, README.md, top-1 on ImageNet-1k at 224 px and keep ratio 0.7"
DEIT = "https://dl.fbaipublicfiles.com/deit"
SEPVIT = "arXiv 2203.15380, the paper's top-1 on ImageNet-1k at 224 px; no weights were published"


def efficientvit(size: str, params: int, macs: int, top1: float) -> Entry:
    name = f"efficientvit_{size}"
    return Entry(name, "efficientvit", params, macs, top1, CREAM, f"{MODEL_ZOO}/{name}.pth", licence="MIT")


def sepvit(size: str, params: int, macs: int, top1: float) -> Entry:
    return Entry(f"sepvit_{size}", "sepvit", params, macs, top1, SEPVIT, None, licence="none published")


def dynamicvit(size: str, params: int, macs: int, top1: float | None, backbone: str | None = None) -> Entry:
    """``backbone`` is DeiT's own file, whose name ends in the first digits of its digest."""
    return Entry(
        f"dynamicvit_{size}",
        "dynamicvit",
        params,
        macs,
        top1,
        DYNAMICVIT,
        backbone and f"{DEIT}/{backbone}",
        licence="Apache-2.0" if backbone else "MIT",
        official_sha256=backbone and backbone.removesuffix(".pth").rpartition("-")[2],
        keep_ratio=0.7,
    )


ENTRIES = {
    entry.name: entry
    for entry in (
        efficientvit("m0", 2_349_436, 79_193_600, 63.2),
        efficientvit("m1", 2_980_560, 167_051_840, 68.4),
        efficientvit("m2", 4_187_554, 201_035_712, 70.8),
        efficientvit("m3", 6_900_722, 262_662_208, 73.4),
        efficientvit("m4", 8_804_228, 299_308_544, 74.3),
        efficientvit("m5", 12_473_772, 521_583_104, 77.1),
        sepvit("lite", 3_661_128, 568_414_464, 72.3),
        sepvit("tiny", 31_182_856, 4_518_998_784, 82.7),
        sepvit("small", 46_570_504, 7_455_290_112, 83.6),
        sepvit("base", 82_377_064, 13_054_592_000, 84.2),
        dynamicvit("deit_tiny", 5_899_582, 801_198_048, None, "deit_tiny_patch16_224-a1311bcf.pth"),
        dynamicvit("deit_256", 10_304_942, 1_374_597_760, 76.53),
        dynamicvit("deit_small", 22_774_414, 2_980_897_728, 79.32, "deit_small_patch16_224-cd65a155.pth"),
        dynamicvit("deit_base", 89_452_846, 11_475_801_984, 81.43, "deit_base_patch16_224-b5f2ef4d.pth"),
        dynamicvit("lvvit_small", 26_875_574, 4_650_082_752, 83.08),
        dynamicvit("lvvit_medium", 57_115_030, 8_593_229_056, 83.82),
    )
}


def entry(name: str) -> Entry:
    """The named model's entry. Raises InputError, with the closest names, if there is none."""
    if name in ENTRIES:
        return ENTRIES[name]
    close = difflib.get_close_matches(name, ENTRIES) or list(ENTRIES)
    raise InputError(f"there is no model {name!r}: take {' or '.join(close)}")


def family(entry: Entry) -> Family:
    """The module that builds the model. Imports torch."""
    return cast(Family, importlib.import_module(f"edgevit.models.{entry.family}"))


def build(name: str, image_size: int, classes: int, keep_ratio: float | None = None) -> "nn.Module":
    """The named model, freshly initialised, in training mode: ``[B, 3, image_size, image_size]`` → ``[B, classes]``.

    ``keep_ratio`` is that of a model which prunes tokens; None is its usual one. Raises InputError for an unknown name,
    a size or ratio that the family does not take, or fewer than one class.
    """
    if classes < 1:
        raise InputError(f"a model needs at least one class, not {classes}")
    found, form = entry(name), dict[str, Any]()
    if found.keep_ratio is not None:
        form["keep_ratio"] = found.keep_ratio if keep_ratio is None else keep_ratio
    elif keep_ratio is not None:
        raise InputError(f"{name} prunes no tokens: leave --keep-ratio away")
    try:
        return family(found).build(name, image_size, classes, **form)
    except ValueError as error:
        raise InputError(str(error)) from None
