import numpy as np
import pytest

from edgevit.bench.pooled import pooled
from edgevit.bench.protocol import nested_ratio, paired_ratio


def answer(random, *factors, rounds=20, noise=0.01, steady=True, moved=0.0):
    """One process's, of programs that take so many ms."""
    times = [(f * np.exp(noise * random.standard_normal((rounds, 6)))).tolist() for f in factors]
    return {"times": times, "reference": np.linspace(1, 1 + moved, rounds).tolist(), "steady": steady}


def test_the_first_program_is_what_the_others_are_compared_with(random):
    first, second = pooled([answer(random, 1, 2) for _ in range(3)], seed=0)
    assert first["ratio"] is None
    assert second["ratio"]["median"] == pytest.approx(2, rel=0.01)
    low, high = second["ratio"]["ci95"]
    assert low <= second["ratio"]["median"] <= high
    assert second["ratio"]["conclusive"]
    assert first["timing"]["runs"] == 3 * 20 * 6
    assert first["timing"].keys() == {"runs", "p50_ms", "p90_ms", "p99_ms", "min_ms", "spread", "steady"}


def test_processes_that_differ_widen_the_interval_beyond_what_rounds_say(random):
    ratios = [each * np.exp(0.002 * random.standard_normal(40)) for each in (0.97, 0.97, 1.005)]
    narrow = [paired_ratio(each, random) for each in ratios]
    assert not any(found.ci95[0] < 0.97 < 1.005 < found.ci95[1] for found in narrow)
    low, high = nested_ratio(ratios, random).ci95
    assert low < 0.972
    assert high > 1.003


def test_the_worst_process_decides_whether_there_is_a_conclusion(random):
    quiet = [answer(random, 1, 1) for _ in range(2)]
    for disturbed in (answer(random, 1, 1, steady=False), answer(random, 1, 1, moved=0.5)):
        _, second = pooled([*quiet, disturbed], seed=0)
        assert second["ratio"]["conclusive"] is False
        assert second["because"] == second["ratio"]["because"]
        assert "close what else runs" in second["because"]
    assert pooled([*quiet, answer(random, 1, 1, moved=-0.5)], seed=0)[0]["reference"]["drift"] < -0.3


def test_a_noisy_ratio_is_kept_and_called_no_conclusion(random):
    _, second = pooled([answer(random, 1, 1, noise=1) for _ in range(3)], seed=0)
    assert second["ratio"]["conclusive"] is False
    assert "the interval of the ratio is" in second["because"]


def test_what_ran_on_without_pause_is_told_of_its_own_program(random):
    last = answer(random, 1, 1) | {"sustained": [{"calls": 1}, {"calls": 2}]}
    found = pooled([answer(random, 1, 1), last], seed=0)
    assert [entry["timing"]["sustained"]["calls"] for entry in found] == [1, 2]
