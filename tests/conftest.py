"""One small INT8 export for all tests that look at one: copy its folder before damaging it."""

import contextlib
import io
import os
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

CALIBRATION, SCORED = 8, 15
# Untrained weights, few images, no time: enough to see that everything is there, too little to ask much of it.
SMALL = ("--calib-size", CALIBRATION, "--runs", 20, "--allow-slower", "--min-agreement", 0, "--max-drop", 100)


SHARED = ("everywhere", "exported", "lowered", "trained")  # made once a process, and dear


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes test, one gets all tests of a shared fixture, and otherwise all of a file."""
    for item in items:
        shared = next((name for name in SHARED if name in getattr(item, "fixturenames", ())), None)
        item.add_marker(pytest.mark.xdist_group(shared or str(item.path)))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """No test's weights depend on which tests its process ran before."""
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


@pytest.fixture(scope="session")
def everywhere(data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """INT8 for every target; Core ML for iOS 18, with an image in."""
    options = ("--target", "all", "--image-input", "--ios", 18)
    return export_int8(data, checkpoint, tmp_path_factory.mktemp("everywhere") / "int8", *options)


def export_int8(data: Path, checkpoint: Path, folder: Path, *targets: object) -> Exported:
    torch.set_num_threads(1)
    options = ("--weights", checkpoint, "--data", data, "--skip-bad-images", "--min-sqnr", 0, "--json", *SMALL)
    code, out, err = run_export(*targets, *options, "--out", folder)
    return Exported(folder, data, checkpoint, out, err, code)
