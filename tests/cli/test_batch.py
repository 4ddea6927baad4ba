"""An export whose artifacts take several images at once: measured, verified, timed and profiled as such."""

import json
import shutil
from pathlib import Path

import pytest

from edgevit import artifact
from tests.cli.conftest import Edgevit
from tests.conftest import SMALL, Exported, run_export

BATCH = 4  # 15 images are scored: the last three leave one place empty
QUICK = ("--runs", "20", "--seconds", "0.1")


@pytest.fixture(scope="module")
def batched(data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("batched") / "out"
    of = ("--weights", checkpoint, "--data", data, "--skip-bad-images", "--target", "onnx", "--quant", "fp32")
    code, _, errors = run_export(*of, *SMALL, "--batch", BATCH, "--out", out)
    assert code == 0, errors
    return out


def test_says_how_many_it_takes_and_is_exact(batched: Path) -> None:
    manifest = artifact.read_manifest(batched)
    assert manifest["latency"]["onnx"]["batch"] == BATCH
    assert manifest["parity"]["images"] % BATCH != 0
    assert min(link["sqnr_db"] for link in manifest["parity"]["links"]) > 60


def test_is_verified(batched: Path, edgevit: Edgevit) -> None:
    assert edgevit("verify", batched).code == 0


def test_is_timed_among_its_like(batched: Path, exported: Exported, edgevit: Edgevit, tmp_path: Path) -> None:
    copy = shutil.copytree(batched, tmp_path / "copy")
    ended = edgevit("bench", copy, *QUICK)
    assert ended.code == 0 or "too noisy for a conclusion" in ended.err
    assert f"batch: {BATCH}" in ended.out
    assert artifact.read_json(copy / "bench.json")["protocol"]["batch"] == BATCH
    ended = edgevit("bench", shutil.copytree(exported.folder, tmp_path / "one"), copy, "--target", "onnx")
    assert (ended.code, "these exports take 1 and 4 images at once: time those of one batch" in ended.err) == (2, True)


def test_is_profiled_with_the_work_on_all_its_images(batched: Path, edgevit: Edgevit) -> None:
    ended = edgevit("profile", batched, "--runs", 20, "--json")
    assert ended.code == 0, ended.err
    profile = json.loads(ended.out)["targets"]["onnx"]
    assert sum(row["macs"] for row in profile["kinds"]) == BATCH * artifact.read_manifest(batched)["model"]["macs"]
    assert profile["bound"]["of_model_macs"] == 1
