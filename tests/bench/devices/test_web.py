"""The web app's server, and a browser that misbehaves; the page itself is tested in Chromium."""

import json
import os
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from queue import Queue

import pytest

from edgevit import artifact
from edgevit.bench.devices import web
from edgevit.bench.devices.order import Order
from edgevit.errors import ClaimError, InputError, MissingError
from edgevit.steps import silent
from tests.bench.devices.stand_in import RESULT, bundle_of, export


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """As bundled and installed."""
    folder = tmp_path / "app"
    (folder / web.RUNTIME).mkdir(parents=True)
    (folder / "bundle").mkdir()
    (folder / "bundle" / "bundle.json").write_text("of before")
    for name in ("index.html", "main.mjs", "main.js", "ort.wasm"):
        (folder / name).write_text(name)
    (tmp_path / "secret").write_text("secret")
    return folder


@pytest.fixture
def served(app: Path, tmp_path: Path) -> Iterator[tuple[str, "Queue[str]"]]:
    bundle = tmp_path / "fresh"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("fresh")
    with web.serving(app, bundle) as found:
        yield found


def get(address: str, path: str) -> HTTPResponse:
    found: HTTPResponse = urllib.request.urlopen(f"{address}/{path}")
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("index.html", "text/html"),
        ("main.js", "text/javascript"),
        ("main.mjs", "text/javascript"),
        ("ort.wasm", "application/wasm"),
    ],
)
def test_files_come_as_what_they_are_with_what_threads_need(
    name: str, kind: str, served: tuple[str, "Queue[str]"]
) -> None:
    response = get(served[0], name)
    assert response.headers.get_content_type() == kind
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert response.read().decode() == name


def test_the_export_that_was_asked_for_stands_for_the_apps_own(served: tuple[str, "Queue[str]"]) -> None:
    assert get(served[0], "bundle/bundle.json").read() == b"fresh"


@pytest.mark.parametrize("path", ["../secret", "%2e%2e/secret", "bundle/../../secret", "bundle/%2e%2e/%2e%2e/secret"])
def test_nothing_outside_is_served(path: str, served: tuple[str, "Queue[str]"]) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(served[0], path)


def test_a_result_is_taken_and_nothing_else(served: tuple[str, "Queue[str]"]) -> None:
    address, results = served
    urllib.request.urlopen(urllib.request.Request(f"{address}/result", b"{}"))
    assert results.get_nowait() == "{}"
    for path, length in (("other", 2), ("result", web.LARGEST + 1), ("result", 0)):
        connection = HTTPConnection(address.removeprefix("http://"))
        connection.request("POST", f"/{path}", headers={"Content-Length": str(length)})  # its body is not waited for
        assert connection.getresponse().status == 400
    assert results.empty()


BROWSER = """#!/usr/bin/env python3
import sys, urllib.request
{does}
"""
POSTS = """
url = sys.argv[-1]
assert "benchmark&provider=wasm&threads=2&runs=30&seconds=1.5&minutes=0&post=%2Fresult" in url
base = url.split("/index")[0]
urllib.request.urlopen(urllib.request.Request(base + "/result", open({file!r}, "rb").read()))
import time; time.sleep(60)
"""


def ask(does: str, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    program = tmp_path / "programs" / "chromium"
    program.parent.mkdir(exist_ok=True)
    program.write_text(BROWSER.format(does=does))
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(web.make, "make", lambda folder, names, data, out, progress: bundle_of(folder, out))
    folder = tmp_path / "export"
    return web.bench(folder, None, app, Order(threads=2, runs=30, seconds=1.5), silent)


def test_the_page_answers(app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export(tmp_path / "export")
    digest = artifact.sha256_of(folder / artifact.MANIFEST)
    (tmp_path / "answer.json").write_text(json.dumps(RESULT | {"app": "web", "export_sha256": digest}))
    answer = ask(POSTS.format(file=str(tmp_path / "answer.json")), app, tmp_path, monkeypatch)
    assert isinstance(answer, web.Answer)
    assert (answer.kind, answer.device) == ("browser", "web")


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("sys.exit(3)", "web: the browser ended with 3 before the page was done"),
        ("import time; time.sleep(60)", "web: the page gave no result in 2 s: ask for fewer --runs"),
    ],
)
def test_a_browser_that_fails_is_one_sentence(
    does: str, reason: str, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(tmp_path / "export")
    monkeypatch.setattr(Order, "patience", 2.0)
    with pytest.raises(ClaimError, match=reason):
        ask(does, app, tmp_path, monkeypatch)


def test_what_is_missing_is_named(app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="is no web app with its packages: edgevit bundle --app web, then npm ci"):
        ask("", tmp_path, tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingError, match="no Chromium is installed: install chromium"):
        web.bench(tmp_path, None, app, Order(), silent)
