"""What every target offers: five functions in a module of its own, and the words they share.

``lower(source, folder, metadata)`` writes the artifact; ``load(folder, threads)`` gives it back as a function of images
to logits, and ``load_all`` as one that also gives what the program returns beside them;
``census(folder, asked)`` counts what its runtime executes in integers; ``grid(folder)`` reads its scales back.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from calibrate.program import TensorGrid
from convert.inexpressible import inexpressible
from convert.registry import TARGETS, Entry
from convert.source import Source
from edgevit.errors import ClaimError, EdgevitError, InputError, MissingError

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
RunAll = Callable[[NDArray[np.float32]], tuple[NDArray[Any], ...]]


@dataclass(frozen=True)
class Census:
    """Operators of an artifact as its runtime executes them on this host, by kind and precision."""

    int8: dict[str, int]
    float: dict[str, int]
    asked: tuple[str, ...]  # operators that the recipe quantised
    missing: tuple[str, ...]  # those of them that run in float
    partitions: int | None = None  # delegated parts, where a runtime delegates
    portable: Mapping[str, int] = field(default_factory=dict)  # kernels that run outside of them, and how often

    def counts(self) -> dict[str, Any]:
        """By kind, as the manifest has them; where a runtime delegates, also what it does and does not."""
        counts: dict[str, Any] = {"int8": self.int8, "float": self.float}
        if self.partitions is not None:
            counts |= {"partitions": self.partitions, "portable": dict(self.portable)}
        return counts


class Target(Protocol):
    """A module of ``convert`` that is a target."""

    BATCH: int  # the most images that ``load``'s function takes at once

    def lower(self, source: Source, folder: Path, metadata: Mapping[str, str], **form: Any) -> tuple[str, ...]:
        """Write the artifact into ``folder``, which exists; returns the tensors whose grid was dropped.

        ``form`` is how an app meets it, where the target offers a choice.
        """
        ...

    def load(self, folder: Path, threads: int = 1) -> Run:
        """``[B, 3, S, S]`` float32 → logits ``[B, classes]`` float32, in the target's runtime."""
        ...

    def load_all(self, folder: Path, threads: int = 1) -> RunAll:
        """As ``load``, with all that the program returns: logits first, then ids as integers and scores as float32."""
        ...

    def census(self, folder: Path, asked: Mapping[str, str]) -> Census:
        """``asked``: name → kind of every operator that the recipe quantised."""
        ...

    def grid(self, folder: Path) -> dict[str, TensorGrid]:
        """Scale and zero point of every tensor that still has one, on the int8 grid."""
        ...


def installed(name: str) -> Entry:
    """The entry of the target called ``name``, whose runtime is not imported.

    Raises InputError for an unknown one, MissingError if its runtime is not installed.
    """
    if name not in TARGETS:
        raise InputError(f"there is no target {name!r}: choose from {', '.join(TARGETS)}, all")
    entry = TARGETS[name]
    if not entry.installed:
        raise MissingError(
            f"target {name} needs {entry.package}, which is not installed: pip install 'edgevit[{name}]'"
        )
    return entry


def target(name: str) -> Target:
    """The target called ``name``.

    Raises InputError for an unknown one, MissingError if its runtime is not installed or does not start.
    """
    entry = installed(name)
    try:
        return cast(Target, importlib.import_module(entry.module))
    except ImportError as error:
        raise MissingError(f"{entry.package} is installed and does not start ({error}): see edgevit doctor") from error


def write(
    name: str, module: Target, source: Source, folder: Path, metadata: Mapping[str, str], form: Mapping[str, Any]
) -> None:
    """Raises InputError if the target cannot express an operator."""
    try:
        module.lower(source, folder, metadata, **form)
    except EdgevitError:
        raise
    except Exception as error:
        raise inexpressible(name, source.program, error) or error from error


def logits_of(run: RunAll) -> Run:
    """``run`` without what the program returns beside its logits."""

    def logits(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return run(x)[0]

    return logits


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Opening or reading an artifact: whatever its runtime raises, a type a cause, becomes one ClaimError."""
    try:
        yield
    except ClaimError:
        raise
    except Exception as error:
        raise ClaimError(f"{path} is missing or damaged, or a file beside it is: export it again") from error
