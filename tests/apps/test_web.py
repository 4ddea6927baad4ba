"""The web app: its modules in node, and its page in Chromium on a small INT8 model, beside what Python answers."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from PIL import Image, ImageOps, PngImagePlugin

from edgevit.images import Preprocess
from tests.apps.outside import npm, program, run
from tools.golden import picture

pytestmark = pytest.mark.apps

WEB = Path(__file__).parents[2] / "apps" / "web"
RUNTIME = json.loads((WEB / "package.json").read_text())["dependencies"]["onnxruntime-web"]
LABELS = ["T-shirt/top", "café", "靴", "<b>bold</b> & bright", "shirt", "sandal", "bag"]
PREPROCESS = Preprocess(36, 32)
BROKEN = b"not a model"
MIN_SQNR_DB = 25.0


def test_modules_compute_what_python_computes() -> None:
    run([program("node", "nodejs"), "--test", *map(str, sorted(WEB.glob("test/*.test.mjs")))])


def test_the_lock_holds_what_the_package_asks_for() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text())["packages"]
    assert packages["node_modules/onnxruntime-web"]["version"] == RUNTIME
    assert not any("resolved" in package for package in packages.values())


def test_page(site: Path) -> None:
    environment = os.environ | {
        "SITE": str(site),
        "CHROMIUM": program("chromium", "chromium"),
        "PLAYWRIGHT": str(npm("playwright-core", "1.65.1")),
        "AXE": str(npm("axe-core", "4.14.1")),
    }
    run([program("node", "nodejs"), "--test", str(WEB / "test" / "page.e2e.mjs")], env=environment)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The app as a user has it; bundles, good and bad; images; and what Python makes of them."""
    shutil.copytree(WEB, tmp_path / "app", ignore=shutil.ignore_patterns("node_modules", "bundle", "test"))
    (tmp_path / "app" / "node_modules").symlink_to(npm("onnxruntime-web", RUNTIME).parent)
    good = tmp_path / "bundles" / "good"
    make_bundle(good)
    spoil(good)
    make_images(tmp_path / "images")
    bundle = json.loads((good / "bundle.json").read_text())
    expected = {
        "bundle": bundle | {"runtime": RUNTIME, "min_sqnr_db": MIN_SQNR_DB},
        "images": list(answers(tmp_path / "images", session(good / "onnx" / "model.onnx"))),
    }
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    return tmp_path


def make_bundle(folder: Path) -> None:
    """As the contract has it, around a small network in INT8."""
    (folder / "onnx").mkdir(parents=True)
    make_model(folder / "onnx" / "model.onnx")
    reference = PREPROCESS(picture())
    (folder / "reference.f32").write_bytes(reference.tobytes())
    (folder / "reference-onnx.f32").write_bytes(logits(session(folder / "onnx" / "model.onnx"), reference).tobytes())
    bundle = {
        "schema": 1,
        "edgevit": "0.1.0",
        "export_sha256": "ab" * 32,
        "model": "small",
        "quant": "int8",
        "input": {"name": "image", "shape": [1, 3, 32, 32]},
        "classes": len(LABELS),
        "labels": LABELS,
        "preprocess": PREPROCESS.manifest(),
        "reference": {"file": "reference.f32", "sha256": digest(folder / "reference.f32")},
        "models": {
            "onnx": {
                "path": "onnx/model.onnx",
                "files": {"onnx/model.onnx": digest(folder / "onnx" / "model.onnx")},
                "bytes": (folder / "onnx" / "model.onnx").stat().st_size,
                "reference": {"file": "reference-onnx.f32", "sha256": digest(folder / "reference-onnx.f32")},
                "min_sqnr_db": MIN_SQNR_DB,
            }
        },
    }
    (folder / "bundle.json").write_text(json.dumps(bundle))


def make_model(path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, stride=4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(16 * 4 * 4, len(LABELS)),
    ).eval()
    network[-1].weight.data *= 12  # or all classes would be about as likely
    exported = torch.onnx.export(
        network, (torch.zeros(1, 3, 32, 32),), input_names=["image"], dynamo=True, verbose=False
    )
    assert exported is not None
    exported.save(path.with_suffix(".float"), external_data=False)
    # Weights of 7 bits, because sums of 8-bit products saturate on an x86 that has AVX2 without VNNI, and not in WASM.
    quantize_static(
        path.with_suffix(".float"),
        path,
        Calibration(),
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )
    path.with_suffix(".float").unlink()


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        flipped = [picture(), picture().rotate(90, expand=True), picture().rotate(180)]
        self.inputs: Iterator[dict[str, NDArray[np.float32]]] = iter(
            [{"image": PREPROCESS(image)[None]} for image in flipped]
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.inputs, None)


