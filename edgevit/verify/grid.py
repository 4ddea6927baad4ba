"""The grid diff: what an artifact holds against what calibration decided, tensor by tensor."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibrate.program import TensorGrid


@dataclass(frozen=True)
class GridDiff:
    """``differing`` names tensors of another grid, and tensors that only the artifact has."""

    tensors_compared: int
    differing: tuple[str, ...]
    dropped: tuple[str, ...]  # tensors of the program that the artifact holds in float

    @property
    def matches(self) -> bool:
        return not self.differing

    def manifest(self) -> dict[str, Any]:
        return {
            "matches": self.matches,
            "tensors_compared": self.tensors_compared,
            "differing": list(self.differing),
            "dropped": list(self.dropped),
        }


def diff(expected: Mapping[str, TensorGrid], found: Mapping[str, TensorGrid]) -> GridDiff:
    """Scales must be the same float32, zero points the same integer."""
    differing = [name for name, grid in found.items() if name not in expected or not same(expected[name], grid)]
    return GridDiff(
        tensors_compared=sum(name in expected for name in found),
        differing=tuple(sorted(differing)),
        dropped=tuple(name for name in expected if name not in found),
    )


def same(a: TensorGrid, b: TensorGrid) -> bool:
    if a.axis != b.axis or a.zero_point != b.zero_point or len(a.scale) != len(b.scale):
        return False
    return all(np.float32(x) == np.float32(y) and math.isfinite(x) for x, y in zip(a.scale, b.scale, strict=True))


def from_manifest(tensors: Mapping[str, Any]) -> dict[str, TensorGrid]:
    """The manifest's ``quant.tensors``."""
    return {
        name: TensorGrid(tuple(entry["scale"]), tuple(entry["zero_point"]), entry.get("axis"))
        for name, entry in tensors.items()
    }
