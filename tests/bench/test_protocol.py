from collections.abc import Callable

import numpy as np
import pytest

from edgevit.bench.protocol import MIN_PAIRS, Ratio, Timing, compare, measure, slower_beyond_noise


class Machine:
    """A clock that only its own programs move; ``speed`` maps the time in ms to a factor on all durations."""

    def __init__(self, speed: Callable[[float], float] = lambda ms: 1.0, noise: float = 0.0, seed: int = 0) -> None:
        self.now, self.speed, self.noise = 0, speed, noise
        self.random = np.random.default_rng(seed)
        self.calls: list[str] = []

    def clock(self) -> int:
        return self.now

    def program(
        self, ms: float, name: str = "", first_ms: float | None = None, first_calls: int = 0
    ) -> Callable[[], None]:
        made = 0

        def call() -> None:
            nonlocal made
            duration = first_ms if first_ms is not None and made < first_calls else ms
            made += 1
            self.calls.append(name)
            jitter = np.exp(self.noise * self.random.standard_normal()) if self.noise else 1
            self.now += int(duration * 1e6 * self.speed(self.now / 1e6) * jitter)

        return call


def test_known_ratio_is_recovered():
    machine = Machine(noise=0.1)
    result = compare(machine.program(3), machine.program(2), clock=machine.clock)
    assert result.ratio.median == pytest.approx(1.5, rel=0.02)
    assert result.ratio.ci95[0] < 1.5 < result.ratio.ci95[1]
    assert result.ratio.ci95[1] - result.ratio.ci95[0] < 0.1
    assert slower_beyond_noise(result.ratio)
    assert result.steady
    assert result.a.p50_ms == pytest.approx(3, rel=0.02)
    assert result.b.p50_ms == pytest.approx(2, rel=0.02)


def test_without_noise_everything_is_exact():
    machine = Machine()
    result = compare(machine.program(2), machine.program(4), clock=machine.clock)
    assert result.ratio == Ratio(0.5, (0.5, 0.5))
    assert result.a == Timing(runs=480, p50_ms=2, p90_ms=2, p99_ms=2, min_ms=2, spread=0)


def test_one_seed_gives_one_order_and_one_interval():
    def run(seed):
        machine = Machine(noise=0.2, seed=7)
        return compare(machine.program(1, "a"), machine.program(1, "b"), clock=machine.clock, seed=seed), machine.calls

    assert run(3) == run(3)
    assert run(3)[1] != run(4)[1]


def test_calls_come_in_blocks_in_balanced_random_order():
    machine = Machine()
    compare(machine.program(1, "a"), machine.program(1, "b"), clock=machine.clock, runs=480, block=12)
    measured = "".join(machine.calls[-960:])
    pairs = [measured[i : i + 24] for i in range(0, 960, 24)]
    assert set(pairs) == {"a" * 12 + "b" * 12, "b" * 12 + "a" * 12}
    assert pairs.count("a" * 12 + "b" * 12) == 20
    assert pairs != sorted(pairs)
    assert pairs[::2] != pairs[1::2]


@pytest.mark.parametrize("seed", range(5))
def test_a_machine_that_slows_down_midway_does_not_change_the_ratio(seed):
    runs, warm_up_calls = 39 * 12, 2 * (182 + 200)
    middle = warm_up_calls + runs  # between the two blocks of the 20th of 39 pairs
    machine = Machine(speed=lambda ms: 2.0 if len(machine.calls) > middle else 1.0)
    result = compare(machine.program(1.1), machine.program(1), runs=runs, clock=machine.clock, seed=seed)
    assert len(machine.calls) == middle + runs
    assert result.ratio.median == pytest.approx(1.1, rel=0.001)
    assert result.ratio.ci95 == pytest.approx((1.1, 1.1), rel=0.001)
    # One program has its middle call before the slowdown and the other after it, so their own medians mislead by 2.
    pooled = result.a.p50_ms / result.b.p50_ms
    assert pooled == pytest.approx(2.2, rel=0.02) or pooled == pytest.approx(0.55, rel=0.02)


def test_a_steady_drift_favours_neither():
    machine = Machine(speed=lambda ms: 1 + ms / 2000, noise=0.01)
    result = compare(machine.program(1), machine.program(1), clock=machine.clock)
    assert result.a.p90_ms > 1.3 * result.a.min_ms
    assert result.ratio.median == pytest.approx(1, abs=0.01)
    assert not slower_beyond_noise(result.ratio)


