"""Wrong input to ``edgevit export``: one sentence, exit code 2, nothing written; and what ends it from outside."""

import contextlib
import http.server
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convert import registry as targets
from edgevit import images, steps
from edgevit.cli import interruption
from edgevit.images import ImageSet
from edgevit.models import registry, weights
from tests.cli.conftest import Edgevit
from tests.conftest import write_images

RANDOM = ("--weights", "random", "--image-size", 64, "--classes", 10, "--calib-size", 4, "--parity-images", 4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that an export may be pointed at."""
    root = tmp_path_factory.mktemp("place")
    write_images(root / "good", 12, classes=2)
    write_images(root / "eleven", 12, classes=11)
    (root / "empty").mkdir()
    (root / "file").write_text("")
    (root / "link").symlink_to("good")
    model, _ = weights.load("efficientvit_m0", "random", image_size=64, classes=10)
    state = model.state_dict()
    state["head.l.weight"][0, 0] = float("nan")
    torch.save({"model": state}, root / "nan.pth")
    model, _ = weights.load("efficientvit_m1", "random", image_size=64, classes=10)
    torch.save(model.state_dict(), root / "m1.pth")
    torch.save({"model": Evil()}, root / "evil.pth")
    return root


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "efficientvit_m9"], "there is no model 'efficientvit_m9': take efficientvit_m"),
        (["--target", "openvin"], "there is no target 'openvin': choose from onnx, openvino, executorch, coreml, all"),
        (["--quant", "int4"], "'int4' is not one of 'fp32', 'fp16', 'int8'"),
        (["--data", "missing"], "there is no data folder"),
        (["--data", "empty"], "holds no images"),
        (["--data", "file"], "is a file: --data takes a folder"),
        (["--data", "eleven"], "has the label 10, but the model has 10 classes"),
        (["--out", "good"], "good exists: choose another --out, or replace it with --force"),
        (["--out", "good", "--force"], "is not an edgevit export, so --force does not replace it"),
        (["--out", "file"], "file is not a folder"),
        (["--out", "link", "--force"], "link is not a folder"),
        (["--out", "file/new"], "cannot be written to (Not a directory): choose another --out"),
        (["--out", "/proc/new"], "/proc cannot be written to"),
        (["--out", ""], "exists: choose another --out"),
        (["--out", "n" * 300], "File name too long"),
        (["--calib-size", 12], "cannot calibrate on 12 of the 12 images"),
        (["--calib-size", 0], "cannot calibrate on 0 of the 12 images"),
        (["--calib-size", -1], "cannot calibrate on -1 of the 12 images"),
        (["--parity-images", 0], "cannot score 0 images: choose 1 or more"),
        (["--parity-images", 9], "cannot calibrate on 4 images and score 9 others"),
        (["--seed", -1], "-1 is not in the range"),
        (["--classes", 0], "at least one class, not 0"),
        (["--image-size", 65], "take a multiple of 32 from 64 to 512"),
        (["--image-size", 0], "take a multiple of 32 from 64 to 512"),
        (["--min-sqnr", "nan"], "nan is not a finite number"),
        (["--max-drop", "inf"], "inf is not a finite number"),
        (["--min-agreement", "nan"], "nan is not a finite number"),
        (["--min-agreement", 95], "95.0 is not in the range"),
        (["--runs", 5], "5 is not in the range"),
        (["--threads", 0], "0 is not in the range"),
        (["--weights", "missing.pth"], "there is no weights file"),
        (["--weights", "good"], "is a folder: --weights takes a file"),
        (["--weights", "file"], "is of no kind that edgevit reads"),
        (["--weights", "nan.pth"], "head.l.weight in "),
        (["--weights", "m1.pth"], "what looks like efficientvit_m1: name that model instead"),
        (["--weights", "evil.pth"], "a pickle with code in it, which edgevit does not run"),
        (["--weights", "bundled", "--model", "efficientvit_m3"], "no weights for efficientvit_m3 are bundled"),
        (["--nonsense"], "No such option '--nonsense'"),
    ],
)
def test_one_sentence_and_nothing_written(
    arguments: list[object], reason: str, place: Path, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    ended = edgevit("export", *RANDOM, "--data", "good", "--out", "new/parents/out", *arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert reason in ended.err
    assert ended.err.startswith("edgevit: ")
    assert ended.err.count("\n") == 1
    assert sorted(place.rglob("*")) == before


def noise(mode: str) -> Image.Image:
    shape = (64, 64) if mode == "L" else (64, 64, 4 if mode == "CMYK" else 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8), mode)


def truncated(path: Path) -> None:
    noise("RGB").save(path)
    path.write_bytes(path.read_bytes()[:3000])


def corrupt(path: Path) -> None:
    noise("RGB").save(path)
    data = path.read_bytes()
    path.write_bytes(data[:2000] + bytes(2000) + data[4000:])


def animated(path: Path) -> None:
    noise("RGB").save(path, "PNG", save_all=True, append_images=[Image.new("RGB", (64, 64))])


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (corrupt, "is corrupt or truncated"),
        (lambda path: path.write_text("text"), "is not a JPEG, PNG, WebP or BMP image"),
        (truncated, "is corrupt or truncated"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: noise("L").save(path), "is grey, not 8-bit RGB"),
        (lambda path: noise("CMYK").save(path, "JPEG"), "is CMYK, not 8-bit RGB"),
        (lambda path: Image.fromarray(np.zeros((64, 64), np.uint16)).save(path), "is 16-bit, not 8-bit RGB"),
        (animated, "is animated (2 frames)"),
        (lambda path: Image.new("RGB", (9000, 9000)).save(path), "more than 64,000,000: shrink it"),
    ],
)
def test_a_bad_image_is_named(write: Callable[[Path], object], reason: str, edgevit: Edgevit, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data", 8, classes=1)
    write(folder / "0" / "3.png")
    ended = edgevit("export", *RANDOM, "--data", folder, "--out", tmp_path / "out")
    assert ended.code == 2
    assert ended.err.startswith("edgevit: 0/3.png ")
    assert reason in ended.err
    assert ended.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [folder]


def test_skipping_bad_images_may_leave_too_few(edgevit: Edgevit, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data", 8, classes=1)
    (folder / "0" / "3.png").write_bytes(b"")
    ended = edgevit("export", *RANDOM, "--skip-bad-images", "--data", folder, "--out", tmp_path / "out")
    assert ended.code == 2
    skipped, sentence = ended.err.splitlines()
    assert skipped == "skipped: 0/3.png is empty: replace or remove it"
    assert sentence.startswith("edgevit: cannot calibrate on 4 images and score 4 others: 4 and 3 of the 8")
    assert list(tmp_path.iterdir()) == [folder]


@pytest.fixture
def server() -> Iterator[str]:
    """A server that has nothing."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("offline", [True, False])
def test_official_weights_that_cannot_be_had(
    offline: bool, server: str, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = "http://127.0.0.1:9/m0.pth" if offline else f"{server}/m0.pth"
    entry = replace(registry.ENTRIES["efficientvit_m0"], official_url=url)
    monkeypatch.setitem(registry.ENTRIES, "efficientvit_m0", entry)
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    ended = edgevit("export", "--weights", "official", "--out", tmp_path / "out")
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith(f"edgevit: could not fetch {url} (")
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_package_says_how_to_get_it(
    edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(targets, "find_spec", lambda package: None if package == "openvino" else find_spec(package))
    ended = edgevit("export", *RANDOM, "--out", tmp_path / "out")
    assert ended.code == 3
    assert (
        ended.err
        == "edgevit: target openvino needs openvino, which is not installed: pip install 'edgevit[openvino]'\n"
    )
    assert list(tmp_path.iterdir()) == []


# What ends an export from outside, in processes of their own


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts an export into ``tmp_path / "new" / "out"``, its temporary files below ``tmp_path / "tmp"``."""
    (tmp_path / "tmp").mkdir()
    started: list[subprocess.Popen[str]] = []

    def run(file_limit: int = resource.RLIM_INFINITY) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "edgevit", "export", *RANDOM, "--quant", "fp32", "--out", "new/out"]
        process = subprocess.Popen(
            list(map(str, line)),
            cwd=tmp_path,
            env=os.environ | {"TMPDIR": str(tmp_path / "tmp"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit)),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def left(tmp_path: Path) -> list[str]:
    """What is left but torch's own cache."""
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    (tmp_path / "tmp").rmdir()
    return [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["importing", "working"])
def test_interrupted(
    signum: signal.Signals, moment: str, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start()
    if moment == "importing":
        libraries = Path(f"/proc/{process.pid}/maps")
        wait_for(lambda: "libtorch_cpu" in libraries.read_text(), process)
    else:
        wait_for(lambda: list(tmp_path.glob("new/.out.partial-*")), process)
        time.sleep(1)
    process.send_signal(signum)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "edgevit: interrupted: nothing was kept"
    assert "Traceback" not in err
    assert left(tmp_path) == []


def test_killed_leaves_nothing_that_looks_finished(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = start()
    wait_for(lambda: list(tmp_path.glob("new/.out.partial-*")), process)
    process.kill()
    process.wait()
    assert not (tmp_path / "new" / "out").exists()
    assert all(path.name.startswith(".") for path in (tmp_path / "new").iterdir())


def test_a_disk_that_fills_up(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """Simulated: no file may grow beyond 3 MB."""
    process = start(file_limit=3_000_000)
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.splitlines()[-1] == "edgevit: the disk is full: free space or choose another --out"
    assert "Traceback" not in err
    assert left(tmp_path) == []


@pytest.mark.parametrize("swallowed", [False, True])
def test_an_interruption_that_a_library_swallows_is_not_lost(
    swallowed: bool, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever shows progress next raises it again; an error that follows from it is not what is reported."""
    monkeypatch.setattr(interruption, "requested", False)

    def interrupted(path: str) -> ImageSet:
        with contextlib.suppress(KeyboardInterrupt):
            interruption.request(signal.SIGTERM, None)
        if swallowed:
            return images.open_images(path)
        raise RecursionError("a module that is half imported")

    monkeypatch.setattr(steps, "open_images", interrupted)
    ended = edgevit("export", *RANDOM, "--out", tmp_path / "out")
    assert (ended.code, ended.err) == (130, "edgevit: interrupted: nothing was kept\n")
    assert list(tmp_path.iterdir()) == []
