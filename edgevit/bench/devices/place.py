"""A place where a program can be put and run: this host, one behind ssh, one behind adb."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgevit import artifact
from edgevit.errors import ClaimError, InputError

FULL = "No space left on device"
LAST = 300  # characters of what a device said
KILLED = 128 + 9  # the exit code of what SIGKILL ended, as shells give it
# A program behind ssh or adb goes on when nobody waits for it any more: its number is kept while it runs.
NUMBERED = 'file=$1; shift; "$@" & echo $! > "$file"; wait $!; code=$?; rm -f "$file"; exit $code'
TAKEN_AWAY = 'test -f "$1/running" && kill -9 "$(cat "$1/running")"; rm -rf "$1"'


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


class Place(Protocol):
    """Every method raises MissingError where the device cannot be reached (any more)."""

    name: str  # as its user named it, such as ssh:pi@raspberry
    scratch: str  # a folder there for what goes again
    outlives: bool  # whether what runs there goes on when this process ends

    def run(self, words: Sequence[str]) -> Ran:
        """Run a command there to its end."""
        ...

    def push(self, folder: Path, to: str) -> Ran:
        """Copy what is in ``folder`` into the folder ``to``, which is there and empty."""
        ...


@contextmanager
def folder_on(place: Place) -> Iterator[str]:
    """A new folder there, which goes with all that is in it and runs of it; a device that vanished keeps it."""
    folder = f"{place.scratch}/edgevit-{secrets.token_hex(6)}"
    made = place.run(["mkdir", "-p", folder])
    if made.code != 0:
        raise InputError(f"{place.name}: no folder could be made there ({made.last}): free space, or let it be written")
    try:
        yield folder
    finally:
        place.run(["sh", "-c", TAKEN_AWAY, "sh", folder])


def run_in(place: Place, folder: str, words: Sequence[str]) -> Ran:
    """Run a program in a folder of ``folder_on``, which ends it if it has not ended by itself."""
    return place.run(["sh", "-c", NUMBERED, "sh", f"{folder}/running", *words] if place.outlives else words)


def put(place: Place, folder: Path, to: str) -> None:
    """Copy a folder there and compare every digest. Raises InputError where the device is full."""
    files = artifact.files_in(folder)
    names = {path: path.relative_to(folder).as_posix() for path in files}
    made = place.run(["mkdir", "-p", to])
    pushed = place.push(folder, to) if made.code == 0 else made
    if pushed.code != 0:
        raise InputError(f"{place.name}: {not_pushed(pushed)}")
    sums = place.run(["sh", "-c", 'cd "$1" && find . -type f -exec sha256sum {} +', "sh", to])
    lines = (line.split(maxsplit=1) for line in sums.out.splitlines())
    found = {words[1]: words[0] for words in lines if len(words) == 2}
    for path, name in names.items():
        if found.get(f"./{name}") != artifact.sha256_of(path):
            raise ClaimError(f"{place.name}: {name} did not arrive whole ({sums.last}): try again")


def not_pushed(ran: Ran) -> str:
    if FULL in ran.err + ran.out:
        return "the device is full: free space on it"
    return f"files could not be copied there ({ran.last}): see that it can be written to"