@pytest.mark.parametrize("autocorrelated", [False, True])
def test_a_program_is_seldom_called_slower_than_itself(autocorrelated):
    def claims(seed):
        # Neighbours that come and go every 50 ms, each time taking another share of the machine.
        shares = np.random.default_rng([seed, 1]).uniform(1, 1.5, 1000) if autocorrelated else np.ones(1000)
        machine = Machine(speed=lambda ms: shares[int(ms / 50) % 1000], noise=0.1, seed=seed)
        program = machine.program(1)
        options = {"runs": 240, "warmup_seconds": 0.0, "clock": machine.clock, "seed": seed}
        return slower_beyond_noise(compare(program, program, **options).ratio)

    assert sum(claims(seed) for seed in range(200)) <= 16


def test_a_small_slowdown_is_seen_through_noise():
    machine = Machine(noise=0.1)
    assert slower_beyond_noise(compare(machine.program(1.1), machine.program(1), clock=machine.clock).ratio)


@pytest.mark.parametrize(("low", "slower"), [(0.99, False), (1.0, False), (1.001, True)])
def test_slower_means_the_whole_interval_lies_above_one(low, slower):
    assert slower_beyond_noise(Ratio(1.2, (low, 1.3))) is slower


def test_slow_first_calls_are_warmed_away():
    machine = Machine()
    cold = machine.program(1, first_ms=20, first_calls=15)  # its first window, and half of its second
    result = compare(cold, machine.program(1), clock=machine.clock)
    assert result.steady
    assert result.a.p99_ms == 1


def test_a_warm_up_that_never_settles_ends_in_time_and_says_so():
    machine = Machine(speed=lambda ms: 1 + int(ms / 200) % 2)  # every window differs from the one before
    timing, steady = measure(machine.program(1), runs=20, warmup_seconds=2.0, clock=machine.clock)
    assert not steady
    assert timing.runs == 20
    assert 2000 <= machine.now / 1e6 <= 2250
    machine = Machine(speed=lambda ms: 1 + int(ms / 400) % 2)
    assert not compare(machine.program(1), machine.program(1), warmup_seconds=2.0, clock=machine.clock).steady


def test_both_programs_must_be_steady():
    machine = Machine()
    growing = machine.program(1, first_ms=2, first_calls=150)  # 100 calls are its first window
    result = compare(machine.program(1), growing, clock=machine.clock, warmup_seconds=0.0)
    assert not result.steady


def test_runs_shrink_to_the_time_but_pairs_do_not():
    machine = Machine()
    result = compare(machine.program(50), machine.program(50), clock=machine.clock, max_seconds=10, runs=480)
    assert result.a.runs == result.b.runs == 100  # 10 s / 0.1 s, as 20 pairs of 5
    machine = Machine()
    result = compare(machine.program(5000), machine.program(5000), clock=machine.clock, max_seconds=10)
    assert result.a.runs == MIN_PAIRS


def test_a_machine_that_slows_after_the_warm_up_is_stopped_by_the_clock():
    machine = Machine(speed=lambda ms: 10.0 if ms > 800 else 1.0)
    result = compare(machine.program(1), machine.program(1), clock=machine.clock, runs=12_000, max_seconds=10)
    assert machine.now / 1e9 < 12
    assert MIN_PAIRS * 12 <= result.a.runs < 1200


def test_too_few_runs_are_refused():
    machine = Machine()
    with pytest.raises(ValueError, match="at least 20"):
        compare(machine.program(1), machine.program(1), clock=machine.clock, runs=19)


def test_measure_gives_percentiles_of_the_measured_calls():
    durations = iter([1.0] * 400 + list(np.random.default_rng(0).permutation(np.arange(1, 102))))
    machine = Machine(speed=lambda ms: next(durations))
    timing, steady = measure(machine.program(1), runs=101, clock=machine.clock)
    assert steady
    assert (timing.runs, timing.p50_ms, timing.p90_ms, timing.p99_ms, timing.min_ms) == (101, 51, 91, 100, 1)
    assert timing.spread == pytest.approx((76 - 26) / 51)


def test_measure_shrinks_to_its_time():
    machine = Machine()
    timing, _ = measure(machine.program(100), runs=480, max_seconds=5, clock=machine.clock)
    assert timing.runs == 50
    timing, _ = measure(machine.program(100), runs=480, max_seconds=0.5, clock=machine.clock)
    assert timing.runs == MIN_PAIRS


def test_real_clock():
    result = compare(lambda: sum(range(20_000)), lambda: sum(range(2_000)), runs=120, warmup_seconds=0.0)
    assert result.ratio.median > 3
    assert result.a.min_ms > 0
