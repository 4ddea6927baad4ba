"""How a command ended: of this host, or by way of one of its programs on a device."""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

LAST = 300  # characters of what a device said
KILLED = 128 + 9  # the exit code of what SIGKILL ended, as shells give it
LATE = 124  # that of what took too long, as timeout(1) gives it
MARK = "edgevit-exit:"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line that it printed, of its errors if there are such."""
        lines = [line.strip() for text in (self.out, self.err) for line in text.splitlines() if line.strip()]
        return lines[-1][:LAST] if lines else "nothing was said"


def ended(line: Sequence[str], seconds: float | None = None, stdin: IO[bytes] | None = None) -> Ran:
    """Run a program of this host, which is killed after so many ``seconds``. Raises OSError where it cannot start."""
    try:
        done = subprocess.run(
            line,
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return Ran(LATE, "", "")
    return Ran(done.returncode if done.returncode >= 0 else 128 - done.returncode, done.stdout, done.stderr)


def marked(words: Sequence[str]) -> str:
    """A line for a shell there, which tells the exit code in its output: ssh and adb may end by one of their own."""
    return f"{shlex.join(words)}; echo {MARK}$?"


def unmarked(ran: Ran) -> Ran | None:
    """How ``marked`` words ended; None where the shell did not come to tell it."""
    if ran.code == LATE:
        return ran
    out, mark, code = ran.out.replace("\r\n", "\n").rpartition(MARK)
    return Ran(int(code), out, ran.err) if mark and code.strip().isdecimal() else None
