"""An Android device behind adb: its shell, as the Debian or Google client reaches it."""

from collections.abc import Sequence
from pathlib import Path

from edgevit.bench.devices.ran import Ran, ended, marked, unmarked
from edgevit.errors import MissingError

STATES = {
    "unauthorized": "it asks for authorisation: unlock it and allow USB debugging on its screen",
    "offline": "it is offline: plug it in again, or run adb reconnect",
    "no permissions": "this user may not use it: see adb's notes on udev rules",
}


class Adb:
    scratch = "/data/local/tmp"
    outlives = True

    def __init__(self, serial: str) -> None:
        self.name, self.serial = f"adb:{serial}", serial
        self.check()

    def check(self) -> None:
        """Raise MissingError, saying what to do, unless the device answers."""
        for line in self.adb(["devices"]).out.splitlines()[1:]:
            serial, _, state = line.partition("\t")
            if serial == self.serial and state.strip() == "device":
                return
            if serial == self.serial:
                mend = next((mend for key, mend in STATES.items() if state.startswith(key)), f"it is {state}")
                raise MissingError(f"{self.name}: {mend}")
        raise MissingError(f"{self.name} is not there: adb devices lists those that are")

    def run(self, words: Sequence[str], seconds: float | None = None) -> Ran:
        ran = self.adb(["-s", self.serial, "shell", marked(words)], seconds)
        found = unmarked(ran)
        if found is None:
            raise MissingError(f"{self.name} vanished ({ran.last}): plug it in again")
        return found

    def push(self, folder: Path, to: str) -> Ran:
        ran = self.adb(["-s", self.serial, "push", f"{folder}/.", to])
        if ran.code == 0:
            return ran
        self.run(["true"])  # which says so if the device vanished: adb has many words for it
        said = (line for line in ran.out.splitlines() if not line.startswith("["))  # and no progress
        return Ran(ran.code, "\n".join(said), ran.err)

    def pull(self, file: str, to: Path) -> Ran:
        return self.adb(["-s", self.serial, "pull", file, str(to)])

    def adb(self, words: Sequence[str], seconds: float | None = None) -> Ran:
        try:
            return ended(["adb", *words], seconds)
        except FileNotFoundError:
            raise MissingError("adb is not installed: install Android's platform tools") from None
