"""``edgevit export`` on the happy path, and on every claim that may fail."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevit import artifact
from tests.cli.conftest import Edgevit
from tests.conftest import CALIBRATION, SCORED, Exported, run_export


@pytest.fixture(scope="session")
def manifest(exported: Exported) -> dict[str, Any]:
    return artifact.read_manifest(exported.folder)


def test_json_is_the_manifest_and_nothing_else(exported: Exported, manifest: dict[str, Any]) -> None:
    assert exported.code == 0, exported.err
    assert exported.out == (exported.folder / artifact.MANIFEST).read_text(encoding="utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(exported.out, parse_constant=refuse) == manifest


def test_the_manifest_has_every_key(manifest: dict[str, Any]) -> None:
    assert {
        "schema",
        "edgevit",
        "created",
        "command",
        "seed",
        "model",
        "preprocess",
        "fold",
        "quant",
        "targets",
        "parity",
        "latency",
        "environment",
        "options",
        "images",
        "failures",
        "export_seconds",
    } == manifest.keys()
    assert {"name", "image_size", "classes", "params", "macs", "weights"} <= manifest["model"].keys()
    assert {"source", "sha256", "licence"} <= manifest["model"]["weights"].keys()
    assert {"resize", "crop", "interpolation", "mean", "std", "layout", "colour"} == manifest["preprocess"].keys()
    assert all({"rule", "count", "max_abs_error"} <= fold.keys() for fold in manifest["fold"])
    assert {"mode", "recipe", "method", "calibration", "tensors"} <= manifest["quant"].keys()
    assert {"images", "sha256_of_list", "observer"} == manifest["quant"]["calibration"].keys()
    assert all({"scale", "zero_point"} <= tensor.keys() for tensor in manifest["quant"]["tensors"].values())
    for target in manifest["targets"].values():
        keys = {
            "path",
            "files",
            "bytes",
            "float_bytes",
            "tool_version",
            "export_seconds",
            "peak_rss_mb",
            "census",
            "grid",
        }
        assert target.keys() == keys
        assert {"int8", "float", "int8_asked", "int8_delivered"} == target["census"].keys()
        assert {"matches", "tensors_compared", "differing", "dropped"} == target["grid"].keys()
    assert {"images", "labels", "links", "sha256_of_list"} == manifest["parity"].keys()
    for link in manifest["parity"]["links"]:
        assert {"from", "to", "sqnr_db", "cosine", "top1_agreement", "self_noise_db", "limits"} <= link.keys()
        assert {"top1_from", "top1_to", "top1_drop", "top1_drop_ci95"} <= link.keys()
    for latency in manifest["latency"].values():
        assert {"device", "threads", "batch", "runs", "p50_ms", "p90_ms", "p99_ms"} <= latency.keys()
        assert {"float_p50_ms", "speedup", "speedup_ci95"} <= latency.keys()
    assert {"os", "cpu", "python", "packages"} <= manifest["environment"].keys()


def test_the_manifest_says_what_was_done(exported: Exported, manifest: dict[str, Any]) -> None:
    assert manifest["failures"] == []
    assert list(manifest["targets"]) == ["onnx", "openvino"]  # all, and one of them named again
    assert manifest["model"]["weights"]["source"] == str(exported.weights)
    assert manifest["model"]["weights"]["sha256"] == artifact.sha256_of(exported.weights)
    assert manifest["model"]["weights"]["licence"] == "CC0-1.0"
    assert manifest["quant"]["calibration"]["images"] == CALIBRATION
    assert manifest["parity"]["images"] == SCORED
    assert manifest["parity"]["labels"] is True
    assert [(link["from"], link["to"]) for link in manifest["parity"]["links"]] == [
        ("original", "folded"),
        ("folded", "quantised program"),
        ("quantised program", "onnx"),
        ("quantised program", "openvino"),
        ("original", "onnx"),
        ("original", "openvino"),
    ]


def test_artifacts_hold_what_the_recipe_asked_for(manifest: dict[str, Any]) -> None:
    asked = len(manifest["quant"]["operators"])
    assert asked > 50
    for target in manifest["targets"].values():
        assert (target["census"]["int8_asked"], target["census"]["int8_delivered"]) == (asked, asked)
        assert target["grid"]["matches"] is True
        assert target["grid"]["tensors_compared"] > asked


def test_files_and_digests(exported: Exported, manifest: dict[str, Any]) -> None:
    assert sorted(path.name for path in exported.folder.iterdir()) == [
        "images.json",
        "manifest.json",
        "onnx",
        "openvino",
    ]
    assert list(exported.folder.parent.iterdir()) == [exported.folder]
    for name, target in manifest["targets"].items():
        assert target["files"] == {
            path.name: artifact.sha256_of(path) for path in (exported.folder / name).iterdir()
        }, name


def test_a_bad_image_is_named_counted_and_not_used(exported: Exported, manifest: dict[str, Any]) -> None:
    assert "skipped: 0/4.png is corrupt or truncated" in exported.err
    assert manifest["images"]["skipped"] == 1
    assert [bad["name"] for bad in manifest["images"]["bad"]] == ["0/4.png"]
    listed = artifact.read_json(exported.folder / artifact.IMAGES)
    used = [entry["name"] for part in listed.values() for entry in part]
    assert len(used) == len(set(used)) == CALIBRATION + SCORED
    assert "0/4.png" not in used


@pytest.fixture
def replayed(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """Exports that cost nothing: they fold, calibrate and lower into what the shared one holds."""
    from edgevit import pipeline
    from edgevit.lowering import ARTIFACT, Lowered, Lowering, Programs

    def lower(name: str, module: Any, lowering: Lowering, threads: int) -> Lowered:
        folder = lowering.folder_of(ARTIFACT, name)
        shutil.copytree(exported.folder / name, folder)
        return Lowered(folder, module, module.census(folder, {}), None, 0, 0)

    monkeypatch.setattr(pipeline, "lower", lower)
    monkeypatch.setattr(pipeline, "make_programs", lambda *ignored: (Programs(None, None), None))
    monkeypatch.setattr(pipeline, "measure_latency", lambda *ignored: {})
    return exported


def arguments(exported: Exported, out: Path) -> list[object]:
    return [
        "export",
        *("--weights", exported.weights, "--data", exported.data, "--skip-bad-images", "--calib-size", CALIBRATION),
        *("--min-sqnr", 0, "--min-agreement", 0, "--max-drop", 100, "--out", out, "--target", "onnx", "--json"),
    ]


def test_an_operator_in_float_fails(
    replayed: Exported, edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convert import onnx

    census = onnx.census
    monkeypatch.setattr(
        onnx, "census", lambda folder, asked: replace(census(folder, asked), asked=("a", "b"), missing=("b",))
    )
    ended = edgevit(*arguments(replayed, tmp_path / "x"))
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == "edgevit: onnx: 1 operators asked in INT8 run in float, such as b"
    manifest = artifact.read_manifest(tmp_path / "x")
    assert manifest["failures"] == ["onnx: 1 operators asked in INT8 run in float, such as b"]
    assert manifest["targets"]["onnx"]["census"]["int8_delivered"] == 1


def test_another_grid_fails(
    replayed: Exported, edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgevit import pipeline
    from edgevit.verify.grid import GridDiff

    lower = pipeline.lower
    difference = GridDiff(7, differing=("blocks.weight",), dropped=())
    monkeypatch.setattr(pipeline, "lower", lambda *given: replace(lower(*given), grid=difference))
    ended = edgevit(*arguments(replayed, tmp_path / "x"))
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == "edgevit: onnx: 1 tensors are on another grid, such as blocks.weight"
    assert artifact.read_manifest(tmp_path / "x")["targets"]["onnx"]["grid"]["matches"] is False


def test_a_limit_that_is_not_kept_fails_and_keeps_the_export(
    replayed: Exported, edgevit: Edgevit, tmp_path: Path
) -> None:
    ended = edgevit(*arguments(replayed, tmp_path / "x"), "--min-sqnr", 99)
    assert ended.code == 1
    assert "edgevit: parity folded → onnx: " in ended.err
    assert "dB SQNR, less than 99" in ended.err
    assert "Traceback" not in ended.err
    manifest = artifact.read_manifest(tmp_path / "x")
    assert json.loads(ended.out) == manifest
    assert len(manifest["failures"]) == 2  # from the folded model, and from the original
    assert manifest["parity"]["links"][1]["limits"]["min_sqnr_db"] == 99


@pytest.mark.parametrize("accepted", [False, True])
def test_slower_than_float_fails_unless_accepted(
    accepted: bool, replayed: Exported, edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgevit import pipeline
    from edgevit.bench.protocol import Comparison, Ratio, Timing
    from edgevit.measuring import Latency

    slow = Timing(20, 3.0, 3.1, 3.2, 2.9, 0.1)
    comparison = Comparison(slow, replace(slow, p50_ms=2.0), Ratio(1.5, (1.4, 1.6)), steady=True)
    monkeypatch.setattr(pipeline, "measure_latency", lambda *ignored: {"onnx": Latency(comparison, None)})
    ended = edgevit(*arguments(replayed, tmp_path / "x"), *(["--allow-slower"] if accepted else []))
    failures = artifact.read_manifest(tmp_path / "x")["failures"]
    if accepted:
        assert (ended.code, failures) == (0, [])
        return
    assert ended.code == 1
    assert "onnx: INT8 takes 1.50 of the float time (95 % interval 1.40 to 1.60): slower on this host" in ended.err
    assert len(failures) == 1


def test_nan_from_an_artifact_is_a_failed_claim_and_leaves_nothing(
    replayed: Exported, edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convert import onnx

    load = onnx.load
    monkeypatch.setattr(onnx, "load", lambda folder, threads: lambda x: load(folder, threads)(x) * float("nan"))
    ended = edgevit(*arguments(replayed, tmp_path / "new" / "x"))
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == ("edgevit: the onnx model gives logits that are not finite: check its weights")
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_and_a_failure_midway_does_not(
    replayed: Exported, edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgevit import pipeline

    out = tmp_path / "x"
    shutil.copytree(replayed.folder, out)
    before = (out / artifact.MANIFEST).read_bytes()
    assert edgevit(*arguments(replayed, out)).code == 2
    with monkeypatch.context() as patch:

        def fail(*ignored: Any) -> None:
            (next(tmp_path.glob(".x.partial-*")) / "half").write_text("half an export")
            raise RuntimeError("a library's own error")

        patch.setattr(pipeline, "measure_parity", fail)
        ended = edgevit(*arguments(replayed, out), "--force")
        assert ended.code == 70
        assert "Traceback" not in ended.err
    assert (out / artifact.MANIFEST).read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]
    assert edgevit(*arguments(replayed, out), "--force").code == 0
    assert list(artifact.read_manifest(out)["targets"]) == ["onnx"]
    assert not (out / "openvino").exists()
    assert list(tmp_path.iterdir()) == [out]


def test_the_bundled_weights_and_images(tmp_path: Path) -> None:
    """The main job as a newcomer calls it, on fewer images."""
    code, out, err = run_export("--calib-size", 32, "--parity-images", 100, "--runs", 20, "--out", tmp_path / "x")
    manifest = artifact.read_manifest(tmp_path / "x")
    assert [failure for failure in manifest["failures"] if "parity" in failure] == []
    assert manifest["parity"]["links"][-1]["top1_to"] > 80
    assert manifest["model"]["class_names"][0] == "T-shirt/top"
    assert code == (1 if manifest["failures"] else 0), err
    assert "INT8 operators of those asked" in out


def test_a_signal_is_survived_after_openvino_has_gone(exported: Exported) -> None:
    """Its plugin gives the thread a stack for signals; one that was given back too early is a segmentation fault."""
    code = """
import gc, signal, sys
from pathlib import Path
from convert import openvino
first, second = (openvino.load(Path(sys.argv[1])) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda number, frame: print("survived"))
signal.raise_signal(signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code, exported.folder / "openvino"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "survived\n")