def spoil(good: Path) -> None:
    """Bundles that are wrong in one thing each, beside the good one."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, good.parent / name))

    def edit(folder: Path, path: str, value: Any) -> None:
        bundle = json.loads((folder / "bundle.json").read_text())
        *outer, last = path.split("/")
        place = bundle
        for key in outer:
            place = place[key]
        place[last] = value
        (folder / "bundle.json").write_text(json.dumps(bundle))

    (good.parent / "none").mkdir()
    (copy("no-json") / "bundle.json").write_text("{")
    edit(copy("schema-2"), "schema", 2)
    edit(copy("no-onnx"), "models", {"coreml": {}})
    edit(copy("no-parity"), "models/onnx/min_sqnr_db", 250)
    (copy("changed-model") / "onnx" / "model.onnx").write_bytes(BROKEN)
    (copy("changed-reference") / "reference.f32").write_bytes(bytes(32 * 32 * 3 * 4))
    (copy("no-model") / "onnx" / "model.onnx").unlink()

    broken = copy("broken-model")
    (broken / "onnx" / "model.onnx").write_bytes(BROKEN)
    edit(broken, "models/onnx/files", {"onnx/model.onnx": digest(broken / "onnx" / "model.onnx")})

    short = copy("short-reference")
    (short / "reference.f32").write_bytes(bytes(12))
    edit(short, "reference/sha256", digest(short / "reference.f32"))

    other = copy("other-classes")
    edit(other, "classes", 6)
    edit(other, "labels", None)
    (other / "reference-onnx.f32").write_bytes(bytes(24))
    edit(other, "models/onnx/reference/sha256", digest(other / "reference-onnx.f32"))


def make_images(folder: Path) -> None:
    """What every decoder agrees on first; then what a browser converts unless it is told not to, and what it turns."""
    folder.mkdir()
    picture().save(folder / "landscape.png")
    picture().rotate(90, expand=True).save(folder / "portrait.png")
    picture().resize((900, 700)).save(folder / "larger.png")
    linear = PngImagePlugin.PngInfo()
    linear.add(b"gAMA", (100_000).to_bytes(4, "big"))
    linear.add(b"cHRM", b"".join(value.to_bytes(4, "big") for value in CHROMATICITIES))
    picture().save(folder / "gamma.png", pnginfo=linear)
    picture().save(folder / "turned.png", exif=orientation(6))
    picture().save(folder / "mirrored.png", exif=orientation(5))
    picture().resize((244, 184)).save(folder / "turned.jpg", quality=95, subsampling=0, exif=orientation(6))

    transparent = picture().convert("RGBA")
    transparent.putpixel((60, 45), (1, 2, 3, 254))
    transparent.save(folder / "transparent.png")
    (folder / "text.png").write_text("no image")
    (folder / "broken.png").write_bytes((folder / "landscape.png").read_bytes()[:200])


IMAGES = ("landscape.png", "portrait.png", "larger.png", "gamma.png", "turned.png", "mirrored.png", "turned.jpg")
CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)  # sRGB's: white, red, green, blue


def orientation(value: int) -> Image.Exif:
    """How a camera was held, as its file says: CIPA DC-008, tag 0x0112."""
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def answers(folder: Path, model: ort.InferenceSession) -> Iterator[dict[str, Any]]:
    """Of each image its pixels' digest, and the five classes that Python finds most likely."""
    for name in (
        "landscape.png",
        "portrait.png",
        "larger.png",
        "gamma.png",
        "turned.png",
        "mirrored.png",
        "turned.jpg",
    ):
        image = ImageOps.exif_transpose(Image.open(folder / name)).convert("RGB")
        powers = np.exp(np.float64(logits(model, PREPROCESS(image))))
        order = np.argsort(-powers)[:5]
        yield {
            "file": name,
            "exact": name.endswith(".png"),
            "width": image.width,
            "height": image.height,
            "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
            "labels": [LABELS[index] for index in order],
            "probabilities": (powers / powers.sum())[order].tolist(),
        }


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def logits(model: ort.InferenceSession, values: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = model.run(None, {"image": values[None]})[0][0]
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
