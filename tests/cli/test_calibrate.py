"""``edgevit calibrate``, and the export of what it left."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from edgevit import artifact, calibration
from edgevit.cli import main
from tests.cli.conftest import Edgevit
from tests.conftest import CALIBRATION, SCORED, Exported, write_images

TINY = ("--calib-size", CALIBRATION, "--min-agreement", 0, "--min-sqnr", -100, "--max-drop", 100)
ONNX = ("--target", "onnx", "--runs", 20, "--allow-slower", "--min-agreement", 0, "--min-sqnr", 0, "--max-drop", 100)


@pytest.fixture(scope="module")
def calibrated(data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same model, images and options as the fixture ``exported``."""
    out = tmp_path_factory.mktemp("calibrations") / "calib"
    asked = ["calibrate", "--weights", checkpoint, "--data", data, "--skip-bad-images", "--out", out, "--json", *TINY]
    assert main.run(list(map(str, asked))) == 0
    return out


def read(folder: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((folder / calibration.DESCRIPTION).read_text())


def test_leaves_files_that_name_each_other(calibrated: Path) -> None:
    description = read(calibrated)
    assert sorted(path.name for path in calibrated.iterdir()) == [
        "calibration.json",
        "calibration.safetensors",
        "images.json",
        "sensitivity.json",
        "sensitivity.svg",
    ]
    assert description["tensors"]["sha256"] == artifact.sha256_of(calibrated / "calibration.safetensors")
    assert description["images"]["list"]["sha256"] == artifact.sha256_of(calibrated / "images.json")
    assert description["quant"]["calibration"]["images"] == CALIBRATION
    assert [(link["from"], link["to"]) for link in description["parity"]["links"]] == [
        ("original", "folded"),
        ("folded", "quantised program"),
    ]
    assert description["parity"]["images"] == SCORED
    assert description["failures"] == []


def test_is_what_an_export_calibrates_by_itself(calibrated: Path, exported: Exported) -> None:
    quant = read(calibrated)["quant"]
    assert quant.pop("mixed")["floats"] == []
    assert quant == artifact.read_manifest(exported.folder)["quant"]


def test_the_same_again_has_the_same_digest(
    calibrated: Path, data: Path, checkpoint: Path, edgevit: Edgevit, tmp_path: Path
) -> None:
    asked = ("--weights", checkpoint, "--data", data, "--skip-bad-images", "--out", tmp_path / "again", *TINY)
    ended = edgevit("calibrate", *asked)
    assert ended.code == 0, ended.err
    description = read(tmp_path / "again")
    assert description["tensors"] == read(calibrated)["tensors"]
    assert f"program {description['tensors']['sha256'][:12]}" in ended.out
    assert "quantised" in ended.out
    ended = edgevit("calibrate", *asked)
    assert (ended.code, "choose another --out, or replace it with --force" in ended.err) == (2, True)


def test_its_export_holds_it_and_verifies(
    calibrated: Path, data: Path, checkpoint: Path, edgevit: Edgevit, tmp_path: Path
) -> None:
    """With the images and the weights at another place."""
    copied, weights = shutil.copytree(data, tmp_path / "images"), shutil.copy(checkpoint, tmp_path / "w.safetensors")
    places = ("--data", copied, "--weights", weights)
    ended = edgevit("export", "--calibration", calibrated, *places, "--skip-bad-images", *ONNX, "--out", tmp_path / "x")
    assert ended.code == 0, ended.err
    manifest, description = artifact.read_manifest(tmp_path / "x"), read(calibrated)
    assert manifest["options"]["data"] == str(copied)
    assert manifest["model"]["weights"]["sha256"] == description["model"]["weights"]["sha256"]
    assert manifest["quant"]["tensors"] == description["quant"]["tensors"]
    assert manifest["targets"]["onnx"]["grid"]["matches"]
    assert manifest["quant"]["calibration"] == description["quant"]["calibration"]
    assert manifest["quant"]["file"]["files"].keys() == {path.name for path in calibrated.iterdir()}
    digests = [entry["sha256"] for entry in artifact.read_json(calibrated / "images.json")["calibration"]]
    scored = [entry["sha256"] for entry in artifact.read_json(tmp_path / "x" / "images.json")["scored"]]
    assert len(digests) == CALIBRATION
    assert len(scored) == SCORED
    assert not set(digests) & set(scored)
    shutil.move(calibrated, tmp_path / "moved")  # the export has what it needs
    try:
        ended = edgevit("verify", tmp_path / "x")
    finally:
        shutil.move(tmp_path / "moved", calibrated)
    assert ended.code == 0, ended.err + ended.out
    changed = tmp_path / "x" / "calibration" / "calibration.safetensors"
    tensors = load_file(changed)
    tensors["state/head.l.weight" if "state/head.l.weight" in tensors else next(iter(tensors))].add_(1)
    save_file(tensors, changed)
    ended = edgevit("verify", tmp_path / "x")
    assert ended.code == 1
    assert "calibration: files: calibration.safetensors changed" in ended.err


WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "another model": (("--model", "efficientvit_m1"), "efficientvit_m0"),
    "other weights": (("--weights", "random"), "for another (weights|number of classes|image size)"),
    "another image size": (("--image-size", 96), "for another image size, 64 where 96 is given"),
    "no INT8": (("--quant", "fp32"), "--calibration is for INT8"),
    "another observer": (("--observer", "minmax"), "--observer and --calib-size are decided by --calibration"),
    "another number of images": (("--calib-size", 4), "--observer and --calib-size are decided by --calibration"),
}


