import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from edgevit.bench.local import cpu_model, describe_host, int8_flags, peak_mb, peak_rss_mb, pin, start_peak_mb


def test_host_is_described_and_fits_json():
    host = describe_host(["numpy", "no-such-distribution"])
    assert json.loads(json.dumps(host)) == host
    assert host["packages"] == {"numpy": version("numpy"), "no-such-distribution": None}
    assert host["python"] == platform.python_version()
    assert host["cores"] == os.cpu_count()
    assert host["os"]
    assert host["cpu"]
    assert 256 < host["memory_mb"] < 100_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/meminfo")
def test_memory_is_in_megabytes():
    lines = Path("/proc/meminfo").read_text().splitlines()
    kib = int(next(line for line in lines if line.startswith("MemTotal:")).split()[1])
    assert describe_host([])["memory_mb"] == pytest.approx(kib * 1024 / 1e6, rel=0.01)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor\t: 0\nvmx flags\t: i8mm\nflags\t\t: fpu avx512_vnni avx2 avx\nflags\t: avx_vnni\n",
            ["avx2", "avx512_vnni"],
        ),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n", ["avx2", "avx_vnni"]),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd4f\n", ["asimddp", "i8mm"]),
        ("flags\t: fpu avx avx512_vnni_not\n", []),
        ("processor\t: 0\nmodel name\t: with avx2\n", None),
        ("", None),
    ],
)
def test_int8_instructions_are_read_from_cpuinfo(text: str, expected: list[str] | None, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert int8_flags(tmp_path / "cpuinfo") == expected
    assert int8_flags(tmp_path / "absent") is None


def test_cpu_model_is_read_from_cpuinfo(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast: CPU 9\nprocessor\t: 1\nmodel name\t: Fast: CPU 9\n")
    assert cpu_model(cpuinfo) == "Fast: CPU 9"


def test_cpu_model_falls_back_to_the_platform(tmp_path):
    arm = tmp_path / "cpuinfo"
    arm.write_text("processor\t: 0\nCPU implementer\t: 0x41\n")
    expected = platform.processor() or platform.machine()
    assert cpu_model(arm) == cpu_model(tmp_path / "absent") == expected != ""


def test_peak_rises_with_what_was_touched_and_stays():
    before = peak_rss_mb()
    size_mb = int(before) + 50
    block = np.ones(size_mb * 125_000)
    assert peak_rss_mb() > max(before, block.nbytes / 1e6)
    del block
    assert size_mb < peak_rss_mb() < 3 * before + 200


def test_peak_counts_a_child_that_has_ended():
    size_mb = int(peak_rss_mb()) + 60
    subprocess.run([sys.executable, "-c", f"x = b'x' * {size_mb * 1_000_000}"], check=True)
    assert peak_rss_mb() > size_mb


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_own_peak_starts_again_and_counts_what_was_freed():
    block = np.ones(20_000_000)
    del block
    before = start_peak_mb()
    assert before is not None
    assert peak_mb() < before + 20  # the block above is forgotten
    block = np.ones(10_000_000)  # 80 MB
    del block
    assert 75 < peak_mb() - before < 100


def test_own_peak_is_not_known_where_the_system_does_not_tell(tmp_path):
    assert start_peak_mb(tmp_path / "absent", tmp_path / "refs") is None
    assert start_peak_mb(refs=tmp_path / "no" / "refs") is None


@pytest.mark.skipif(sys.platform != "linux", reason="pins as Linux does")
def test_a_process_is_pinned_to_the_cores_that_are_named_or_left_alone():
    there = os.sched_getaffinity(0)
    try:
        pin(None)
        assert os.sched_getaffinity(0) == there
        pin([min(there)])
        assert os.sched_getaffinity(0) == {min(there)}
    finally:
        os.sched_setaffinity(0, there)
