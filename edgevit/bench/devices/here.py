"""This host as a place; a program for another processor runs under qemu-user, if that is installed."""

import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgevit.bench.devices.ran import Ran, ended
from edgevit.errors import MissingError

MACHINES = {62: "x86_64", 183: "aarch64", 40: "arm", 243: "riscv64"}  # e_machine, System V ABI, and its supplements


class Here:
    name = "local"
    outlives = False

    def __init__(self) -> None:
        self.scratch = tempfile.gettempdir()

    def run(self, words: Sequence[str], seconds: float | None = None) -> Ran:
        try:
            return ended([*emulator(words[0]), *words], seconds)
        except OSError as error:  # what a shell gives 127 for
            return Ran(127, "", f"{words[0]}: {error.strerror}")

    def push(self, folder: Path, to: str) -> Ran:
        try:
            shutil.copytree(folder, to, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            return Ran(1, "", str(error))
        return Ran(0, "", "")


def emulator(program: str) -> list[str]:
    """What has to stand before a program of another processor. Raises MissingError where that is not installed."""
    machine = machine_of(Path(program))
    if machine is None or machine == platform.machine():
        return []
    for name in (f"qemu-{machine}-static", f"qemu-{machine}"):
        if found := shutil.which(name):
            return [found]
    raise MissingError(f"{Path(program).name} is for {machine}: run it there, or install qemu-user-static")


def machine_of(program: Path) -> str | None:
    """The processor that an ELF file is for, as uname calls it; None of what is none, or is found on the PATH."""
    if not program.is_file() or not os.access(program, os.R_OK):
        return None
    with program.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF":
        return None
    machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return MACHINES.get(machine, f"ELF machine {machine}")
