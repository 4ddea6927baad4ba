"""One of edgevit's commands as its user runs it, and what it took: its other processes included."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import psutil

from edgevit.bench.child import ending, said
from edgevit.bench.local import MB


@dataclass(frozen=True)
class Took:
    """``peak_mb`` is the most that its processes held together, in 10^6 bytes, looked at ten times a second."""

    out: str
    seconds: float
    peak_mb: float


def edgevit(*words: str) -> Took:
    """Run it to its end, which may be a failed claim. Ends this process, saying why, where it failed otherwise."""
    started, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        done = subprocess.Popen([sys.executable, "-m", "edgevit", *words], stdout=output, stderr=errors)
        while done.poll() is None:
            peak = max(peak, resident(done.pid))
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        output.seek(0)
        errors.seek(0)
        if done.returncode not in (0, 1):
            sys.exit(f"edgevit {' '.join(words)}: {ending(done.returncode)} {said(errors.read())}")
        return Took(output.read(), seconds, peak / MB)


def resident(pid: int) -> int:
    """Bytes of a process and its children."""
    try:
        process = psutil.Process(pid)
        return sum(member.memory_info().rss for member in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0
