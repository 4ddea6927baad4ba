"""One calibration, four artifacts: exported, proven to be on one grid, and verified."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from convert.registry import TARGETS
from edgevit import artifact
from tests.cli.conftest import Edgevit
from tests.conftest import SMALL, Demo, short_timing


@pytest.fixture(scope="module")
def manifest(demo: Demo) -> dict[str, Any]:
    return artifact.read_manifest(demo.folder)


def test_all_is_every_target(manifest: dict[str, Any], demo: Demo) -> None:
    assert list(manifest["targets"]) == list(TARGETS)
    for name, entry in TARGETS.items():
        assert (demo.folder / name / entry.file).exists()


def test_every_artifact_is_on_the_programs_grid(manifest: dict[str, Any]) -> None:
    tensors = manifest["quant"]["tensors"]
    for target in manifest["targets"].values():
        grid = target["grid"]
        assert grid["matches"]
        assert grid["tensors_compared"] + len(grid["dropped"]) == len(tensors)
    for name in ("executorch", "coreml"):
        assert manifest["targets"][name]["grid"]["dropped"] == []


def test_int8_asked_is_int8_delivered(manifest: dict[str, Any]) -> None:
    for target in manifest["targets"].values():
        assert target["census"]["int8_asked"] == target["census"]["int8_delivered"] == 64
    census = manifest["targets"]["executorch"]["census"]
    assert (census["partitions"], census["portable"]) == (1, {})
    assert "partitions" not in manifest["targets"]["onnx"]["census"]


def test_every_artifact_is_a_link_with_a_noise_floor_of_its_own(manifest: dict[str, Any]) -> None:
    assert manifest["parity"]["images"] == 1000
    ends = {(link["from"], link["to"]) for link in manifest["parity"]["links"]}
    assert {("quantised program", name) for name in TARGETS} <= ends
    assert {("original", name) for name in TARGETS} <= ends
    assert all(link["self_noise_db"] > 0 for link in manifest["parity"]["links"])


def test_only_what_runs_here_is_timed(manifest: dict[str, Any]) -> None:
    assert sorted(manifest["latency"]) == ["executorch", "onnx", "openvino"]


def test_verify_derives_all_of_it_again(demo: Demo) -> None:
    claims = demo.commands[-1].stdout.splitlines()
    for name in TARGETS:
        assert f"holds  {name}: grid" in claims
        assert f"holds  parity original → {name}" in claims
    assert "holds  targets that were timed" in claims


@pytest.fixture
def damaged(demo: Demo, tmp_path: Path) -> Path:
    """A copy whose images are gone, so that verify looks at the artifacts alone and is quick."""
    return Path(shutil.copytree(demo.folder, tmp_path / "damaged"))


WEIGHTS = "coreml/model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("file", "damage", "claim"),
    [
        ("executorch/model.pte", cut, "executorch: census and grid"),
        (WEIGHTS, Path.unlink, "coreml: census and grid"),
        (WEIGHTS, cut, "coreml: census and grid"),
        (WEIGHTS, altered, "coreml: files"),
    ],
)
def test_a_damaged_artifact_is_named(file: str, damage: Any, claim: str, damaged: Path, edgevit: Edgevit) -> None:
    damage(damaged / file)
    ended = edgevit("verify", damaged, "--data", damaged, "--json")
    assert ended.code == 1
    failed = {check["claim"]: check["reason"] for check in json.loads(ended.out) if not check["holds"]}
    assert claim in failed
    assert "Traceback" not in ended.err


def test_an_older_runtime_than_the_artifacts_is_said(damaged: Path, edgevit: Edgevit) -> None:
    manifest = artifact.read_manifest(damaged)
    manifest["targets"]["executorch"]["tool_version"] = "99.0"
    artifact.write_json(damaged / artifact.MANIFEST, manifest)
    cut(damaged / "executorch/model.pte")
    ended = edgevit("verify", damaged, "--data", damaged, "--json")
    (reason,) = (c["reason"] for c in json.loads(ended.out) if c["claim"] == "executorch: census and grid")
    assert "made with executorch 99.0" in reason
    assert reason.endswith("which may be too old: install 99.0")


def test_core_ml_with_an_image_in_is_exported_and_verified(
    data: Path, checkpoint: Path, tmp_path: Path, edgevit: Edgevit
) -> None:
    form = ("--target", "coreml", "--image-input", "--ios", 18)
    subject = ("--weights", checkpoint, "--data", data, "--skip-bad-images", "--min-sqnr", 0)
    with short_timing():
        ended = edgevit("export", *form, *subject, *SMALL, "--out", tmp_path / "out")
        assert ended.code == 0, ended.err
        ended = edgevit("verify", tmp_path / "out")
    assert ended.code == 0, ended.out
    assert "holds  parity original → coreml" in ended.out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--ios", 16), "iOS 16 runs no W8A8 program: take 17, 18, 26"),
        (("--ios", 19), "iOS 19 has no program format of its own: take 17, 18, 26"),
        (("--image-input",), "--ios, --image-input and --classifier are about Core ML: add --target coreml"),
        (("--batch", 2, "--target", "coreml"), "a Core ML artifact takes one image at a time: leave --batch out"),
    ],
)
def test_options_of_core_ml_that_cannot_be_met(
    options: tuple[object, ...], reason: str, tmp_path: Path, edgevit: Edgevit
) -> None:
    ended = edgevit("export", *options, "--out", tmp_path / "out")
    assert ended.code == 2
    assert reason in ended.err
    assert not (tmp_path / "out").exists()


def test_a_classifier_needs_the_names_of_its_classes(data: Path, tmp_path: Path, edgevit: Edgevit) -> None:
    weights = ("--weights", "random", "--classes", 7, "--image-size", 64, "--data", data, "--skip-bad-images")
    ended = edgevit("export", "--classifier", "--target", "coreml", *weights, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "--classifier needs the names of the classes" in ended.err
    assert not (tmp_path / "out").exists()
