"""What every target offers: four functions in a module of its own, and the words they share.

``lower(source, folder, metadata)`` writes the artifact; ``load(folder, threads)`` gives it back as a function;
``census(folder, asked)`` counts what its runtime executes in integers; ``grid(folder)`` reads its scales back.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from calibrate.program import TensorGrid
from convert.source import Source
from edgevit.errors import ClaimError, InputError, MissingError

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Census:
    """Operators of an artifact as its runtime executes them on this host, by kind and precision."""

    int8: dict[str, int]
    float: dict[str, int]
    asked: tuple[str, ...]  # operators that the recipe quantised
    missing: tuple[str, ...]  # those of them that run in float


class Target(Protocol):
    """A module of ``convert`` that is a target."""

    PACKAGE: str  # the import package of its runtime

    def lower(self, source: Source, folder: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
        """Write the artifact into ``folder``, which exists; returns the tensors whose grid was dropped."""
        ...

    def load(self, folder: Path, threads: int = 1) -> Run:
        """``[B, 3, S, S]`` float32 → logits ``[B, classes]`` float32, in the target's runtime."""
        ...

    def census(self, folder: Path, asked: Mapping[str, str]) -> Census:
        """``asked``: name → kind of every operator that the recipe quantised."""
        ...

    def grid(self, folder: Path) -> dict[str, TensorGrid]:
        """Scale and zero point of every tensor that still has one, on the int8 grid."""
        ...


TARGETS = {"onnx": "convert.onnx", "openvino": "convert.openvino"}


def target(name: str) -> Target:
    """The target called ``name``.

    Raises InputError for an unknown one, MissingError if its runtime is not installed.
    """
    if name not in TARGETS:
        raise InputError(f"there is no target {name!r}: choose from {', '.join(TARGETS)}, all")
    if not installed(name):
        raise MissingError(f"target {name} needs {runtime(name)}, which is not installed: pip install 'edgevit[all]'")
    return cast(Target, importlib.import_module(TARGETS[name]))


def installed(name: str) -> bool:
    """Whether the runtime of a target can be imported."""
    return find_spec(runtime(name)) is not None


def runtime(name: str) -> str:
    """The import package of a target's runtime: the target's own name, but for ONNX Runtime."""
    return {"onnx": "onnxruntime"}.get(name, name)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Opening or reading an artifact: whatever its runtime raises, a type a cause, becomes one ClaimError."""
    try:
        yield
    except ClaimError:
        raise
    except Exception as error:
        raise ClaimError(f"{path} is missing or damaged, or a file beside it is: export it again") from error
