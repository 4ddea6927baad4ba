"""Where the time of an artifact goes on this host: its operators, what a run takes, and what the arithmetic would.

Three times that do not add up, and are never made to: a run without the profiler, a run with it, and the sum of the
operators. A profiler costs time itself, and its clock loses some; each runtime's own words for that stand beside.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.profiling.profiler import INT8, Operator, Profiled, profiler
from convert.target import Census, readable, target
from edgevit.bench import protocol
from edgevit.bench.peak import Peak, peak
from edgevit.errors import ClaimError

ARITHMETIC = ("conv", "linear", "matmul")  # kinds that a census and a profile count alike in every runtime
WARMUP_SECONDS = 5.0


@dataclass(frozen=True)
class Profile:
    """One artifact's."""

    threads: int
    latency: protocol.Timing  # without the profiler
    steady: bool
    profiled: Profiled
    census: Census
    peaks: Mapping[str, Peak]  # by precision of operators; of what a precision does not do, there is none
    model_macs: int

    @property
    def sum_us(self) -> float:
        return sum(operator.us for operator in self.profiled.operators)

    @property
    def macs(self) -> dict[str, int]:
        """By precision of the operators that multiply."""
        counted: defaultdict[str, int] = defaultdict(int)
        for operator in self.profiled.operators:
            counted[operator.precision] += operator.macs
        return {precision: macs for precision, macs in counted.items() if macs}

    @property
    def bound_ms(self) -> float:
        """What the multiplications would take at the measured peaks, if there was nothing else."""
        return sum(macs / self.peaks[precision].gmacs / 1e6 for precision, macs in self.macs.items())

    def failures(self, name: str) -> list[str]:
        """What of the artifact the profile does not have."""
        failures = []
        if self.profiled.uncounted:
            first, count = ", ".join(self.profiled.uncounted[:3]), len(self.profiled.uncounted)
            failures.append(f"{name}: the profiler has no time of {count} operators that run, such as {first}")
        found = {operator.name for operator in self.profiled.operators if operator.precision == INT8}
        missing = [operator for operator in self.census.asked if operator not in {*found, *self.census.missing}]
        if missing:
            first = ", ".join(missing[:3])
            failures.append(f"{name}: {len(missing)} INT8 operators are not in the profile, such as {first}")
        for precision, counts in (("int8", self.census.int8), ("float", self.census.float)):
            for kind in ARITHMETIC:
                have = sum(kind in o.kind and o.precision == precision for o in self.profiled.operators)
                if have < counts.get(kind, 0):
                    failures.append(f"{name}: the profile has {have} of the {counts[kind]} {kind} in {precision}")
        return failures

    def manifest(self, name: str) -> dict[str, Any]:
        """Times in ms, or of operators in µs of one run; ``share`` is of the operators' sum."""
        latency, macs = self.latency, sum(self.macs.values())
        return {
            "threads": self.threads,
            "steady": self.steady,
            "latency": {"runs": latency.runs, "p50_ms": latency.p50_ms, "p90_ms": latency.p90_ms},
            "profiled": {
                "runs": len(self.profiled.calls_ms),
                "p50_ms": float(np.median(self.profiled.calls_ms)),
                "operators_ms": self.sum_us / 1e3,
                "operators_of_latency": self.sum_us / 1e3 / latency.p50_ms,
                "taken_off_ms": self.profiled.taken_off_us / 1e3,
                "clock": self.profiled.clock,
            },
            "bound": {
                "ms": self.bound_ms,
                "of_latency": self.bound_ms / latency.p50_ms,
                "macs": self.macs,
                "of_model_macs": macs / self.model_macs,
                "peaks": {precision: asdict(found) for precision, found in self.peaks.items()},
            },
            "kinds": self.kinds(),
            "operators": [
                asdict(operator) | {"share": operator.us / self.sum_us}
                for operator in sorted(self.profiled.operators, key=lambda operator: -operator.us)
            ],
            "failures": self.failures(name),
        }

    def kinds(self) -> list[dict[str, Any]]:
        """Sums by kind and precision, the costliest first."""
        groups: defaultdict[tuple[str, str], list[Operator]] = defaultdict(list)
        for operator in self.profiled.operators:
            groups[operator.kind, operator.precision].append(operator)
        rows = [
            {
                "kind": kind,
                "precision": precision,
                "operators": len(group),
                "us": sum(operator.us for operator in group),
                "share": sum(operator.us for operator in group) / self.sum_us,
                "macs": sum(operator.macs for operator in group),
            }
            for (kind, precision), group in groups.items()
        ]
        return sorted(rows, key=lambda row: -float(row["us"]))


def measure(
    name: str, folder: Path, asked: Mapping[str, str], side: int, batch: int, model_macs: int, threads: int, runs: int
) -> Profile:
    """Profile the artifact of target ``name`` in ``folder``, which takes a ``batch`` of images of ``side`` pixels.

    ``asked`` are the operators that were quantised, and ``model_macs`` the model's work on the batch. Raises ClaimError
    if the artifact does not load or run, or if the profiler has no time at all.
    """
    module = target(name)
    x = np.random.default_rng(0).standard_normal((batch, 3, side, side), np.float32)
    with readable(folder):
        census = module.census(folder, asked)
        run = module.load(folder, threads)
        before, steady = timed(lambda: run(x), runs)
    profiled = profiler(name).profile(folder, x, threads, runs)
    after, still = timed(lambda: run(x), runs)
    if sum(operator.us for operator in profiled.operators) <= 0:
        raise ClaimError(f"{name}: its profiler counted no time at all: install the version that edgevit doctor names")
    precisions = {operator.precision for operator in profiled.operators if operator.macs}
    peaks = {found: peak(name, module, "int8" if found == INT8 else "fp32", threads) for found in sorted(precisions)}
    latency = protocol.summary(np.concatenate([before, after]))
    return Profile(threads, latency, steady and still, profiled, census, peaks, model_macs)


def timed(call: protocol.Call, runs: int) -> tuple[NDArray[np.float64], bool]:
    """Half of the runs that are timed without the profiler: one half before it and one after, as a host drifts."""
    _, steady = protocol.warm_up((call,), WARMUP_SECONDS, time.perf_counter_ns)
    return protocol.time_calls(call, -(-runs // 2), time.perf_counter_ns), steady
