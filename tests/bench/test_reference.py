import numpy as np
import pytest

from edgevit.bench.protocol import Ratio
from edgevit.bench.reference import HostSpeed, host_speed, reference
from edgevit.bench.verdict import RESTLESS, WIDEST, why_inconclusive

QUIET = HostSpeed(spread=0.01, drift=0.0)


def test_a_host_that_keeps_its_speed_has_no_spread():
    assert host_speed(np.full(40, 0.03)) == HostSpeed(0.0, 0.0)


def test_a_clock_that_steps_down_is_seen_as_drift_and_spread():
    found = host_speed(np.concatenate([np.full(20, 1.0), np.full(20, 1.3)]))
    assert found.drift == pytest.approx(0.3)
    assert found.spread == pytest.approx(0.3)


def test_a_single_disturbed_round_is_no_drift():
    times = np.ones(20)
    times[7] = 5
    assert host_speed(times) == HostSpeed(0.0, 0.0)


def test_the_reference_is_the_same_work_each_time():
    assert reference() == reference()


@pytest.mark.parametrize(
    ("ratio", "steady", "host", "reason"),
    [
        (Ratio(0.5, (0.48, 0.52)), True, QUIET, None),
        (None, True, QUIET, None),
        (Ratio(0.5, (0.4, 0.6)), True, QUIET, "the interval of the ratio is 40% wide"),
        (Ratio(0.5, (0.48, 0.52)), False, QUIET, "the warm-up ended before the programs were steady"),
        (None, False, QUIET, "the warm-up ended before the programs were steady"),
        (Ratio(1, (1, 1)), True, HostSpeed(0.3, 0.0), "the host's own speed moved by 30% during the run"),
    ],
)
def test_a_noisy_run_gives_no_conclusion(ratio, steady, host, reason):
    found = why_inconclusive(ratio, steady, host)
    assert found == (reason and f"{reason}: close what else runs, or ask for more --runs")


def test_bounds_themselves_are_conclusive():
    assert why_inconclusive(Ratio(1, (1 - WIDEST / 2, 1.0499)), True, HostSpeed(RESTLESS, 0.0)) is None
