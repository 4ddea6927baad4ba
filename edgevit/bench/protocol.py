"""How a latency is timed, as logic over callables: any device that can run a call can be measured by it.

Two programs are timed in interleaved blocks: a machine's speed drifts (clocks, heat, neighbours), but blocks side by
side see the same machine; and calls alternated one by one would leave both programs' caches cold. Each pair of blocks,
in random order, gives one ratio of medians; the ratio reported is their median, with a bootstrap interval over pairs.
"""

import math
import time
from collections.abc import Callable, Sequence
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
    times, steady = interleave(
        (a, b), random, runs=runs, block=block, warmup_seconds=warmup_seconds, max_seconds=max_seconds, clock=clock
    )
    ratio = paired_ratio(block_medians(times[0]) / block_medians(times[1]), random)
    return Comparison(summary(np.ravel(times[0])), summary(np.ravel(times[1])), ratio, steady)


def interleave(
    calls: Sequence[Call],
    random: np.random.Generator,
    *,
    runs: int,
    block: int = 12,
    min_seconds: float = 0.0,
    warmup_seconds: float = 10.0,
    max_seconds: float = 60.0,
    clock: Clock = time.perf_counter_ns,
) -> tuple[list[NDArray[np.float64]], bool]:
    """As ``compare``, for any number of programs: ``[rounds, block]`` ms of each, and whether all were steady.

    A round is a block of each program, in random order. ``runs`` calls of each and ``min_seconds`` in all are made at
    least, fewer where ``max_seconds`` is short, but always MIN_PAIRS rounds.
    """
    warm_ms, steady = warm_up(calls, warmup_seconds, clock)
    round_ms = max(sum(warm_ms), 1e-6)  # of one call each
    count = min(runs, int(max_seconds * 1e3 / round_ms))
    block = max(1, min(block, count // MIN_PAIRS))
    rounds = max(MIN_PAIRS, -(-count // block), math.ceil(min_seconds * 1e3 / (round_ms * block)))
    started = clock()
    times: list[list[NDArray[np.float64]]] = [[] for _ in calls]
    for order in balanced_orders(len(calls), rounds, random):
        if len(times[0]) >= MIN_PAIRS and clock() > started + int(max_seconds * 1e9):
            break
        for index in order:
            times[index].append(time_calls(calls[index], block, clock))
    return [np.stack(blocks) for blocks in times], steady


def balanced_orders(programs: int, rounds: int, random: np.random.Generator) -> NDArray[np.intp]:
    """``[rounds, programs]``: each order as often as its reverse, so that a drift inside a round favours none."""
    half = np.stack([random.permutation(programs) for _ in range(-(-rounds // 2))])
    return random.permutation(np.concatenate([half, half[:, ::-1]]))[:rounds]


def block_medians(times_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[rounds]`` of ``[rounds, block]``."""
    medians: NDArray[np.float64] = np.median(times_ms, axis=1)
    return medians


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


def warm_up(calls: Sequence[Call], seconds: float, clock: Clock) -> tuple[list[float], bool]:
    """Run windows of the calls in turn until each was steady once, or ``seconds`` are over; at least two windows each.

    Returns each call's median in its last window, in ms, and whether steadiness was reached. Not all at once: of many
    calls one is disturbed in most windows.
    """
    deadline = clock() + int(seconds * 1e9)
    before = [window_ms(call, clock) for call in calls]
    steady = [False] * len(calls)
    while True:
        after = [window_ms(call, clock) for call in calls]
        steady = [was or abs(y - x) <= STEADY * x for was, x, y in zip(steady, before, after, strict=True)]
        if all(steady) or clock() >= deadline:
            return after, all(steady)
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


def nested_ratio(ratios: Sequence[NDArray[np.float64]], random: np.random.Generator) -> Ratio:
    """As ``paired_ratio`` for the rounds of several processes, which are drawn first, and then their rounds.

    A process lays out its memory once, and keeps what luck it has with it: its rounds agree better than they should.
    """
    resampled = [
        np.median(np.concatenate([random.choice(drawn, len(drawn)) for drawn in draw(ratios, random)]))
        for _ in range(RESAMPLES)
    ]
    low, high = (float(p) for p in np.percentile(resampled, (2.5, 97.5)))
    return Ratio(float(np.median(np.concatenate(list(ratios)))), (low, high))


def draw(ratios: Sequence[NDArray[np.float64]], random: np.random.Generator) -> list[NDArray[np.float64]]:
    return [ratios[index] for index in random.integers(0, len(ratios), len(ratios))]
