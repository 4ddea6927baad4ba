"""One small INT8 export for all tests that look at one: copy its folder before damaging it."""

import contextlib
import io
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes test at a time; also of the commands that tests start

import numpy as np
import pytest
import torch
from PIL import Image

from edgevit.bench import protocol
from edgevit.cli import main
from edgevit.models import weights

ROOT = Path(__file__).parent.parent
CALIBRATION, SCORED = 8, 15
# Untrained weights, few images, no time: enough to see that everything is there, too little to ask much of it.
SMALL = ("--calib-size", CALIBRATION, "--runs", 20, "--allow-slower", "--min-agreement", 0, "--max-drop", 100)


SHARED = ("demo", "exported", "lowered", "trained")  # made once a process, and dear; the dearest first


def shared_by(item: pytest.Item) -> str | None:
    return next((name for name in SHARED if name in getattr(item, "fixturenames", ())), None)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes test, one gets all tests of a shared fixture, and otherwise all of a file.

    What is dear starts first, or one process would wait for the other in the end.
    """
    order: dict[str | None, int] = {name: place for place, name in enumerate([*SHARED, None])}
    items.sort(key=lambda item: order[shared_by(item)])
    for item in items:
        item.add_marker(pytest.mark.xdist_group(shared_by(item) or str(item.path)))
        if shared_by(item) == "demo":
            item.add_marker(pytest.mark.timeout(1200))  # whichever comes first waits for it


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """No test's weights depend on which tests its process ran before."""
    torch.manual_seed(0)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Nor do the weights that a module draws for its parameters, when it is imported."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(0)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(1)  # not 0, whose stream the code under test draws too


@dataclass(frozen=True)
class Exported:
    """What ``edgevit export --json`` left and printed."""

    folder: Path
    data: Path
    weights: Path
    out: str
    err: str
    code: int


@contextlib.contextmanager
def short_timing():
    """Latency without the warm-up: its numbers mean little, and no test looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "compare", partial(protocol.compare, warmup_seconds=0))
        yield


def write_images(folder: Path, count: int, classes: int) -> Path:
    """Class folders ``0`` ... of noise."""
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / str(index % classes) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (70, 64, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images of two classes; one of them is truncated."""
    folder = write_images(tmp_path_factory.mktemp("images") / "data", CALIBRATION + SCORED + 1, classes=2)
    bad = folder / "0" / "4.png"
    bad.write_bytes(bad.read_bytes()[:2000])
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the smallest model, as a file."""
    model, _ = weights.load("efficientvit_m0", "random", image_size=64, classes=10)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    weights.save(path, model, {"model": "efficientvit_m0", "image_size": "64", "licence": "CC0-1.0"})
    return path


def run_export(*args: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; the code is that of an exception where there was one."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), short_timing():
        try:
            code = main.run(["export", *map(str, args)])
        except Exception as error:
            message, code = main.explain(error)
            err.write(message)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="session")
def exported(data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """INT8 for the two targets that are lowered quickly."""
    targets = ("--target", "onnx", "--target", "openvino", "--target", "onnx")
    return export_int8(data, checkpoint, tmp_path_factory.mktemp("exports") / "int8", *targets)


@dataclass(frozen=True)
class Demo:
    """What ``make demo`` left, and how each of its commands ended."""

    folder: Path
    commands: tuple[subprocess.CompletedProcess[str], ...]


def make(target: str) -> list[str]:
    """The commands that a Makefile target runs, once everything is set up."""
    command = ["make", "--no-print-directory", "--dry-run", "--assume-old=.venv/.installed", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The main job, on the bundled model and images: every target in INT8."""
    folder = tmp_path_factory.mktemp("demo")
    commands = [[sys.executable, "-m", "edgevit", *shlex.split(command)[1:]] for command in make("demo")]
    ended = [subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False) for command in commands]
    return Demo(folder / "out" / "demo", tuple(ended))


def export_int8(data: Path, checkpoint: Path, folder: Path, *targets: object) -> Exported:
    torch.set_num_threads(1)
    options = ("--weights", checkpoint, "--data", data, "--skip-bad-images", "--min-sqnr", 0, "--json", *SMALL)
    code, out, err = run_export(*targets, *options, "--out", folder)
    return Exported(folder, data, checkpoint, out, err, code)
