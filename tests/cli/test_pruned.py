"""A model that prunes tokens, exported, verified and refused where it makes no sense."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit import artifact, pipeline
from edgevit.models import fitting, weights
from tests.cli.conftest import Edgevit
from tests.conftest import CALIBRATION, SMALL, Exported, run_export, short_timing

TINY = "dynamicvit_deit_tiny"
KEPT = [(11, 16), (7, 11), (5, 7)]  # of 4 x 4 patches, at 0.7


@pytest.fixture(scope="module")
def pruned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("pruned") / "int8"
    targets = ("--target", "onnx", "--target", "openvino")
    options = ("--model", TINY, "--weights", "random", "--image-size", 64, "--classes", 10)
    given = ("--data", data, "--skip-bad-images", "--min-sqnr", 0, "--json", *SMALL)
    torch.set_num_threads(1)
    code, out, err = run_export(*targets, *options, *given, "--out", folder)
    return Exported(folder, data, Path("random"), out, err, code)


@pytest.fixture(scope="module")
def manifest(pruned: Exported) -> dict[str, Any]:
    assert pruned.code == 0, pruned.err
    found: dict[str, Any] = json.loads(pruned.out)
    return found


def test_the_artifact_gives_logits_and_its_selection_lies_beside_it(manifest: dict[str, Any], pruned: Exported) -> None:
    import onnx

    def outputs(folder: Path) -> list[str]:
        return [output.name for output in onnx.load(folder / "model.onnx").graph.output]

    assert outputs(pruned.folder / "onnx") == ["logits"]
    sites = (1, 2, 3)
    names = [*(f"kept_{site}" for site in sites), *(f"scores_{site}" for site in sites)]
    assert outputs(pruned.folder / "selection" / "onnx") == ["logits", *names]
    for name, target in manifest["targets"].items():
        described = artifact.describe_files(pruned.folder / "selection" / name)
        assert target["selection"] == {"path": f"selection/{name}", **described}
        assert target["float_bytes"] > target["bytes"]


def test_the_manifest_says_what_was_kept(manifest: dict[str, Any]) -> None:
    assert manifest["model"]["keep_ratio"] == 0.7
    for link in manifest["parity"]["links"]:
        sites = link["tokens"]["sites"]
        assert [(site["kept"], site["of"]) for site in sites] == KEPT
        assert len(link["kept_token_overlap"]) == len(KEPT)
    folding = manifest["parity"]["links"][0]
    assert folding["kept_token_overlap"] == [1.0, 1.0, 1.0]
    assert folding["tokens"]["images_that_differ"] == 0


def test_scores_stay_in_float(manifest: dict[str, Any]) -> None:
    asked = manifest["quant"]["operators"]
    assert not [name for name in asked if "score_predictor" in name]
    assert len([name for name in asked if name.endswith(("qkv", "proj", "fc1", "fc2"))]) == 4 * 12
    for target in manifest["targets"].values():
        assert target["census"]["int8_delivered"] == target["census"]["int8_asked"] == len(asked)
        assert target["grid"]["matches"]


def test_it_is_timed_against_itself_unpruned(manifest: dict[str, Any]) -> None:
    for latency in manifest["latency"].values():
        low, high = latency["pruning_speedup_ci95"]
        assert low <= latency["pruning_speedup"] <= high
        assert low / 1.5 <= latency["unpruned_p50_ms"] / latency["pruned_p50_ms"] <= high * 1.5


def test_pruning_that_costs_time_is_said() -> None:
    timing = {"pruning_speedup": 0.8, "pruning_speedup_ci95": [0.75, 0.85]}
    assert pipeline.pruning_costs("onnx", timing) == (
        "onnx: pruning makes it slower here, 0.80 times as fast as unpruned (95 % interval 0.75 to 0.85): "
        "--keep-ratio 1 exports the unpruned model"
    )
    assert pipeline.pruning_costs("onnx", timing | {"pruning_speedup_ci95": [0.75, 1.01]}) is None
    assert pipeline.pruning_costs("onnx", {"speedup": 0.5, "speedup_ci95": [0.4, 0.6]}) is None


def test_verify_derives_it_again(manifest: dict[str, Any], pruned: Exported, edgevit: Edgevit) -> None:
    with short_timing():
        ended = edgevit("verify", pruned.folder)
    assert ended.code == 0, ended.out + ended.err
    for claim in (
        "onnx, its selection: files",
        "parity original → openvino",
        "openvino: latency against itself unpruned",
        "onnx: size of its float twin",
    ):
        assert f"holds  {claim}\n" in ended.out


def test_a_selection_that_was_exchanged_is_found(
    manifest: dict[str, Any], pruned: Exported, edgevit: Edgevit, tmp_path: Path
) -> None:
    folder = tmp_path / "int8"
    shutil.copytree(pruned.folder, folder)
    (folder / "selection" / "onnx" / "model.onnx").write_bytes((folder / "onnx" / "model.onnx").read_bytes())
    (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace(str(pruned.data), str(tmp_path / "moved"))
    )
    ended = edgevit("verify", folder)
    assert ended.code == 1
    assert "FAILS  onnx, its selection: files: model.onnx changed, is missing or was added\n" in ended.out


# Wrong input


def refused(edgevit: Edgevit, tmp_path: Path, *args: object) -> str:
    ended = edgevit("export", "--out", tmp_path / "x", "--calib-size", CALIBRATION, *args)
    assert (ended.code, ended.out) == (2, "")
    assert not (tmp_path / "x").exists()
    (line,) = ended.err.splitlines()
    return line


def test_ratios_and_predictors_that_make_no_sense(edgevit: Edgevit, tmp_path: Path) -> None:
    line = refused(edgevit, tmp_path, "--model", TINY, "--weights", "random", "--keep-ratio", 0.75)
    assert line.startswith("edgevit: keep ratio 0.75 does not fit DynamicViT: take 0.5, 0.6, 0.7, 0.8, 0.9, or 1")
    assert "efficientvit_m0 prunes no tokens: leave --keep-ratio away" in refused(
        edgevit, tmp_path, "--keep-ratio", 0.7
    )
    assert "leave --predictors away" in refused(edgevit, tmp_path, "--predictors", "bundled")
    assert "no weights for dynamicvit_deit_tiny are bundled: take --weights official" in refused(
        edgevit, tmp_path, "--model", TINY
    )


def test_a_plain_backbone_without_predictors(edgevit: Edgevit, tmp_path: Path) -> None:
    path = tmp_path / "deit.safetensors"
    weights.save(path, fitting.seeded(TINY, 64, 10, seed=0, keep_ratio=1), {})
    line = refused(edgevit, tmp_path, "--model", TINY, "--weights", path)
    assert "holds no token predictors: add --predictors (bundled or a file), or take --keep-ratio 1" in line
    line = refused(edgevit, tmp_path, "--model", TINY, "--weights", path, "--predictors", tmp_path / "none.safetensors")
    assert "there is no weights file" in line
