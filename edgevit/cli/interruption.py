"""Ctrl-C and SIGTERM unwind a command like an error, so that temporary files go.

A library that is interrupted while it is imported may swallow the exception. So the wish is remembered, and whatever
shows progress next raises it again.
"""

import signal
from types import FrameType

requested = False


def listen() -> None:
    """Let both signals call ``request``."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, request)


def request(signum: int, frame: FrameType | None) -> None:
    global requested
    requested = True
    check()


def check() -> None:
    """Raise KeyboardInterrupt if one was requested."""
    if requested:
        raise KeyboardInterrupt
