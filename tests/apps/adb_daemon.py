"""An Android device for the real ``adb`` on loopback: AOSP's protocol.txt and SYNC.TXT, and ways to misbehave.

``/data/local/tmp`` is a folder of the test, and what lies in the folder's ``bin`` comes first on its PATH: so a test
says what the device's ``getprop`` or ``mkdir`` answers.
"""

import contextlib
import os
import queue
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

MAXIMUM = 64 * 1024
VERSION = 0x01000001  # from this on nobody checks the sum of a message
TOKEN, PUBLIC_KEY = 1, 3
STDOUT, STDERR, EXIT = 1, 2, 3
SCRATCH = "/data/local/tmp"


class Daemon:
    """Listens from the start; ``vanish`` is as if its cable were pulled."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asks = False  # for authorisation, for ever
        self.refuses: str | None = None  # every file, for this reason
        self.vanish_in_push = False
        self.vanish_in: str | None = None  # a shell command that has this in it
        self.running: list[subprocess.Popen[bytes]] = []
        self.sockets: list[socket.socket] = []
        (root / "bin").mkdir(parents=True)
        self.listener = listen()
        self.serial = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(connection)
            threading.Thread(target=Transport(self, connection).serve, daemon=True).start()

    def vanish(self) -> None:
        for each in (self.listener, *self.sockets):
            with contextlib.suppress(OSError):  # it was closed before
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):  # it, and all that it started, ended before
                os.killpg(process.pid, signal.SIGKILL)


def connect(daemon: Daemon) -> str:
    """Makes adb know it; gives it as ``--device`` names it."""
    subprocess.run(["adb", "connect", daemon.serial], capture_output=True, check=False)
    return f"adb:{daemon.serial}"


def listen() -> socket.socket:
    """On a free port outside 5555 to 5585, where adb looks for emulators by itself."""
    while True:
        listener = socket.create_server(("127.0.0.1", 0))
        if not 5555 <= listener.getsockname()[1] <= 5585:
            return listener
        listener.close()


class GoneError(Exception):
    """The other end closed the stream."""


class Transport:
    """One connection of the adb server, with many streams in it."""

    def __init__(self, device: Daemon, connection: socket.socket) -> None:
        self.device, self.connection = device, connection
        self.lock = threading.Lock()
        self.streams: dict[int, Stream] = {}

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        (number,) = struct.unpack("<I", command)
        head = struct.pack("<4s5I", command, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF)
        with self.lock:
            try:
                self.connection.sendall(head + data)
            except OSError:
                raise GoneError from None

    def serve(self) -> None:
        try:
            with self.connection.makefile("rb") as file:
                while len(head := file.read(24)) == 24:
                    command, first, second, length = struct.unpack("<4s3I", head[:16])
                    self.take(command, first, second, file.read(length))
        except (OSError, ValueError, GoneError):
            pass  # the device vanished, or the server was stopped
        for stream in list(self.streams.values()):
            stream.end()

    def take(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command in (b"CNXN", b"AUTH") and self.device.asks:
            if first != PUBLIC_KEY or command == b"CNXN":
                self.send(b"AUTH", TOKEN, 0, bytes(20))
        elif command == b"CNXN":
            banner = b"device::ro.product.name=test;ro.product.model=test;ro.product.device=test;features=shell_v2,cmd"
            self.send(b"CNXN", VERSION, MAXIMUM, banner)
        elif command == b"OPEN":
            stream = self.streams[first] = Stream(self, first)
            self.send(b"OKAY", first, first)
            threading.Thread(target=serve, args=(stream, data.rstrip(b"\0").decode()), daemon=True).start()
        elif command == b"WRTE" and second in self.streams:
            self.streams[second].incoming.put(data)
            self.send(b"OKAY", second, first)
        elif command == b"OKAY" and second in self.streams:
            self.streams[second].ready.release()
        elif command == b"CLSE" and second in self.streams:
            self.streams.pop(second).end()


class Stream:
    """One service; both ends call it by the same number."""

    def __init__(self, transport: Transport, number: int) -> None:
        self.transport, self.number = transport, number
        self.device = transport.device
        self.incoming: queue.Queue[bytes | None] = queue.Queue()
        self.ready = threading.Semaphore(1)
        self.held = b""
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = False

    def end(self) -> None:
        """As adbd: what a stream runs gets SIGHUP, and only the shell, not what that runs."""
        self.ended = True
        self.incoming.put(None)
        self.ready.release()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGHUP)

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), MAXIMUM):
            self.ready.acquire()  # one message on its way at a time
            if self.ended:
                raise GoneError
            self.transport.send(b"WRTE", self.number, self.number, data[start : start + MAXIMUM])

    def read(self, length: int) -> bytes:
        while len(self.held) < length:
            data = self.incoming.get()
            if data is None:
                raise GoneError
            self.held += data
        found, self.held = self.held[:length], self.held[length:]
        return found

    def close(self) -> None:
        if self.transport.streams.pop(self.number, None) is not None:
            self.transport.send(b"CLSE", self.number, self.number)


def serve(stream: Stream, service: str) -> None:
    name, _, rest = service.partition(":")
    kind, *options = name.split(",")
    try:
        if kind == "shell":
            shell(stream, rest, framed="v2" in options)
        elif kind == "sync":
            sync(stream)
        stream.close()
    except GoneError:
        pass


def shell(stream: Stream, line: str, framed: bool) -> None:
    device = stream.device
    environment = os.environ | {"PATH": f"{device.root / 'bin'}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["sh", "-c", line.replace(SCRATCH, str(device.root))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if framed else subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    stream.process = process
    device.running.append(process)
    if device.vanish_in is not None and device.vanish_in in line:
        time.sleep(0.3)
        device.vanish()
        raise GoneError
    out, err = process.communicate()
    if not framed:
        stream.write(out)
        return
    for kind, data in ((STDOUT, out), (STDERR, err), (EXIT, bytes([process.returncode & 0xFF]))):
        if data:
            stream.write(struct.pack("<BI", kind, len(data)) + data)


def sync(stream: Stream) -> None:
    root = stream.device.root
    while True:
        command, length = struct.unpack("<4sI", stream.read(8))
        path = stream.read(length).decode()
        where = Path(path.replace(SCRATCH, str(root)))
        if command == b"QUIT":
            return
        if command == b"STAT":
            stream.write(b"STAT" + stat(where))
        elif command == b"LIST":
            found = sorted(where.iterdir()) if where.is_dir() else []
            entries = (b"DENT" + stat(p) + struct.pack("<I", len(p.name.encode())) + p.name.encode() for p in found)
            stream.write(b"".join(entries) + b"DONE" + bytes(16))
        elif command == b"SEND":
            take_file(stream, path)
        elif command == b"RECV":
            give_file(stream, where)
        else:
            fail(stream, f"unknown command {command!r}")
            return


def stat(path: Path) -> bytes:
    if not path.exists():
        return bytes(12)
    found = path.stat()
    return struct.pack("<3I", found.st_mode, found.st_size, int(found.st_mtime))


def take_file(stream: Stream, path: str) -> None:
    name, _, mode = path.rpartition(",")
    where = Path(name.replace(SCRATCH, str(stream.device.root)))
    data = b""
    while True:
        command, length = struct.unpack("<4sI", stream.read(8))
        if command == b"DONE":
            break
        data += stream.read(length)
        if stream.device.vanish_in_push:
            stream.device.vanish()
            raise GoneError
    if stream.device.refuses is not None:
        fail(stream, f"couldn't create file: {stream.device.refuses}")
        return
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_bytes(data)
    where.chmod(int(mode) & 0o777)
    stream.write(b"OKAY" + bytes(4))


def give_file(stream: Stream, where: Path) -> None:
    if not where.is_file():
        fail(stream, "No such file or directory")
        return
    data = where.read_bytes()
    for start in range(0, len(data), MAXIMUM):
        chunk = data[start : start + MAXIMUM]
        stream.write(b"DATA" + struct.pack("<I", len(chunk)) + chunk)
    stream.write(b"DONE" + bytes(4))


def fail(stream: Stream, reason: str) -> None:
    stream.write(b"FAIL" + struct.pack("<I", len(reason)) + reason.encode())
