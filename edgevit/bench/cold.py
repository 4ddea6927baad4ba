"""A program's first answer and its memory, in the process that runs this module: see ``edgevit.bench.child``.

The runtime is imported, and the file is in the system's cache; nothing else was loaded or run before.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.target import target
from edgevit.bench import child, local

MODULE = "edgevit.bench.cold"
CALLS = 10  # after the first: what is allocated later counts as well


def answer(question: Mapping[str, Any]) -> dict[str, float | None]:
    """``load_ms``, ``first_ms`` and ``memory_mb``: what loading and running added to the process, at its peak.

    The last in 10^6 bytes, or None where the system does not tell: it is Linux that does.
    """
    local.pin(question["pinned"])
    size = question["image_size"]
    x = np.zeros((question["batch"], 3, size, size), np.float32)
    module, folder = target(question["target"]), Path(question["folder"])
    before = local.start_peak_mb()
    started = time.perf_counter_ns()
    run = module.load(folder, question["threads"])
    loaded = time.perf_counter_ns()
    run(x)
    ran = time.perf_counter_ns()
    for _ in range(CALLS):
        run(x)
    memory = None if before is None else local.peak_mb() - before
    return {"load_ms": (loaded - started) / 1e6, "first_ms": (ran - loaded) / 1e6, "memory_mb": memory}


if __name__ == "__main__":
    child.answer(answer)