@pytest.mark.parametrize(("asked", "said"), WRONG.values(), ids=WRONG.keys())
def test_refuses_what_it_was_not_made_for(
    calibrated: Path, edgevit: Edgevit, tmp_path: Path, asked: tuple[object, ...], said: str
) -> None:
    ended = edgevit("export", "--calibration", calibrated, "--skip-bad-images", *asked, *ONNX, "--out", tmp_path / "x")
    assert ended.code == 2
    assert re.search(said, ended.err), ended.err
    assert not (tmp_path / "x").exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def rewrite(path: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (lambda c: flip(c / "calibration.safetensors"), "is damaged: copy it whole"),
    "no tensors": (lambda c: (c / "calibration.safetensors").unlink(), "is damaged: copy it whole"),
    "no list": (lambda c: (c / "images.json").unlink(), "is damaged: copy it whole"),
    "no description": (lambda c: (c / "calibration.json").unlink(), "holds no calibration.json"),
    "no JSON": (lambda c: (c / "calibration.json").write_text("{"), "is damaged"),
    "another schema": (lambda c: rewrite(c / "calibration.json", lambda d: d.update(schema=9)), "not of schema 1"),
    "no recipe": (lambda c: rewrite(c / "calibration.json", lambda d: d["quant"].pop("recipe")), "is damaged"),
    "an unknown precision": (
        lambda c: rewrite(c / "calibration.json", lambda d: d["quant"]["recipe"]["rules"][0].update(precision="int4")),
        "is damaged",
    ),
    "other folds": (lambda c: rewrite(c / "calibration.json", lambda d: d["fold"].pop()), "is of another fold"),
    "a rule less": (
        lambda c: rewrite(c / "calibration.json", lambda d: d["quant"]["recipe"]["rules"].pop(1)),
        "of another model or another fold",
    ),
    "no options": (lambda c: rewrite(c / "calibration.json", lambda d: d.pop("options")), "is damaged"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES.keys())
def test_refuses_a_damaged_calibration(
    calibrated: Path, edgevit: Edgevit, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    copied = shutil.copytree(calibrated, tmp_path / "calib")
    damage(copied)
    ended = edgevit("export", "--calibration", copied, "--skip-bad-images", *ONNX, "--out", tmp_path / "x")
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert not (tmp_path / "x").exists()


def test_images_of_one_colour_calibrate(checkpoint: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data", 6, classes=2)
    for index, path in enumerate(sorted(folder.rglob("*.png"))):
        Image.new("RGB", (64, 64), (index, index, index)).save(path)
    ended = edgevit(
        "calibrate", "--weights", checkpoint, "--data", folder, "--out", tmp_path / "c", *TINY, "--calib-size", 3
    )
    assert ended.code == 0, ended.err
    scales = [scale for grid in read(tmp_path / "c")["quant"]["tensors"].values() for scale in grid["scale"]]
    assert min(scales) > 0
