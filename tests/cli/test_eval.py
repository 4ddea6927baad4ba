"""``edgevit eval``: what the trained weights score, and which sets cannot be scored."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Edgevit
from tests.test_train import write_folders


@pytest.fixture
def weights(trained: Path) -> Path:
    return trained / "model.safetensors"


def test_scores_what_training_measured(edgevit: Edgevit, idx: Path, trained: Path, weights: Path) -> None:
    ended = edgevit("eval", "--data", idx, "--weights", weights, "--threads", 1, "--json")
    scored, record = json.loads(ended.out), json.loads((trained / "train.json").read_text())
    assert ended.code == 0
    assert (scored["model"], scored["images"], scored["skipped"]) == ("efficientvit_m0", 20, 0)
    assert scored["weights"] == {"source": str(weights), "sha256": record["sha256"], "licence": "CC0-1.0"}
    assert (scored["top1"], scored["ci95"]) == (record["top1"], record["ci95"])
    assert scored["top1"] == 100 * scored["correct"] / 20
    assert scored["preprocess"] == record["preprocess"]
    assert scored["seconds"] > 0


def test_one_line_for_a_reader(edgevit: Edgevit, idx: Path, weights: Path) -> None:
    ended = edgevit("eval", "--data", idx, "--weights", weights)
    assert (ended.code, ended.out.count("\n")) == (0, 1)
    assert ended.out.startswith("top-1 ")
    assert "on 20 images in" in ended.out


def test_split(edgevit: Edgevit, idx: Path, weights: Path, tmp_path: Path) -> None:
    args = ("eval", "--weights", weights, "--json")
    assert json.loads(edgevit(*args, "--data", idx, "--split", "train").out)["images"] == 40
    ended = edgevit(*args, "--data", idx, "--split", "val")
    assert (ended.code, ended.err) == (2, f"edgevit: {idx} has no split 'val': it has train and test\n")
    folders = write_folders(tmp_path / "f", **{"0": 3, "3": 4})
    assert json.loads(edgevit(*args, "--data", folders).out)["images"] == 7
    ended = edgevit(*args, "--data", folders, "--split", "test")
    assert (ended.code, "it has no splits, so leave --split away" in ended.err) == (2, True)


def test_another_image_size(edgevit: Edgevit, idx: Path, weights: Path) -> None:
    ended = edgevit("eval", "--data", idx, "--weights", weights, "--image-size", 96, "--json")
    assert json.loads(ended.out)["preprocess"]["crop"] == 96
    assert "resized for 96 px" in ended.err


def test_unusable_images_are_named_and_skipped_only_if_asked(edgevit: Edgevit, weights: Path, tmp_path: Path) -> None:
    folders = write_folders(tmp_path, **{"0": 3, "1": 3})
    (folders / "1" / "bad.png").write_bytes(b"")
    args = ("eval", "--data", folders, "--weights", weights, "--json")
    ended = edgevit(*args)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "edgevit: 1/bad.png is empty: replace or remove it\n"
    ended = edgevit(*args, "--skip-bad-images")
    scored = json.loads(ended.out)
    assert (ended.code, scored["images"], scored["skipped"]) == (0, 6, 1)
    assert ended.err == "skipped: 1/bad.png is empty: replace or remove it\n"


def test_nothing_left_to_score(edgevit: Edgevit, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "bad.png").write_bytes(b"")
    ended = edgevit("eval", "--data", tmp_path, "--weights", weights, "--skip-bad-images")
    assert (ended.code, "none of the 1 images" in ended.err) == (2, True)


def test_sets_that_cannot_be_scored(edgevit: Edgevit, weights: Path, tmp_path: Path) -> None:
    loose = write_folders(tmp_path, loose=2) / "loose"
    ended = edgevit("eval", "--data", loose, "--weights", weights)
    assert (ended.code, "have no labels: there is nothing to score" in ended.err) == (2, True)
    ended = edgevit("eval", "--weights", weights)
    assert (ended.code, "10 named classes and the model 4" in ended.err) == (2, True)
    ended = edgevit("eval", "--data", tmp_path / "none", "--weights", weights)
    assert (ended.code, "there is no data folder" in ended.err) == (2, True)


def test_unknown_model_and_weights(edgevit: Edgevit, idx: Path) -> None:
    ended = edgevit("eval", "--data", idx, "--model", "efficientvit_m9", "--weights", "random")
    assert (ended.code, "there is no model 'efficientvit_m9': take" in ended.err) == (2, True)
    ended = edgevit("eval", "--data", idx, "--weights", "none.pth")
    assert (ended.code, "there is no weights file none.pth" in ended.err) == (2, True)
