"""Downloads from a server on this machine that can be told to misbehave."""

import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

import pytest

from edgevit.errors import ClaimError, InputError
from edgevit.models import download

BODY = bytes(range(256)) * 4096  # 1 MiB: several chunks
DIGEST = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """``/whole``, ``/moved``, ``/truncated`` and ``/reset`` do what they say; anything else is not found."""

    def do_GET(self) -> None:
        self.server.requests += 1  # type: ignore[attr-defined]
        kind = self.path.strip("/").removesuffix(".pth")
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/whole.pth")
            self.end_headers()
        elif kind in ("whole", "truncated", "reset"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY if kind == "whole" else BODY[: len(BODY) // 2])
            if kind == "reset":  # a linger of 0 makes closing send a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the test's stderr."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = 0  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


Fetch = Callable[..., Path]


@pytest.fixture
def fetch(server: ThreadingHTTPServer, tmp_path: Path) -> Fetch:
    """``fetch(kind)`` into ``tmp_path / "cache"``."""

    def fetch(
        kind: str,
        expected_bytes: int | None = None,
        expected_sha256: str | None = None,
        report: download.Report = lambda done, total: None,
    ) -> Path:
        return download.fetch(
            f"http://127.0.0.1:{server.server_port}/{kind}.pth",
            tmp_path / "cache",
            expected_bytes=expected_bytes,
            expected_sha256=expected_sha256,
            report=report,
        )

    return fetch


def test_whole_file_with_progress(fetch: Fetch, tmp_path: Path) -> None:
    progress: list[tuple[int, int | None]] = []
    path = fetch("whole", len(BODY), DIGEST, lambda done, total: progress.append((done, total)))
    assert path == tmp_path / "cache" / "whole.pth"
    assert path.read_bytes() == BODY
    assert [p.name for p in path.parent.iterdir()] == ["whole.pth"]
    assert progress[-1] == (len(BODY), len(BODY))
    assert len(progress) > 1


def test_second_call_needs_no_network(fetch: Fetch, server: ThreadingHTTPServer) -> None:
    assert fetch("whole") == fetch("whole", len(BODY), DIGEST)
    assert server.requests == 1  # type: ignore[attr-defined]


def test_redirect_is_followed(fetch: Fetch) -> None:
    assert fetch("moved").read_bytes() == BODY


def test_redirect_away_from_https_is_not() -> None:
    handler, request = download.NoDowngrade(), Request("https://127.0.0.1/a")
    with pytest.raises(HTTPError, match="redirected away from HTTPS"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://127.0.0.1/b")  # type: ignore[arg-type]
    followed = handler.redirect_request(request, None, 302, "Found", {}, "https://127.0.0.1/b")  # type: ignore[arg-type]
    assert followed is not None
    assert followed.full_url == "https://127.0.0.1/b"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("absent", "Not Found.*: fetch it by hand and pass --weights PATH"),
        ("truncated", "ended after 524,288 of 1,048,576 bytes"),
        ("reset", "--weights PATH"),
    ],
)
def test_failed_download_leaves_nothing(fetch: Fetch, tmp_path: Path, kind: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        fetch(kind)
    assert list((tmp_path / "cache").iterdir()) == []


def test_interrupt_leaves_nothing(fetch: Fetch, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("whole", report=interrupt)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("size", "digest", "reason"),
    [(len(BODY) - 1, None, "1,048,576 bytes, not the published 1,048,575"), (None, "0" * 64, f"SHA-256 {DIGEST}")],
)
def test_other_file_than_published(
    fetch: Fetch, tmp_path: Path, size: int | None, digest: str | None, reason: str
) -> None:
    with pytest.raises(ClaimError, match=reason):
        fetch("whole", size, digest)
    assert list((tmp_path / "cache").iterdir()) == []


def test_cached_file_is_checked_too(fetch: Fetch) -> None:
    path = fetch("whole")
    path.write_bytes(b"changed")
    with pytest.raises(ClaimError, match=f"delete {path}"):
        fetch("whole", expected_sha256=DIGEST)


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.pth"
    with pytest.raises(InputError, match=r"could not fetch .*refused.*: fetch it by hand and pass --weights PATH"):
        download.fetch(url, tmp_path, expected_bytes=None, expected_sha256=None, report=lambda done, total: None)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="set EDGEVIT_CACHE"):
        download.fetch(
            "http://127.0.0.1/a", tmp_path / "file", expected_bytes=None, expected_sha256=None, report=lambda *_: None
        )


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path))
    assert download.default_cache() == tmp_path
    monkeypatch.delenv("EDGEVIT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.default_cache() == tmp_path / ".cache" / "edgevit"
