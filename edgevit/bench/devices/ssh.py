"""A board behind OpenSSH: ssh and tar are all that it takes. Keys, ports and hosts are those of the user's config."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from edgevit.bench.devices.ran import Ran, ended, marked, unmarked
from edgevit.errors import InputError, MissingError

# Nothing is asked on the terminal, and a device that vanishes is noticed within 15 s.
OPTIONS = ("-oBatchMode=yes", "-oConnectTimeout=10", "-oServerAliveInterval=5", "-oServerAliveCountMax=3")


class Ssh:
    scratch = "/tmp"
    outlives = True

    def __init__(self, host: str) -> None:
        if not host or host.startswith("-"):
            raise InputError(f"ssh:{host} names no host: take ssh:USER@HOST, or a name of your ssh config")
        self.name, self.host = f"ssh:{host}", host

    def run(self, words: Sequence[str], seconds: float | None = None) -> Ran:
        return self.ssh(words, seconds)

    def push(self, folder: Path, to: str) -> Ran:
        with subprocess.Popen(["tar", "-C", str(folder), "-cf", "-", "."], stdout=subprocess.PIPE) as tar:
            ran = self.ssh(["tar", "-C", to, "-xf", "-"], stdin=tar.stdout)
            if tar.stdout is not None:
                tar.stdout.close()
        return ran

    def ssh(self, words: Sequence[str], seconds: float | None = None, stdin: IO[bytes] | None = None) -> Ran:
        line = shlex.join(["sh", "-c", marked(words)])  # whatever the login shell there is
        try:
            ran = ended(["ssh", *OPTIONS, "--", self.host, line], seconds, stdin)
        except FileNotFoundError:
            raise MissingError("ssh is not installed: install OpenSSH's client") from None
        found = unmarked(ran)
        if found is None:
            raise MissingError(f"{self.name} cannot be reached ({ran.last}): try ssh {self.host} true")
        return found
