"""A fixed piece of work that is timed between the programs: how the host's own speed moved meanwhile.

SHA-256 of 64 KiB takes one thread and no library's thread pool, and stays in a core's own caches, so that its time
follows the clock of the core and what neighbours leave of it, and nothing else.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DATA = bytes(1 << 16)


@dataclass(frozen=True)
class HostSpeed:
    """Relative changes of the reference's time, without unit, over the rounds of a run.

    ``spread`` is its 90th over its 10th percentile, less one: a round or two that were disturbed do not count.
    ``drift`` is that of its median in the last quarter over the first.
    """

    spread: float
    drift: float


def reference() -> bytes:
    return hashlib.sha256(DATA).digest()


def host_speed(medians_ms: NDArray[np.float64]) -> HostSpeed:
    """Of the reference's median in each round, ``[rounds]``."""
    low, high = np.percentile(medians_ms, (10, 90))
    quarter = max(1, len(medians_ms) // 4)
    drift = np.median(medians_ms[-quarter:]) / np.median(medians_ms[:quarter])
    return HostSpeed(float(high / low - 1), float(drift - 1))
