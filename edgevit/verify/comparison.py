"""The grids of two artifacts side by side; neither is taken for the right one."""

import math
from dataclasses import dataclass
from typing import Any

from calibrate.program import TensorGrid
from edgevit.verify import grid
from edgevit.verify.opened import Opened

NAMED = 3  # tensors in a sentence


@dataclass(frozen=True)
class Differing:
    """A tensor that is on one grid in A and on another in B."""

    tensor: str
    a: TensorGrid
    b: TensorGrid

    def manifest(self) -> dict[str, Any]:
        return {"tensor": self.tensor, "a": as_json(self.a), "b": as_json(self.b)}


@dataclass(frozen=True)
class Comparison:
    """What A and B have in common, and what not."""

    compared: int  # tensors that both have
    differing: tuple[Differing, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    added: tuple[str, ...]  # those of ``only_a`` and ``only_b`` that the other side, a program, cannot have dropped

    def broken(self) -> str | None:
        """Why the two are not equal, or None."""
        if not self.compared:
            return "they have no tensor in common, so there is nothing to compare"
        if self.differing:
            names = listed(tuple(entry.tensor for entry in self.differing))
            return f"of {self.compared} tensors these differ: {names}"
        return f"an export's program has no grid for {listed(self.added)}" if self.added else None

    def manifest(self) -> dict[str, Any]:
        return {
            "equal": self.broken() is None,
            "compared": self.compared,
            "differing": [entry.manifest() for entry in self.differing],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
        }


def compare(a: Opened, b: Opened) -> Comparison:
    """Tensor by tensor, matched by name: scales must be the same float32, zero points the same integer.

    A target may drop grids of the program and adds none. So a tensor that one side has and the other has not is no
    difference, unless that other side is a program.
    """
    common = [name for name in a.tensors if name in b.tensors]
    differing = [
        Differing(name, a.tensors[name], b.tensors[name])
        for name in common
        if not grid.same(a.tensors[name], b.tensors[name])
    ]
    only_a = tuple(name for name in a.tensors if name not in b.tensors)
    only_b = tuple(name for name in b.tensors if name not in a.tensors)
    added = (only_a if b.program else ()) + (only_b if a.program else ())
    return Comparison(len(common), tuple(differing), only_a, only_b, added)


def listed(names: tuple[str, ...]) -> str:
    """How many, and the first of them."""
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} ({', '.join(names[:NAMED])}{more})"


def as_json(entry: TensorGrid) -> dict[str, Any]:
    """As a manifest has it, but a scale that is not finite, which JSON cannot hold, is a string."""
    return entry.manifest() | {"scale": [x if math.isfinite(x) else str(x) for x in entry.scale]}
