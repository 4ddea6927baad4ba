"""One runtime's programs timed in turns, in the process that runs this module: see ``edgevit.bench.child``.

``edgevit.bench.reference`` is timed among them; ``edgevit.bench.pooled`` makes of several such processes what they say.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convert.target import target
from edgevit.bench import child, local, protocol
from edgevit.bench.protocol import Call
from edgevit.bench.reference import reference

MODULE = "edgevit.bench.timed"
NANOSECONDS = 1e9
WARM_UP = 5.0  # seconds a program, at the most
LONGEST = 20.0  # seconds that a program may be timed for, unless more are asked


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Times of ``programs`` and of the reference, in ms; the other words of the question are ``session.Plan``'s."""
    local.pin(question["pinned"])
    calls = [call(question["target"], program, question["threads"]) for program in question["programs"]]
    found = timed(calls, question)
    if question["minutes"]:
        found["sustained"] = [sustained(each, question["minutes"]) for each in calls]
    return found


def call(name: str, program: Mapping[str, Any], threads: int) -> Call:
    """A program on noise, ``[batch, 3, image_size, image_size]`` float32."""
    run = target(name).load(Path(program["folder"]), threads)
    shape = (program["batch"], 3, program["image_size"], program["image_size"])
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return lambda: run(x)


def timed(calls: Sequence[Call], question: Mapping[str, Any]) -> dict[str, Any]:
    """``times`` of each program, ``[rounds, block]``, and the medians of the reference's rounds."""
    times, steady = protocol.interleave(
        [*calls, reference],
        np.random.default_rng(question["seed"]),
        runs=question["runs"],
        min_seconds=question["seconds"] * len(calls),
        warmup_seconds=WARM_UP * len(calls),
        max_seconds=max(LONGEST, 2 * question["seconds"]) * len(calls),
    )
    return {
        "times": [each.tolist() for each in times[:-1]],
        "reference": protocol.block_medians(times[-1]).tolist(),
        "steady": steady,
    }


def sustained(program: Call, minutes: float) -> dict[str, float]:
    """The medians of the first and of the last minute of a run without pause."""
    started, times = time.perf_counter_ns(), list[tuple[float, float]]()
    while (at := (time.perf_counter_ns() - started) / NANOSECONDS) < 60 * minutes:
        times.append((at, float(protocol.time_calls(program, 1, time.perf_counter_ns)[0])))
    first = [took for at, took in times if at < 60]
    last = [took for at, took in times if at >= 60 * (minutes - 1)]
    return {
        "calls": len(times),
        "first_minute_p50_ms": float(np.median(first)),
        "last_minute_p50_ms": float(np.median(last)),
    }


if __name__ == "__main__":
    child.answer(answer)
