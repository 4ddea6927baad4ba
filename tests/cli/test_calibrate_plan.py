"""``edgevit calibrate``: sensitivity, limits and training, on a small model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from calibrate import qat
from edgevit import artifact, calibration, pipeline, tuning
from tests.cli.conftest import Edgevit
from tests.conftest import CALIBRATION, ROOT

QAT = ("--method", "qat", "--epochs", 2, "--batch", 4)


@pytest.fixture
def asked(data: Path) -> tuple[object, ...]:
    """Of random weights, of which only limits that are named are judged."""
    model = ("--weights", "random", "--image-size", 64, "--classes", 10)
    return "calibrate", *model, "--data", data, "--calib-size", CALIBRATION, "--skip-bad-images"


def read(folder: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((folder / calibration.DESCRIPTION).read_text())


def test_sensitivity_is_shown_and_kept(edgevit: Edgevit, asked: tuple[object, ...], tmp_path: Path) -> None:
    ended = edgevit(*asked, "--sensitivity", "--out", tmp_path / "c")
    assert ended.code == 0, ended.err
    costs = artifact.read_json(tmp_path / "c" / "sensitivity.json")
    description = read(tmp_path / "c")
    assert {cost["name"] for cost in costs["operators"]} == description["quant"]["operators"].keys()
    assert costs["images"] == CALIBRATION
    assert costs["operators"][0]["name"] in ended.out
    assert "Sensitivity on" in ended.out
    assert (tmp_path / "c" / "sensitivity.svg").read_text().startswith("<svg")


def test_a_limit_leaves_operators_in_float(edgevit: Edgevit, asked: tuple[object, ...], tmp_path: Path) -> None:
    assert edgevit(*asked, "--min-sqnr", -100, "--out", tmp_path / "plain").code == 0
    plain = read(tmp_path / "plain")["quant"]
    assert plain["mixed"]["floats"] == []
    reached = plain["mixed"]["before"]["sqnr_db"]
    ended = edgevit(*asked, "--min-sqnr", reached + 1, "--out", tmp_path / "mixed", "--json")
    quant = json.loads(ended.out)["quant"]
    floats = quant["mixed"]["floats"]
    assert floats
    assert quant["mixed"]["met"]
    assert quant["mixed"]["kept"]["sqnr_db"] >= reached + 1
    assert quant["operators"].keys() == plain["operators"].keys() - set(floats)
    assert [rule["operators"] for rule in quant["recipe"]["rules"]][: len(floats)] == floats
    onnx = ("--target", "onnx", "--runs", 20, "--allow-slower")
    ended = edgevit(
        "export", "--calibration", tmp_path / "mixed", "--skip-bad-images", *onnx, "--out", tmp_path / "export"
    )
    assert ended.code == 0, ended.err
    manifest = artifact.read_manifest(tmp_path / "export")
    assert manifest["quant"]["operators"] == quant["operators"]
    assert manifest["targets"]["onnx"]["census"]["int8_delivered"] == len(quant["operators"])


def test_a_limit_that_no_choice_reaches_is_said(edgevit: Edgevit, asked: tuple[object, ...], tmp_path: Path) -> None:
    ended = edgevit(*asked, "--min-sqnr", 190, "--out", tmp_path / "c")
    assert ended.code == 1
    assert "no choice of float operators reaches an SQNR of 190 dB" in ended.err
    assert not read(tmp_path / "c")["quant"]["mixed"]["met"]


def test_training_is_recorded_and_exported_to_the_bit(
    edgevit: Edgevit, asked: tuple[object, ...], tmp_path: Path
) -> None:
    ended = edgevit(*asked, *QAT, "--out", tmp_path / "c")
    assert ended.code == 0, ended.err
    assert "loss" in ended.err
    assert "dB" in ended.err
    quant = read(tmp_path / "c")["quant"]
    assert quant["method"] == "qat"
    assert quant["training"]["steps"] == 2 * (quant["training"]["images"] // 4)
    lists = artifact.read_json(tmp_path / "c" / "images.json")
    trained, scored = ({entry["sha256"] for entry in lists[part]} for part in ("trained", "scored"))
    assert len(trained) == quant["training"]["images"] > 0
    assert not trained & scored
    assert not pipeline.training_state(tmp_path / "c").exists()
    onnx = ("--target", "onnx", "--runs", 20, "--allow-slower", "--parity-images", 9)
    ended = edgevit("export", "--calibration", tmp_path / "c", "--skip-bad-images", *onnx, "--out", tmp_path / "export")
    assert ended.code == 0, ended.err
    manifest = artifact.read_manifest(tmp_path / "export")
    assert manifest["quant"]["method"] == "qat"
    assert manifest["quant"]["tensors"] == quant["tensors"]
    assert manifest["targets"]["onnx"]["grid"]["matches"]
    assert not trained & {
        entry["sha256"] for entry in artifact.read_json(tmp_path / "export" / "images.json")["scored"]
    }


def test_interrupted_training_goes_on_with_the_same_command(
    edgevit: Edgevit, asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert edgevit(*asked, *QAT, "--out", tmp_path / "whole").code == 0
    step = qat.State.train

    def stopped(state: qat.State, x: torch.Tensor) -> qat.Step:
        if state.step == 1:
            raise KeyboardInterrupt
        return step(state, x)

    with monkeypatch.context() as patch:
        patch.setattr(qat.State, "train", stopped)
        ended = edgevit(*asked, *QAT, "--out", tmp_path / "c")
    state = pipeline.training_state(tmp_path / "c")
    assert ended.code == 130
    assert f"goes on from {state}" in ended.err
    assert state.is_file()
    assert not (tmp_path / "c").exists()
    ended = edgevit(*asked, *QAT, "--lr", 1, "--out", tmp_path / "c")
    assert (ended.code, "another lr" in ended.err) == (2, True)
    assert edgevit(*asked, *QAT, "--out", tmp_path / "c").code == 0
    assert read(tmp_path / "c")["tensors"] == read(tmp_path / "whole")["tensors"]


def test_a_learning_rate_that_diverges_is_said(edgevit: Edgevit, asked: tuple[object, ...], tmp_path: Path) -> None:
    ended = edgevit(*asked, *QAT, "--epochs", 20, "--lr", 1, "--out", tmp_path / "c")
    assert ended.code == 2
    assert "training diverges" in ended.err
    assert "lower --lr" in ended.err
    assert not (tmp_path / "c").exists()
    kept = load_file(pipeline.training_state(tmp_path / "c"))
    assert all(value.isfinite().all() for value in kept.values())


@pytest.mark.parametrize("option", [("--epochs", 3), ("--lr", 0.1), ("--batch", 3), ("--bf16",)])
def test_options_of_training_need_it(
    edgevit: Edgevit, asked: tuple[object, ...], tmp_path: Path, option: tuple[object, ...]
) -> None:
    ended = edgevit(*asked, *option, "--out", tmp_path / "c")
    assert (ended.code, f"{option[0]} is about training: add --method qat" in ended.err) == (2, True)


def parameters(folder: Path) -> torch.Tensor:
    """All that stays in float, in one row."""
    tensors = load_file(folder / calibration.TENSORS)
    names = sorted(
        name for name in tensors if name.endswith((".weight", ".bias")) and tensors[name].is_floating_point()
    )
    return torch.cat([tensors[name].flatten() for name in names])


def test_two_processes_train_what_one_would(edgevit: Edgevit, asked: tuple[object, ...], tmp_path: Path) -> None:
    qat = (*QAT, "--lr", 1e-4)
    assert edgevit(*asked, "--out", tmp_path / "start").code == 0
    assert edgevit(*asked, *qat, "--out", tmp_path / "one").code == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "edgevit"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [*command, *map(str, (*asked, *qat, "--out", tmp_path / "two"))]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    start, one, two = (parameters(tmp_path / name) for name in ("start", "one", "two"))
    assert torch.cosine_similarity(two - start, one - start, dim=0) > 0.9
    assert ended.stdout.count("Parity on") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"start", "one", "two"}


def test_fewer_images_than_processes_are_refused(
    edgevit: Edgevit, asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning.processes, "count", lambda: 8)
    ended = edgevit(*asked, *QAT, "--out", tmp_path / "c")
    assert (ended.code, "8 processes share a batch of 4" in ended.err) == (2, True), ended.err
