"""A place where a program can be put and run: this host, one behind ssh, one behind adb."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from edgevit import artifact
from edgevit.bench.devices.ran import LATE, Ran
from edgevit.errors import ClaimError, InputError

FULL = "No space left on device"
# A program behind ssh or adb goes on when nobody waits for it any more: its number is kept while it runs.
NUMBERED = 'file=$1; shift; "$@" & echo $! > "$file"; wait $!; code=$?; rm -f "$file"; exit $code'
END = 'test -f "$1/running" && kill -9 "$(cat "$1/running")"'
TAKE_AWAY = f'{END}; rm -rf "$1"'


class Place(Protocol):
    """Every method raises MissingError where the device cannot be reached (any more)."""

    name: str  # as its user named it, such as ssh:pi@raspberry
    scratch: str  # a folder there for what goes again
    outlives: bool  # whether what runs there goes on when this process ends

    def run(self, words: Sequence[str], seconds: float | None = None) -> Ran:
        """Run a command there to its end, which is LATE after so many ``seconds``."""
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
        place.run(["sh", "-c", TAKE_AWAY, "sh", folder])


def run_in(place: Place, folder: str, words: Sequence[str], seconds: float) -> Ran:
    """Run a program in a folder of ``folder_on``, which ends it if it has not ended by itself; so does ``seconds``."""
    if not place.outlives:
        return place.run(words, seconds)
    ran = place.run(["sh", "-c", NUMBERED, "sh", f"{folder}/running", *words], seconds)
    if ran.code == LATE:
        place.run(["sh", "-c", END, "sh", folder])
    return ran


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
