"""The bundled checkpoint is the one that its model card describes."""

import re
from pathlib import Path

from safetensors import safe_open

from edgevit import artifact
from edgevit.images import open_images
from edgevit.models import weights

ASSETS = Path(__file__).parent.parent / "edgevit" / "assets"
CHECKPOINT = ASSETS / "efficientvit_m0-fashion-mnist.safetensors"
CARD = CHECKPOINT.with_suffix(".md").read_text(encoding="utf-8")


def test_card_names_this_file() -> None:
    assert re.findall(r"\| sha256 \| `([0-9a-f]{64})`", CARD) == [artifact.sha256_of(CHECKPOINT)]


def test_card_and_file_state_the_same_accuracy() -> None:
    with safe_open(CHECKPOINT, "pt") as file:
        stated = float(file.metadata()["top1"])
    (carded,) = re.findall(r"\| ([\d.]+) % \(95 % interval", CARD)
    assert stated == float(carded) >= 91


def test_classes_are_those_of_the_bundled_images() -> None:
    model, loaded = weights.load("efficientvit_m0", "bundled")
    assert loaded.class_names == open_images("bundled").classes
    assert (model.image_size, model.classes, loaded.licence) == (224, 10, "Apache-2.0")


def test_no_large_files() -> None:
    assert max(path.stat().st_size for path in ASSETS.iterdir()) < 8_000_000
