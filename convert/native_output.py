"""What C++ libraries print, past Python or through it, to the terminal's error stream."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def held_back() -> Iterator[None]:
    """Keep it from the user; if the block raises, the exception gets its last line as a note."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as held:
        os.dup2(held.fileno(), 2)
        try:
            with redirect_stderr(held):
                yield
        except Exception as error:
            held.seek(0)
            lines = [line for line in held.read().split("\n") if line]
            error.add_note(lines[-1] if lines else "nothing was printed")
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
