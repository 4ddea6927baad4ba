"""Write the golden vectors of the apps: what Python computes of the things that every app computes too.

    python -m tools.golden apps/golden

``golden.json`` has one list for each thing; images and tensors lie beside it as bytes, float32 ones little-endian.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgevit.bench import protocol
from edgevit.images import Preprocess
from edgevit.metrics import sqnr_db

WIDTH, HEIGHT = 61, 46
PREPROCESS = {  # by the name of the tensor's file
    "bicubic-smaller": Preprocess(36, 32),
    "bilinear-smaller": Preprocess(27, 24, "bilinear", (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)),
    "bicubic-larger": Preprocess(54, 48),
    "bilinear-larger": Preprocess(50, 49, "bilinear"),
    "half-to-even": Preprocess(23, 20),  # 30.5 pixels wide
    "same-height": Preprocess(46, 40),
}
TOP = 3


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files():
        (folder / name).write_bytes(data)


def files() -> Iterator[tuple[str, bytes]]:
    """Each file's name and bytes."""
    image = picture()
    yield "image.rgb", image.tobytes()
    for name, preprocess in PREPROCESS.items():
        yield f"{name}.f32", preprocess(image).astype("<f4").tobytes()
    yield "golden.json", (json.dumps(golden(), indent=1) + "\n").encode()


def picture() -> Image.Image:
    """Of sides that nothing divides: smooth waves with noise on them, so that every weight of the resampling tells."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [127 + 90 * np.sin(x / a) * np.cos(y / b) for a, b in ((3, 5), (7, 2), (11, 13))]
    noisy = np.stack(waves, axis=-1) + random.normal(0, 25, (HEIGHT, WIDTH, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def golden() -> dict[str, Any]:
    return {
        "image": {"file": "image.rgb", "width": WIDTH, "height": HEIGHT},
        "preprocess": [
            {"preprocess": preprocess.manifest(), "tensor": f"{name}.f32"} for name, preprocess in PREPROCESS.items()
        ],
        "answers": [answer(logits) for logits in LOGITS],
        "percentiles": [percentiles(times) for times in TIMES],
        "parity": [parity(*case) for case in PARITIES],
        "bundles": [{"bundle": changed(path, value), "problem": problem} for path, value, problem in BUNDLES],
    }


LOGITS = (
    [1.5, -0.25, 3.0, 3.0, 0.0],
    [1000.0, 999.0, -1000.0],
    [-2.5, -2.5, -2.5, -2.5],
    [0.125],
    [0.0, -2000.0, -1000.0],  # of which the last two have the same probability, 0
)
TIMES = ([1.0], [2.0, 1.0], [5.0, 1.0, 4.0, 2.0, 3.0], [0.1 * (i * 7 % 101) + 1 for i in range(100)])
PARITIES: tuple[tuple[list[float], list[float], float], ...] = (  # the reference, the answer, the least SQNR
    ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 60.0),
    ([1.0, 2.0, 3.0], [1.0, 2.0, 3.5], 17.0),
    ([1.0, 2.0, 3.0], [1.0, 2.0, 3.5], 18.0),
    ([0.5, -0.5], [0.4375, -0.5625], 18.0),
    ([1e20, 1.0], [1e20, 2.0], 60.0),  # farther than the farthest that is told
    ([1.0, 2.0, 3.0], [1.0, 3.0, 2.875], 5.0),  # near, and another class
    ([1.0, 3.0, 3.0], [1.0, 3.0, 3.125], 5.0),  # of equal logits the first is the class
    ([1.0, 2.0], [1.0, np.nan], 0.0),
)


def answer(logits: list[float]) -> dict[str, Any]:
    """Its probabilities, and the classes of the TOP."""
    powers = np.exp(np.array(logits) - max(logits))
    order = sorted(range(len(logits)), key=lambda index: (-powers[index], index))
    return {"logits": logits, "probabilities": (powers / powers.sum()).tolist(), "top": order[:TOP]}


def parity(reference: list[float], output: list[float], least: float) -> dict[str, Any]:
    """Parity as a result tells it; a number of the answer that is not finite is null."""
    given = {"reference": reference, "output": [x if np.isfinite(x) else None for x in output], "min_sqnr_db": least}
    if not np.isfinite(output).all():
        return given | {"sqnr_db": None, "top1_matches": False, "holds": False}
    found = sqnr_db(np.array([reference]), np.array([output]))
    same = int(np.argmax(reference)) == int(np.argmax(output))
    return given | {"sqnr_db": found, "top1_matches": same, "holds": same and found >= least}


def percentiles(times: list[float]) -> dict[str, Any]:
    summary = protocol.summary(np.array(times))
    found = {key: getattr(summary, key) for key in ("p50_ms", "p90_ms", "p99_ms", "min_ms", "spread")}
    return {"times_ms": times, **found}


DIGEST = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of nothing
BUNDLE = {
    "schema": 1,
    "edgevit": "0.1.0",
    "export_sha256": DIGEST,
    "model": "efficientvit_m0",
    "quant": "int8",
    "input": {"name": "image", "shape": [1, 3, 32, 32]},
    "classes": 3,
    "labels": ["T-shirt/top", "caf\u00e9", "\u9774"],
    "preprocess": Preprocess(36, 32).manifest(),
    "reference": {"file": "reference.f32", "sha256": DIGEST},
    "models": {
        "onnx": {
            "path": "onnx/model.onnx",
            "files": {"onnx/model.onnx": DIGEST},
            "bytes": 0,
            "reference": {"file": "reference-onnx.f32", "sha256": DIGEST},
            "min_sqnr_db": 24.5,
        }
    },
}
BUNDLES: tuple[tuple[str, Any, str | None], ...] = (  # what is changed, to what, and the word that tells it
    ("schema", 1, None),
    ("labels", None, None),
    ("schema", 2, "schema"),
    ("preprocess.interpolation", "nearest", "interpolation"),
    ("labels", ["one", "two"], "labels"),
    ("preprocess.mean", [0.5], "std"),
    ("preprocess.std", [0.5, 0, 0.5], "std"),
    ("preprocess.crop", 28, "crop"),
    ("preprocess.resize", 30, "resize"),
    ("models", {}, "models"),
    ("reference.file", "../reference.f32", "leaves"),
    ("models.onnx.path", "/onnx/model.onnx", "leaves"),
    ("models.onnx.files", {"onnx/../../model.onnx": DIGEST}, "leaves"),
    ("models.onnx.reference.file", "", "leaves"),
)


def changed(path: str, value: Any) -> dict[str, Any]:
    """BUNDLE with one field of it changed."""
    bundle: dict[str, Any] = json.loads(json.dumps(BUNDLE))
    *outer, last = path.split(".")
    place = bundle
    for key in outer:
        place = place[key]
    place[last] = value
    return bundle


if __name__ == "__main__":
    main(Path(sys.argv[1]))
