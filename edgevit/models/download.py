"""Published weights over HTTPS into a cache, whole or not at all."""

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.error import HTTPError

from edgevit.errors import ClaimError, InputError

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 18

Report = Callable[[int, int | None], None]  # bytes so far, and of how many if the server says


class NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from HTTPS to anything else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.startswith("https:"):
            raise HTTPError(newurl, code, "redirected away from HTTPS", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def default_cache() -> Path:
    """``$EDGEVIT_CACHE``, or ``~/.cache/edgevit``."""
    return Path(os.environ.get("EDGEVIT_CACHE") or Path.home() / ".cache" / "edgevit")


def fetch(
    url: str, cache_dir: Path, *, expected_bytes: int | None, expected_sha256: str | None, report: Report
) -> Path:
    """The file at ``url``, downloaded unless it is already in ``cache_dir``.

    A file gets its name there only when it is whole and as expected; of a digest its first digits will do, which some
    publishers put into the file's name. Raises InputError when it cannot be had whole,
    ClaimError when it is not the expected file.
    """
    path = cache_dir / url.rsplit("/", 1)[-1]
    if path.is_file():
        check(path, url, expected_bytes, expected_sha256)
        return path
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(".partial", path.name + ".", cache_dir)
    except OSError as error:
        raise InputError(f"cannot write to the cache {cache_dir} ({error.strerror}): set EDGEVIT_CACHE") from None
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            download(url, file, report)
        check(partial, url, expected_bytes, expected_sha256)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def download(url: str, file: IO[bytes], report: Report) -> None:
    """Copy the body of ``url`` to ``file``. Raises InputError unless all of it came."""
    done, total = 0, None
    try:
        with urllib.request.build_opener(NoDowngrade).open(url, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(done, total)
    except (OSError, HTTPException) as error:
        raise InputError(f"could not fetch {url} ({error}): fetch it by hand and pass --weights PATH") from None
    if total is not None and done != total:
        raise InputError(f"{url} ended after {done:,} of {total:,} bytes: try again, or pass --weights PATH")


def check(path: Path, url: str, expected_bytes: int | None, expected_sha256: str | None) -> None:
    """Raise ClaimError unless the file has the published size and digest, where there are any."""
    size = path.stat().st_size
    if expected_bytes is not None and size != expected_bytes:
        raise ClaimError(f"{url} has {size:,} bytes, not the published {expected_bytes:,}: {mend(path)}")
    if expected_sha256 is not None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(expected_sha256):
            raise ClaimError(f"{url} has SHA-256 {digest}, not the published {expected_sha256}: {mend(path)}")


def mend(path: Path) -> str:
    """A download that fails its check is gone by then; a cached file stays until its owner removes it."""
    return "nothing was kept, do not use it" if path.suffix == ".partial" else f"delete {path} to fetch it anew"
