"""What every profiler offers, ``profile(folder, x, threads, runs)``, and the words that they share."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from convert.registry import TARGETS
from convert.target import installed
from edgevit.errors import ClaimError, MissingError

INT8, FLOAT = "int8", "float"
LAYOUT, QUANTIZE, DEQUANTIZE = "layout", "quantize", "dequantize"  # kinds that all runtimes have
WARM = 5  # the first calls of a program that was just loaded, which are not counted


@dataclass(frozen=True)
class Operator:
    """One operator as a runtime executes it."""

    name: str  # the module that it computes, or "before" or "after" the nearest one
    node: str  # what the runtime calls it
    kind: str  # as the census counts it: "conv"; what the runtime inserts to change a layout is "layout"
    precision: str  # of what it reads or computes in: "int8", "float", or an integer type of indices
    us: float  # of one run, in microseconds
    macs: int  # multiply-accumulates; 0 where it does none, or where the runtime does not tell


@dataclass(frozen=True)
class Profiled:
    """The operators of one program in the order in which they ran."""

    operators: tuple[Operator, ...]
    calls_ms: NDArray[np.float64]  # [runs]: what each profiled call took, as the caller sees it
    clock: str  # what the profiler's clock cannot tell: a sentence
    taken_off_us: float = 0.0  # of all operators together: what the profiler itself was measured to add to them
    uncounted: tuple[str, ...] = ()  # operators that the program runs and the profiler has no time of


class Profiler(Protocol):
    """A module of ``convert.profiling`` that profiles a target."""

    def profile(self, folder: Path, x: NDArray[np.float32], threads: int, runs: int) -> Profiled:
        """Profile ``runs`` calls of the artifact in ``folder``, or a few more, on ``x`` (``[1, 3, S, S]``).

        Raises ClaimError if the artifact does not load or run.
        """
        ...


def check_timed(name: str) -> None:
    """Raise MissingError if the target called ``name`` has no profiler, or if its runtime is not installed."""
    if TARGETS[name].profiler is None:
        raise MissingError(
            f"{name} is timed on a device and not here: open its package in Xcode, whose performance report does that, "
            "or name another --target"
        )
    installed(name)


def profiler(name: str) -> Profiler:
    """Of the target called ``name``, for which ``check_timed`` passes."""
    module = TARGETS[name].profiler
    assert module is not None
    return cast(Profiler, importlib.import_module(module))


def typical(times: Sequence[Sequence[float]] | NDArray[Any]) -> NDArray[np.float64]:
    """``[runs, operators]`` → ``[operators]``: the mean of the middle half of the runs.

    As a median it does not see the runs that something else disturbed; but the profilers' clocks count whole
    microseconds, of which small operators take two or three, and a median of those would be one too.
    """
    ordered = np.sort(np.asarray(times, dtype=np.float64), axis=0)
    quarter = len(ordered) // 4
    middle: NDArray[np.float64] = ordered[quarter : len(ordered) - quarter].mean(axis=0)
    return middle


def differing(runtime: str) -> ClaimError:
    """What to raise where a profile cannot be a mean over runs."""
    return ClaimError(f"{runtime} profiled other operators in one run than in another: profile it once more")
