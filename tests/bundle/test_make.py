"""A bundle of a real export: everything in it is what the export and its runtime say."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.target import target
from edgevit import artifact, metrics, pipeline
from edgevit.bundle import make
from edgevit.bundle.contract import BUNDLE, read_bundle
from edgevit.errors import ClaimError, InputError
from edgevit.images import Preprocess, open_images
from tests.bundle.small_apps import write_apps
from tests.conftest import Exported


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apps = write_apps(tmp_path / "apps")
    monkeypatch.setattr("edgevit.bundle.apps.apps", lambda: apps)


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.folder, tmp_path / "export"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = artifact.read_manifest(folder)
    change(manifest)
    artifact.write_json(folder / artifact.MANIFEST, manifest)


@pytest.mark.usefixtures("app")
def test_says_what_the_export_says(exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "web"
    bundle = pipeline.bundle(exported.folder, "web", out)
    assert {path.name for path in out.iterdir()} == {"main.js", "bundle"}
    assert read_bundle(out / "bundle") == bundle == json.loads((out / "bundle" / BUNDLE).read_text())
    manifest = artifact.read_manifest(exported.folder)
    assert bundle["export_sha256"] == artifact.sha256_of(exported.folder / artifact.MANIFEST)
    assert (bundle["model"], bundle["quant"], bundle["classes"]) == ("efficientvit_m0", "int8", 10)
    assert bundle["preprocess"] == manifest["preprocess"]
    assert bundle["labels"] is None  # random weights have no names
    model = bundle["models"]["onnx"]
    assert model["path"] == "onnx/model.onnx"
    for file, digest in {**model["files"], **named(bundle["reference"]), **named(model["reference"])}.items():
        assert hashlib.sha256((out / "bundle" / file).read_bytes()).hexdigest() == digest


def named(entry: dict[str, str]) -> dict[str, str]:
    return {entry["file"]: entry["sha256"]}


@pytest.mark.usefixtures("app")
def test_the_reference_is_a_scored_image_and_what_the_runtime_gives_for_it(exported: Exported, tmp_path: Path) -> None:
    bundle = pipeline.bundle(exported.folder, "web", tmp_path / "web")
    folder = tmp_path / "web" / "bundle"
    x = np.fromfile(folder / bundle["reference"]["file"], "<f4").reshape(bundle["input"]["shape"])
    listed = artifact.read_json(exported.folder / artifact.IMAGES)["scored"]
    items = {item.name: item for item in open_images(exported.data).items}
    pictures = [Preprocess.imagenet(64)(items[entry["name"]].image()) for entry in listed]
    assert any(np.array_equal(x[0], picture) for picture in pictures)
    run = target("onnx").load(exported.folder / "onnx")
    given = np.fromfile(folder / bundle["models"]["onnx"]["reference"]["file"], "<f4")
    assert np.array_equal(run(x)[0], given)

    def margin(logits: Any) -> float:
        best = np.sort(logits.astype(np.float64))
        return float((best[-1] - best[-2]) / best.std())

    assert margin(given) == max(margin(run(picture[None])[0]) for picture in pictures)


def test_how_near_a_device_has_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """6 dB below the worse of its own noise and its distance from the program, and never more than 60 dB."""
    floors = iter([40.0, 36.0, 41.0, 39.0] + [130.0] * 4 + [2.0] * 4 + [90.0] * 4)
    monkeypatch.setattr(metrics, "self_noise", lambda run, batches, seed: next(floors))
    x = np.zeros((1, 3, 4, 4), np.float32)

    def near(sqnr: float, **more: Any) -> float:
        links = [{"from": "original", "to": "onnx", "sqnr_db": 1.0}]
        links += [{"from": "folded", "to": "openvino", "sqnr_db": 2.0}]
        links += [{"from": "quantised program", "to": "onnx", "sqnr_db": sqnr, **more}]
        return make.nearness("onnx", lambda x: x[:, 0, 0], x, {"parity": {"links": links}})

    assert near(50.0) == 30
    assert near(120.0) == 60
    assert near(50.0) == 0
    assert near(50.0, tokens={"each_its_own": {"sqnr_db": 16.0}}) == 10


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    ("change", "app_name", "reason"),
    [
        (lambda m: m["options"].update(batch=4), "web", "takes 4 images at once, an app one: export without --batch"),
        (lambda m: m["targets"].pop("onnx"), "web", "has nothing that the web app runs: export it with --target onnx"),
    ],
)
def test_an_export_that_an_app_cannot_take(
    change: Callable[[dict[str, Any]], object], app_name: str, reason: str, copied: Path, tmp_path: Path
) -> None:
    edit(copied, change)
    with pytest.raises(InputError, match=reason):
        pipeline.bundle(copied, app_name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("app")
def test_images_and_artifacts_that_are_not_what_they_were(copied: Path, exported: Exported, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(exported.data, tmp_path / "moved"))
    edit(copied, lambda manifest: manifest["options"].update(data=str(tmp_path / "gone")))
    with pytest.raises(InputError, match="there is no data folder"):
        pipeline.bundle(copied, "web", tmp_path / "out")
    pipeline.bundle(copied, "web", tmp_path / "out", data=str(moved))
    first = artifact.read_json(copied / artifact.IMAGES)["scored"][0]["name"]
    (moved / first).write_bytes((moved / first).read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"is not in .* as it was scored: say where it is with --data"):
        pipeline.bundle(copied, "web", tmp_path / "other", data=str(moved))
    (copied / "onnx" / "model.onnx").write_bytes(b"other")
    with pytest.raises(ClaimError, match="is not what its manifest describes: export it again"):
        pipeline.bundle(copied, "web", tmp_path / "other", data=str(exported.data))
    assert not (tmp_path / "other").exists()


def test_core_ml_in_another_form_is_refused() -> None:
    options = {"image_input": True, "classifier": False}
    with pytest.raises(InputError, match="an app takes a tensor and logits: export Core ML without --image-input"):
        make.check_form({"options": options}, ["coreml"])
    make.check_form({"options": options}, ["executorch"])


def test_nothing_is_compared_with_zeros(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    x = np.ones((1, 3, 4, 4), np.float32)
    with pytest.raises(InputError, match="onnx gives nothing but zeros, so that nothing compares with it"):
        make.model("onnx", lambda x: np.zeros((1, 10), np.float32), x, {}, tmp_path)
