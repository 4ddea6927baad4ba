"""``edgevit train``: what it writes, how it goes on after an interruption, what it refuses before it starts."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from edgevit.models import weights
from edgevit.train import CHECKPOINT
from tests.cli.conftest import TINY, Edgevit
from tests.test_train import write_folders


def tensors_and_record(out: Path) -> tuple[dict[str, bytes], dict[str, object]]:
    """The shipped tensors and the record, less the digest of a file whose metadata come in any order."""
    record = json.loads((out / "train.json").read_text())
    del record["sha256"]
    return {key: value.numpy().tobytes() for key, value in load_file(out / "model.safetensors").items()}, record


def refused(edgevit: Edgevit, out: Path, *args: object) -> str:
    """The last line on stderr of a training that leaves ``out`` as it is."""
    before = {path: path.stat().st_mtime_ns for path in (out, *out.rglob("*")) if path.exists()}
    ended = edgevit("train", "--out", out, *args)
    assert (ended.code, ended.out) == (2, "")
    assert {path: path.stat().st_mtime_ns for path in (out, *out.rglob("*")) if path.exists()} == before
    return ended.err.splitlines(keepends=True)[-1]


def test_what_is_written(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == [CHECKPOINT, "model.safetensors", "train.json"]
    record = json.loads((trained / "train.json").read_text())
    assert record["command"] == (
        "edgevit train --data bands --model efficientvit_m0 --image-size 64 --epochs 2 --batch 16 --lr 0.001 "
        "--seed 0 --threads 1"
    )
    assert (record["classes"], record["class_names"], record["start"]) == (4, None, None)
    assert [record["data"][key] for key in ("name", "train", "test", "scored_on")] == [
        "bands",
        40,
        20,
        "the test split",
    ]
    assert [epoch["epoch"] for epoch in record["epochs"]] == [0, 1]
    assert record["ci95"][0] < record["top1"] < record["ci95"][1]
    assert record["recipe"]["weight_decay"] == 0.025
    assert record["environment"]["packages"]["torch"] == torch.__version__
    assert str(trained.parent) not in (trained / "train.json").read_text()


def test_the_weights_file_describes_itself(trained: Path) -> None:
    path = trained / "model.safetensors"
    assert {value.dtype for value in load_file(path).values()} == {torch.float16, torch.int64}
    model, described = weights.load("efficientvit_m0", str(path))
    assert (model.image_size, model.classes) == (64, 4)
    assert (described.licence, described.preprocess.resize, described.preprocess.crop) == ("CC0-1.0", 64, 64)
    record = json.loads((trained / "train.json").read_text())
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["command"] == record["command"]
    assert [metadata[key] for key in ("data", "seed", "classes", "top1")] == [
        "bands",
        "0",
        "4",
        f"{record['top1']:.2f}",
    ]


def test_class_folders(edgevit: Edgevit, tmp_path: Path) -> None:
    data = write_folders(tmp_path / "pets", cat=12, dog=12)
    ended = edgevit("train", "--data", data, "--out", tmp_path / "out", *TINY, "--epochs", 1, "--json")
    assert ended.code == 0
    assert "training on 21 images, scoring 3: one in 10 images, held out by seed 0\n" in ended.err
    assert "epoch 1 of 1: loss " in ended.err
    record = json.loads(ended.out)
    assert record == json.loads((tmp_path / "out" / "train.json").read_text())
    assert (record["class_names"], record["preprocess"]["resize"]) == (["cat", "dog"], 73)
    _, described = weights.load("efficientvit_m0", str(tmp_path / "out" / "model.safetensors"))
    assert described.class_names == ("cat", "dog")


def test_from_given_weights(edgevit: Edgevit, idx: Path, trained: Path, tmp_path: Path) -> None:
    start = trained / "model.safetensors"
    args = ("--data", idx, "--out", tmp_path / "out", "--weights", start, "--licence", "MIT", *TINY, "--epochs", 1)
    ended = edgevit("train", *args)
    assert ended.code == 0
    assert ended.out.startswith(f"{tmp_path / 'out' / 'model.safetensors'}: top-1 ")
    _, record = tensors_and_record(tmp_path / "out")
    _, before = tensors_and_record(trained)
    assert isinstance(record["start"], dict)
    assert (record["start"]["source"], record["start"]["licence"]) == ("model.safetensors", "CC0-1.0")
    assert "--weights model.safetensors" in str(record["command"])
    assert record["epochs"][0]["loss"] < before["epochs"][0]["loss"]  # type: ignore[index]


@contextmanager
def training(*args: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "edgevit", "train", *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_and_resumed(
    signum: signal.Signals, edgevit: Edgevit, idx: Path, trained: Path, tmp_path: Path
) -> None:
    args = ("--data", idx, "--out", tmp_path / "out", "--licence", "CC0-1.0", *TINY)
    with training(*args) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("epoch 1 of 2") for line in lines)
        process.send_signal(signum)
        assert process.stderr.read() == (
            f"edgevit: interrupted: {tmp_path / 'out'} keeps every finished epoch, go on with --resume\n"
        )
        assert process.wait() == 130
    assert [path.name for path in (tmp_path / "out").iterdir()] == [CHECKPOINT]
    ended = edgevit("train", *args, "--resume")
    assert ended.code == 0
    assert "epoch 1 of 2" not in ended.err
    assert tensors_and_record(tmp_path / "out") == tensors_and_record(trained)


def test_a_finished_training_is_shipped_again(edgevit: Edgevit, idx: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / CHECKPOINT).write_bytes((trained / CHECKPOINT).read_bytes())
    ended = edgevit("train", "--data", idx, "--out", out, *TINY, "--licence", "CC0-1.0", "--resume")
    assert ended.code == 0
    assert "epoch" not in ended.err
    assert tensors_and_record(out) == tensors_and_record(trained)


def test_an_out_folder_that_is_not_new(edgevit: Edgevit, idx: Path, trained: Path, tmp_path: Path) -> None:
    message = refused(edgevit, trained, "--data", idx, *TINY)
    assert (
        message == f"edgevit: {trained} is not empty: choose another --out, or go on with what is there with --resume\n"
    )
    (tmp_path / "file").touch()
    assert "is not a folder: choose another --out" in refused(edgevit, tmp_path / "file", "--data", idx, *TINY)
    assert "file is not a folder" in refused(edgevit, tmp_path / "file" / "out", "--data", idx, *TINY)
    message = refused(edgevit, tmp_path / "none", "--data", idx, *TINY, "--resume")
    assert f"there is no {CHECKPOINT} in {tmp_path / 'none'} to go on from: leave --resume away" in message


def test_resuming_something_else(edgevit: Edgevit, idx: Path, trained: Path, tmp_path: Path) -> None:
    args = ("--data", idx, *TINY, "--resume")
    assert "written with another lr: " in refused(edgevit, trained, *args, "--lr", 0.5)
    assert "written with another epochs: " in refused(edgevit, trained, *args, "--epochs", 3)
    assert "written with another model, preprocess: " in refused(edgevit, trained, *args, "--image-size", 96)
    assert "written with another model: " in refused(edgevit, trained, *args, "--model", "efficientvit_m1")
    assert "written with another model: " in refused(
        edgevit, trained, *args, "--weights", trained / "model.safetensors"
    )
    assert "written with another model, seed: " in refused(edgevit, trained, *args, "--seed", 1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "vit"], "there is no model 'vit': take"),
        (["--image-size", 65], "image size 65 does not fit EfficientViT: take a multiple of 32"),
        (["--epochs", 0], "'--epochs': 0 is not in the range"),
        (["--batch", 1], "'--batch': 1 is not in the range"),
        (["--lr", 0], "'--lr': 0.0 is not in the range"),
        (["--batch", 13], "40 training images in batches of 13 leave a batch of one image"),
        (["--lr", 1e30], "lower --lr"),
        (["--weights", "none.pth"], "there is no weights file none.pth"),
        (["--data", "none"], "there is no data folder none"),
        (["--data", "bundled"], "the bundled images are for calibrating and scoring"),
    ],
)
def test_wrong_input(args: list[object], message: str, edgevit: Edgevit, idx: Path, tmp_path: Path) -> None:
    assert message in edgevit("train", "--data", idx, "--out", tmp_path / "out", *TINY, *args).err
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_an_unusable_image(edgevit: Edgevit, tmp_path: Path) -> None:
    data = write_folders(tmp_path / "data", cat=3, dog=3)
    (data / "cat" / "bad.png").write_bytes(b"")
    assert "cat/bad.png is empty" in refused(edgevit, tmp_path / "out", "--data", data, *TINY)
