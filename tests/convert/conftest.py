"""The narrow EfficientViT, lowered once to each target in each precision."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch

from convert.source import Precision, Source
from convert.target import Target, target
from tests.calibrate.subjects import SIDE, images, quantized_vit, vit

METADATA = {"model": "narrow", "preprocess": '{"resize": 109}'}


@dataclass(frozen=True)
class Lowered:
    """An artifact, and what ``lower`` said was dropped."""

    target: Target
    folder: Path
    dropped: tuple[str, ...]


@cache
def source(precision: Precision) -> Source:
    if precision == "int8":
        return Source(quantized_vit(), precision)
    made = Source(torch.export.export(vit(), (images(1, 0, SIDE),)), precision)
    if precision == "fp16":
        made.exported = source("fp32").exported  # the same file, which takes seconds
    return made


@pytest.fixture(scope="session")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Precision], Lowered]:
    @cache
    def lower(name: str, precision: Precision) -> Lowered:
        folder = tmp_path_factory.mktemp(f"{name}-{precision}")
        module = target(name)
        return Lowered(module, folder, module.lower(source(precision), folder, METADATA))

    return lower
