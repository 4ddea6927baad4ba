import numpy as np

from edgevit.bench import protocol, timed
from edgevit.bench.timed import sustained

QUESTION = {"runs": 20, "seconds": 0.0, "seed": 0}


def nothing() -> None:
    """A program that takes no time worth telling."""


def test_every_round_of_every_program_is_there():
    found = timed.timed([nothing, nothing], QUESTION)
    first, second = (np.array(times) for times in found["times"])
    assert first.shape == second.shape
    assert first.shape[0] >= protocol.MIN_PAIRS
    assert len(found["reference"]) == len(first)
    assert np.median(found["reference"]) > np.median(first)


def test_every_program_gets_its_time(monkeypatch):
    asked = {}

    def interleave(calls, random, **options):
        asked.update(options, programs=len(calls))
        return [np.ones((20, 1)) for _ in calls], True

    monkeypatch.setattr(protocol, "interleave", interleave)
    timed.timed([nothing, nothing, nothing], {"runs": 100, "seconds": 40, "seed": 0})
    assert asked == {"programs": 4, "runs": 100, "min_seconds": 120, "warmup_seconds": 15, "max_seconds": 240}


def test_a_program_that_slows_down_is_seen_in_the_last_minute(monkeypatch):
    now = 0

    def clock() -> int:
        return now

    def program() -> None:
        nonlocal now
        now += int((10 if now < 90e9 else 15) * 1e6)

    monkeypatch.setattr(timed.time, "perf_counter_ns", clock)
    found = sustained(program, 3)
    assert (found["first_minute_p50_ms"], found["last_minute_p50_ms"]) == (10, 15)
    assert found["calls"] == 9000 + 6000
