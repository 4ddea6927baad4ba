"""This host as a device: what it is, and how much memory an export took on it. Linux and macOS."""

import os
import platform
import resource
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

MB = 1_000_000
INT8_FLAGS = ("avx2", "avx_vnni", "avx512_vnni", "asimddp", "i8mm")  # by which kernels are chosen


class Host(TypedDict):
    """``cores`` are logical, ``memory_mb`` is physical and in 10^6 bytes, a package that is not installed is None.

    ``int8_flags`` are what INT8 arithmetic is fast with: processors of one name may differ in them.
    """

    os: str
    cpu: str
    int8_flags: list[str] | None
    cores: int
    memory_mb: int
    python: str
    packages: dict[str, str | None]


def describe_host(packages: Iterable[str]) -> Host:
    """This host, with the versions of the named distributions."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Host(
        os=platform.platform(),
        cpu=cpu_model(),
        int8_flags=int8_flags(),
        cores=os.cpu_count() or 1,
        memory_mb=memory // MB,
        python=platform.python_version(),
        packages={name: installed_version(name) for name in packages},
    )


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model's name where Linux gives it (x86), else what the platform calls its processor."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def int8_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str] | None:
    """Those of ``INT8_FLAGS`` that the first core has, as Linux names them on x86 and on Arm; None if it does not."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    fields = [line.partition(":") for line in lines]
    found = [flags.split() for name, _, flags in fields if name.strip() in ("flags", "Features")]
    return [flag for flag in INT8_FLAGS if flag in found[0]] if found else None


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def peak_rss_mb() -> float:
    """The largest resident set so far, in 10^6 bytes, of this process or of one child that has ended (getrusage(2)).

    The larger of the two and not their sum: on Linux a child's figure starts from its parent's size when it was forked.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(peaks) * unit / MB


def pin(cores: Iterable[int] | None) -> None:
    """Let this process run on these cores alone, or leave it where it may run. Linux."""
    if cores is not None:
        os.sched_setaffinity(0, cores)


def start_peak_mb(status: Path = Path("/proc/self/status"), refs: Path = Path("/proc/self/clear_refs")) -> float | None:
    """Let ``peak_mb`` start from what this process holds now, which is returned; None where that cannot be done.

    Source: proc(5), ``/proc/pid/clear_refs``: 5 resets the peak.
    """
    try:
        refs.write_text("5")
        return peak_mb(status)
    except OSError:
        return None


def peak_mb(status: Path = Path("/proc/self/status")) -> float:
    """The largest resident set of this process alone since ``start_peak_mb``, in 10^6 bytes."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / MB
