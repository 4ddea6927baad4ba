"""What commands share on the terminal: progress on stderr, results on stdout, ``--json`` for either reader."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgevit.cli import interruption
from edgevit.errors import ClaimError


class Terminal(Console):
    """Lets the command line say how it ends when its reader has gone; rich would exit with code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


err = Terminal(stderr=True)
out = Terminal()


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on stderr that vanishes when done; nothing is drawn where stderr is not a terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as display:
        yield display


@contextmanager
def counting(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """One bar of a progress display; what it yields is told how many more are done."""
    interruption.check()
    with progress() as display:
        task = display.add_task(title, total=total)

        def advance(count: int) -> None:
            interruption.check()
            display.advance(task, count)

        yield advance


@contextmanager
def downloading(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """What it yields is told how many bytes have come, and of how many; nothing is shown before the first."""
    with progress() as display:
        task = display.add_task(title, total=None, visible=False)
        yield lambda done, total: display.update(task, completed=done, total=total, visible=True)


def note(message: str) -> None:
    """A line on stderr that is not an error."""
    err.print(message, highlight=False, markup=False, soft_wrap=True)


def say(message: str) -> None:
    """A line of the result, on stdout."""
    out.print(message, highlight=False, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def fail(failures: Sequence[str]) -> None:
    """Raise ClaimError with the first claim that does not hold, if there is one, and the number of the others."""
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise ClaimError(failures[0] + more)
