"""A board for the real ``ssh`` on loopback: OpenSSH's sshd with a configuration, a host key and a user key of its own.

What is asked of it in ``/tmp/edgevit-...`` happens in a folder of the test, whose ``bin`` comes first on its PATH.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.apps import outside

NAME = "board"
VANISH = 'touch "$GONE"; kill -9 "$SESSION"\n'  # a program that pulls the board's cable
SEPARATED = Path("/run/sshd")  # which sshd wants to be there where it is started by root
FORCED = """#!/bin/sh
case "$SSH_ORIGINAL_COMMAND" in *"$(cat {root}/vanish-in 2>/dev/null || echo never)"*) touch {root}/gone;; esac
test -e {root}/gone && kill -9 $PPID && exit
export PATH={root}/bin:$PATH GONE={root}/gone SESSION=$PPID
eval "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed 's#/tmp/edgevit-#{root}/edgevit-#g')"
"""


class Board:
    def __init__(self, root: Path) -> None:
        self.root, self.spec = root, f"ssh:{NAME}"
        (root / "bin").mkdir(parents=True)

    def vanish_in(self, words: str) -> None:
        """From the first command on that has these words in it, every session is killed before it does anything."""
        (self.root / "vanish-in").write_text(words)


@contextmanager
def running(folder: Path) -> Iterator[tuple[Board, Path]]:
    """The board, and a folder whose ``ssh`` knows it."""
    sshd, ssh = outside.program("/usr/sbin/sshd", "openssh-server"), outside.program("ssh", "openssh-client")
    keygen = outside.program("ssh-keygen", "openssh-client")
    board, bin_ = Board(folder / "board"), folder / "bin"
    for name in ("host", "user"):
        outside.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)])
    forced = script(folder / "forced", FORCED.format(root=board.root))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nAuthenticationMethods publickey\nForceCommand {forced}\n"
    )
    (folder / "config").write_text(
        f"Host {NAME}\nHostName 127.0.0.1\nPort {port}\nIdentityFile {folder}/user\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {folder}/known\nStrictHostKeyChecking no\nLogLevel ERROR\n"
    )
    bin_.mkdir()
    script(bin_ / "ssh", f'#!/bin/sh\nexec {ssh} -F {folder}/config "$@"\n')
    made = os.geteuid() == 0 and not SEPARATED.exists()
    if made:
        SEPARATED.mkdir(mode=0o755)
    with (folder / "log").open("wb") as log, subprocess.Popen([sshd, "-D", "-e", "-f", config], stderr=log) as process:
        try:
            wait_for(port, process, folder / "log")
            yield board, bin_
        finally:
            process.terminate()
            process.wait()
            if made:
                SEPARATED.rmdir()


def wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(100):
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"sshd does not listen: {log.read_text()}")


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path
