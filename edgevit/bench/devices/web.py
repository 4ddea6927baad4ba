"""The web app in a headless Chromium of this host, served from loopback: its page runs the benchmark and posts back."""

import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edgevit.bench.devices.order import Answer, Order, answered
from edgevit.bundle import make
from edgevit.bundle.make import Progress
from edgevit.errors import ClaimError, InputError, MissingError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LARGEST = 1 << 20  # bytes of a result
NAME = "web"
RUNTIME = Path("node_modules") / "onnxruntime-web"
# No first-run pages, no updates, no look-ups: the page is all that is asked for.
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


def bench(folder: Path, data: str | None, app: Path, order: Order, progress: Progress) -> Answer:
    """The answer of the page in ``app``, which ``edgevit bundle`` wrote and ``npm ci`` was run in.

    Raises MissingError where no Chromium is installed, InputError for a folder that is not such a page, ClaimError
    where the page or the browser fails.
    """
    browser = find_browser()
    if not (app / "index.html").is_file() or not (app / RUNTIME).is_dir():
        raise InputError(f"{app} is no web app with its packages: edgevit bundle --app web, then npm ci in it")
    with tempfile.TemporaryDirectory(prefix="edgevit-") as scratch:
        bundle = Path(scratch) / "bundle"
        bundle.mkdir()
        make.make(folder, ["onnx"], data, bundle, progress)
        with serving(app, bundle) as (address, results), progress("timing onnx in Chromium", None):
            asked = {"provider": "wasm", "threads": order.threads, "runs": order.runs, "seconds": order.seconds}
            asked |= {"minutes": order.minutes or 0, "post": "/result"}
            url = f"{address}/index.html?benchmark&{urlencode(asked)}"
            return answered(posted(browser, url, Path(scratch), results, order), NAME, folder)


def find_browser() -> str:
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise MissingError("no Chromium is installed: install chromium, or open the web app by hand")


def posted(browser: str, url: str, scratch: Path, results: "queue.Queue[str]", order: Order) -> str:
    """What the page posts. Raises ClaimError where the browser ends, or nothing comes."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to start as root
    line = [browser, *FLAGS, *sandbox, f"--user-data-dir={scratch / 'profile'}", url]
    with (scratch / "browser.log").open("w+") as log, subprocess.Popen(line, stdout=log, stderr=log) as process:
        try:
            return waited(process, results, order.patience)
        finally:
            process.kill()


def waited(process: subprocess.Popen[bytes], results: "queue.Queue[str]", seconds: float) -> str:
    for _ in range(int(seconds)):
        try:
            return results.get(timeout=1)
        except queue.Empty:
            if process.poll() is not None:
                raise ClaimError(
                    f"{NAME}: the browser ended with {process.returncode} before the page was done"
                ) from None
    raise ClaimError(f"{NAME}: the page gave no result in {seconds:.0f} s: ask for fewer --runs, or open it by hand")


@contextmanager
def serving(app: Path, bundle: Path) -> Iterator[tuple[str, "queue.Queue[str]"]]:
    """The page's address on loopback, and what is posted to ``/result``; ``bundle`` stands for the app's own."""
    results: queue.Queue[str] = queue.Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, app=app, bundle=bundle, results=results))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", results
    finally:
        server.shutdown()
        server.server_close()


class Handler(SimpleHTTPRequestHandler):
    """Serves files with the headers that a page needs for threads, and takes one result."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}  # noqa: RUF012

    def __init__(self, *arguments: Any, app: Path, bundle: Path, results: "queue.Queue[str]") -> None:
        self.bundle, self.results = bundle, results
        super().__init__(*arguments, directory=str(app))

    def translate_path(self, path: str) -> str:
        found = super().translate_path(path)
        inside = Path(found).relative_to(self.directory) if Path(found).is_relative_to(self.directory) else Path()
        return str(self.bundle.joinpath(*inside.parts[1:])) if inside.parts[:1] == ("bundle",) else found

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/result" or not 0 < length <= LARGEST:
            self.send_error(400)
            return
        self.results.put(self.rfile.read(length).decode(errors="replace"))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the terminal is the command's."""
