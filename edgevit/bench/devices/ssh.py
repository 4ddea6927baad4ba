"""A board behind OpenSSH: ssh and tar are all that it takes. Keys, ports and hosts are those of the user's config."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgevit.bench.devices.place import Ran
from edgevit.errors import InputError, MissingError

UNREACHABLE = 255  # ssh's own exit code (ssh(1)); any other is the command's
# Nothing is asked on the terminal, and a device that vanishes is noticed within 15 s.
OPTIONS = ("-oBatchMode=yes", "-oConnectTimeout=10", "-oServerAliveInterval=5", "-oServerAliveCountMax=3")


class Ssh:
    scratch = "/tmp"
    outlives = True

    def __init__(self, host: str) -> None:
        if not host or host.startswith("-"):
            raise InputError(f"ssh:{host} names no host: take ssh:USER@HOST, or a name of your ssh config")
        self.name, self.host = f"ssh:{host}", host

    def run(self, words: Sequence[str]) -> Ran:
        return self.ssh(shlex.join(words))

    def push(self, folder: Path, to: str) -> Ran:
        with subprocess.Popen(["tar", "-C", str(folder), "-cf", "-", "."], stdout=subprocess.PIPE) as tar:
            ran = self.ssh(shlex.join(["tar", "-C", to, "-xf", "-"]), tar.stdout)
            if tar.stdout is not None:
                tar.stdout.close()
        return ran

    def ssh(self, line: str, stdin: object = subprocess.DEVNULL) -> Ran:
        try:
            done = subprocess.run(
                ["ssh", *OPTIONS, "--", self.host, line],
                stdin=stdin,  # type: ignore[call-overload]
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except FileNotFoundError:
            raise MissingError("ssh is not installed: install OpenSSH's client") from None
        ran = Ran(done.returncode, done.stdout, done.stderr)
        if ran.code == UNREACHABLE:
            raise MissingError(f"{self.name} cannot be reached ({ran.last}): try ssh {self.host} true")
        return ran
