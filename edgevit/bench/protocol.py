"""How a latency is timed, as logic over callables: any device that can run a call can be measured by it.

Two programs are timed in interleaved blocks: a machine's speed drifts (clocks, heat, neighbours), but blocks side by
side see the same machine; and calls alternated one by one would leave both programs' caches cold. Each pair of blocks,
in random order, gives one ratio of medians; the ratio reported is their median, with a bootstrap interval over pairs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Call = Callable[[], object]
Clock = Callable[[], int]  # nanoseconds

MIN_PAIRS = 20  # below this the interval of the ratio is too wide to say anything on a shared machine
WINDOW_NS = 200_000_000  # a warm-up window: long enough for a clock to ramp up and for a median of many short calls
STEADY = 0.05  # warm when the median of a window is this close, relatively, to that of the one before
RESAMPLES = 2000


@dataclass(frozen=True)
class Timing:
    """The latency of one program over ``runs`` calls; ``spread`` is (p75 - p25) / p50, without unit."""

    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    spread: float


@dataclass(frozen=True)
class Ratio:
    """How many times longer one program takes than another, and the 95 % interval."""

    median: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """``ratio`` is a / b from paired blocks; ``steady`` is false where the warm-up ended by its time limit."""

    a: Timing
    b: Timing
    ratio: Ratio
    steady: bool


def compare(
    a: Call,
    b: Call,
    *,
    runs: int = 480,
    block: int = 12,
    warmup_seconds: float = 10.0,
    max_seconds: float = 60.0,
    clock: Clock = time.perf_counter_ns,
    seed: int = 0,
) -> Comparison:
    """Time ``a`` against ``b``: ``runs`` calls of each in blocks of ``block``, fewer where ``max_seconds`` is short.

    The warm-up may take ``warmup_seconds`` before that. How much is measured follows from the warm-up and from the time
    spent, never from the ratio seen so far, so that a result cannot be waited for. Slow programs get shorter blocks,
    down to single calls, but always MIN_PAIRS pairs of them, however long those take. ``seed`` decides the order of the
    blocks and the bootstrap. Raises ValueError if ``runs`` is less than MIN_PAIRS.
    """
    if runs < MIN_PAIRS:
        raise ValueError(f"{runs} runs are too few to compare two programs: ask for at least {MIN_PAIRS}")
    random = np.random.default_rng(seed)
    (a_ms, b_ms), steady = warm_up((a, b), warmup_seconds, clock)
    calls = min(runs, int(max_seconds * 1e3 / max(a_ms + b_ms, 1e-6)))
    block = max(1, min(block, calls // MIN_PAIRS))
    # As many pairs start with a as with b, so that a drift inside the pairs favours neither.
    a_first = random.permutation(np.arange(max(MIN_PAIRS, -(-calls // block))) % 2 == 0)
    deadline = clock() + int(max_seconds * 1e9)
    a_blocks: list[NDArray[np.float64]] = []
    b_blocks: list[NDArray[np.float64]] = []
    for order in a_first:
        if len(a_blocks) >= MIN_PAIRS and clock() > deadline:
            break
        turns = ((a, a_blocks), (b, b_blocks))
        for call, blocks in turns if order else reversed(turns):
            blocks.append(time_calls(call, block, clock))
    ratios = np.median(a_blocks, axis=1) / np.median(b_blocks, axis=1)
    return Comparison(summary(np.ravel(a_blocks)), summary(np.ravel(b_blocks)), paired_ratio(ratios, random), steady)


def measure(
    call: Call,
    *,
    runs: int = 480,
    warmup_seconds: float = 5.0,
    max_seconds: float = 30.0,
    clock: Clock = time.perf_counter_ns,
) -> tuple[Timing, bool]:
    """Time one program over ``runs`` calls, fewer where ``max_seconds`` is short; and whether it was steady."""
    (warm_ms,), steady = warm_up((call,), warmup_seconds, clock)
    calls = max(MIN_PAIRS, int(max_seconds * 1e3 / max(warm_ms, 1e-6)))
    return summary(time_calls(call, min(runs, calls), clock)), steady


def slower_beyond_noise(ratio: Ratio) -> bool:
    """Whether the whole interval lies above 1: the first program is slower than the second, and it is not noise."""
    return ratio.ci95[0] > 1


def warm_up(calls: tuple[Call, ...], seconds: float, clock: Clock) -> tuple[list[float], bool]:
    """Run windows of the calls in turn until all are steady, or ``seconds`` are over; at least two windows each.

    Returns each call's median in its last window, in ms, and whether steadiness was reached.
    """
    deadline = clock() + int(seconds * 1e9)
    before = [window_ms(call, clock) for call in calls]
    while True:
        after = [window_ms(call, clock) for call in calls]
        steady = all(abs(y - x) <= STEADY * x for x, y in zip(before, after, strict=True))
        if steady or clock() >= deadline:
            return after, steady
        before = after


def window_ms(call: Call, clock: Clock) -> float:
    """The median of calls made one after the other for WINDOW_NS, at least one."""
    end = clock() + WINDOW_NS
    times = [time_calls(call, 1, clock)[0]]
    while clock() < end:
        times.append(time_calls(call, 1, clock)[0])
    return float(np.median(times))


def time_calls(call: Call, count: int, clock: Clock) -> NDArray[np.float64]:
    """``[count]``: what each call took, in ms."""
    times = np.empty(count)
    for index in range(count):
        start = clock()
        call()
        times[index] = (clock() - start) / 1e6
    return times


def summary(times_ms: NDArray[np.float64]) -> Timing:
    """Percentiles interpolate linearly between the two nearest calls."""
    p25, p50, p75, p90, p99 = (float(p) for p in np.percentile(times_ms, (25, 50, 75, 90, 99)))
    return Timing(len(times_ms), p50, p90, p99, float(times_ms.min()), (p75 - p25) / p50)


def paired_ratio(ratios: NDArray[np.float64], random: np.random.Generator) -> Ratio:
    """The median of the pairs' ratios and its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13)."""
    resampled = np.median(random.choice(ratios, (RESAMPLES, len(ratios))), axis=1)
    low, high = (float(p) for p in np.percentile(resampled, (2.5, 97.5)))
    return Ratio(float(np.median(ratios)), (low, high))
