"""Every bundled file of weights is the one that its model card describes."""

import re
from pathlib import Path

import pytest
from safetensors import safe_open

from edgevit import artifact
from edgevit.images import Preprocess, open_images
from edgevit.metrics import paired_drop
from edgevit.models import fitting, weights
from edgevit.train import predict

ASSETS = Path(__file__).parent.parent / "edgevit" / "assets"
FILES = sorted(ASSETS.glob("*.safetensors"))
CHECKPOINTS = [path for path in FILES if path.stem.endswith("-fashion-mnist")]
PREDICTORS = ASSETS / "predictors-dynamicvit_deit_tiny.safetensors"
SHARED = Path(__file__).parents[2] / "shared"
DEIT = SHARED / "weights" / "deit_tiny_patch16_224.safetensors"


def card(path: Path) -> str:
    return path.with_suffix(".md").read_text(encoding="utf-8")


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_what_is_bundled() -> None:
    assert [path.stem.removesuffix("-fashion-mnist") for path in FILES] == [
        "efficientvit_m0",
        "predictors-dynamicvit_deit_tiny",
        "sepvit_lite",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_card_names_its_file_and_the_accuracy_that_the_file_states(path: Path) -> None:
    assert re.findall(r"\| sha256 \| `([0-9a-f]{64})`", card(path)) == [artifact.sha256_of(path)]
    (carded,) = re.findall(r"\| ([\d.]+) % \(95 % interval", card(path))
    assert metadata(path)["top1"] == carded


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_bundled_weights_reach_91_percent(path: Path) -> None:
    assert float(metadata(path)["top1"]) >= 91


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_classes_are_those_of_the_bundled_images(path: Path) -> None:
    name = metadata(path)["model"]
    model, loaded = weights.load(name, "bundled")
    assert loaded.class_names == open_images("bundled").classes
    assert (model.image_size, model.classes, loaded.licence) == (int(metadata(path)["image_size"]), 10, "Apache-2.0")


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_the_bundled_images_are_told_apart(path: Path) -> None:
    images = open_images("bundled").split("test").take(range(200))
    model, loaded = weights.load(metadata(path)["model"], "bundled")
    assert (predict(model, images, loaded.preprocess).argmax(1) == images.labels()).mean() > 0.88


@pytest.mark.skipif(not DEIT.exists(), reason=f"the DeiT-Tiny checkpoint that they are for is not in {SHARED}")
def test_the_predictors_cost_on_the_photographs_what_their_card_says() -> None:
    """Float sums in another order may move a photograph or two: one in 250 is 0.4 points."""
    images = open_images(SHARED / "data" / "nips17")
    odd = images.take(range(1, len(images), 2))
    assert metadata(PREDICTORS)["backbone_sha256"] == artifact.sha256_of(DEIT)
    model, _ = weights.load("dynamicvit_deit_tiny", str(DEIT), predictors="bundled")
    backbone = fitting.unpruned("dynamicvit_deit_tiny", model)
    kept, all_kept = (predict(m, odd, Preprocess.imagenet(224)) for m in (model, backbone))
    labels = odd.labels()
    assert labels is not None
    drop = paired_drop(all_kept, kept, labels)
    assert drop.to == pytest.approx(float(metadata(PREDICTORS)["top1"]), abs=0.9)
    assert drop.from_ == pytest.approx(float(metadata(PREDICTORS)["top1_unpruned"]), abs=0.9)


def test_no_large_files() -> None:
    assert max(path.stat().st_size for path in ASSETS.iterdir()) < 8_000_000
