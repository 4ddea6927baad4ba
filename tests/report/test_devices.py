"""What ``edgevit bench --device`` prints: a slowed and heated device is said to be one."""

import copy
from pathlib import Path
from typing import Any

from edgevit.bench.devices.order import Answer
from edgevit.report.devices import devices_report
from tests.bench.devices.stand_in import RESULT
from tests.report.test_terminal import shown


def printed(**changed: Any) -> str:
    answer = Answer("ssh:pi@board", "computer", copy.deepcopy(RESULT) | changed)
    return shown(devices_report([(Path("out/m0"), [answer], [])]))


def test_says_where_and_how_fast() -> None:
    text = printed()
    assert "computer ssh:pi@board: Board 5, Linux 6.6, aarch64" in text
    assert "48.5 dB where 22.2 are needed, the same class" in text
    assert "12.50 · 13.25 · 15.75 ms (p50 · p90 · p99), 480 runs" in text
    assert "cold start: 61 ms" in text


def test_a_device_that_throttles_is_said_to_slow_down() -> None:
    assert "12.62 ms in the first, 16.38 in the last: it slowed down by 30%" in " ".join(printed().split())
    steady = RESULT["sustained"] | {"last_minute_p50_ms": 12.75}
    assert "slowed" not in printed(sustained=steady)
    assert "heat: 41.5 °C before, 63.0 °C after" in printed()
    assert "heat: nominal before, serious after" in printed(
        thermal={"before": {"state": "nominal"}, "after": {"state": "serious"}}
    )


def test_an_emulated_processor_has_no_times() -> None:
    text = printed(latency=None, device=RESULT["device"] | {"emulated": "qemu-user"})
    assert "emulated by qemu-user" in text
    assert "not timed" in text
    assert "ms" not in text.split("not timed")[1].split("says nothing")[0]
