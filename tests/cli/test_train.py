"""``edgevit train``: what it writes, how it goes on after an interruption, what it refuses before it starts."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from edgevit.models import fitting, weights
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


# With a teacher


def test_with_a_teacher_in_bfloat16(edgevit: Edgevit, idx: Path, trained: Path, tmp_path: Path) -> None:
    teacher = ("--teacher", "efficientvit_m0", "--teacher-weights", trained / "model.safetensors")
    ended = edgevit("train", "--data", idx, "--out", tmp_path / "out", *TINY, *teacher, "--bf16", "--epochs", 1)
    assert ended.code == 0
    _, record = tensors_and_record(tmp_path / "out")
    digest = json.loads((trained / "train.json").read_text())["sha256"]
    assert record["teacher"] == {"model": "efficientvit_m0", "source": "model.safetensors", "sha256": digest}
    assert "--teacher efficientvit_m0 --teacher-weights model.safetensors" in str(record["command"])
    assert str(record["command"]).endswith("--bf16")
    _, alone = tensors_and_record(trained)
    assert record["epochs"][0]["loss"] != alone["epochs"][0]["loss"]  # type: ignore[index]


def test_a_teacher_that_cannot_teach(edgevit: Edgevit, idx: Path, trained: Path, tmp_path: Path) -> None:
    other = {"model": "efficientvit_m0", "image_size": "64"}
    model, described = weights.load("efficientvit_m0", str(trained / "model.safetensors"))
    grey = asdict(replace(described.preprocess, mean=(0.5, 0.5, 0.5)))
    weights.save(tmp_path / "grey.safetensors", model, other | {"preprocess": json.dumps(grey)})
    args = ("--data", idx, *TINY)
    assert refused(edgevit, tmp_path / "out", *args, "--teacher", "efficientvit_m0") == (
        "edgevit: the teacher efficientvit_m0 tells 10 classes apart, and the images have 4: take one that was trained "
        "on them\n"
    )
    message = refused(edgevit, tmp_path / "out", *args, "--teacher-weights", trained / "model.safetensors")
    assert message == "edgevit: --teacher-weights needs the name of the teacher: add --teacher MODEL\n"
    named = ("--teacher", "efficientvit_m0", "--teacher-weights", tmp_path / "grey.safetensors")
    assert "images normalised in another way" in refused(edgevit, tmp_path / "out", *args, *named)
    assert "there is no model 'vit'" in refused(edgevit, tmp_path / "out", *args, "--teacher", "vit")
    assert "no weights for sepvit_tiny are bundled" in refused(
        edgevit, tmp_path / "out", *args, "--teacher", "sepvit_tiny"
    )


# Models that prune

PRUNED = ("--model", "dynamicvit_deit_tiny")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain DeiT-Tiny of four classes, as a file."""
    model = fitting.seeded("dynamicvit_deit_tiny", 64, 4, 0, keep_ratio=1)
    path = tmp_path_factory.mktemp("backbone") / "deit.safetensors"
    weights.save(path, model, {"licence": "CC0-1.0"})
    return path


def test_only_the_predictors(edgevit: Edgevit, idx: Path, backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = (*PRUNED, "--weights", backbone, "--data", idx, "--keep-ratio", 0.5, "--only", "predictors", *TINY)
    ended = edgevit("train", *args, "--out", out, "--licence", "CC0-1.0")
    assert ended.code == 0
    assert sorted(path.name for path in out.iterdir()) == [CHECKPOINT, "predictors.safetensors", "train.json"]
    record = json.loads((out / "train.json").read_text())
    assert record["command"] == (
        "edgevit train --data bands --model dynamicvit_deit_tiny --weights deit.safetensors --image-size 64 --epochs 2 "
        "--batch 16 --lr 0.001 --keep-ratio 0.5 --only predictors --seed 0 --threads 1"
    )
    low, high = record["drop_ci95"]
    assert record["drop_points"] == pytest.approx(record["top1_unpruned"] - record["top1"])
    assert low <= record["drop_points"] <= high
    assert ended.out == (
        f"{out / 'predictors.safetensors'}: top-1 {record['top1']:.2f} % with keep ratio 0.5, "
        f"{record['top1_unpruned']:.2f} % unpruned: {record['drop_points']:.2f} points less "
        f"(95 % interval {low:.2f} to {high:.2f}) on 20 images\n"
    )
    with safe_open(out / "predictors.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["model"], metadata["keep_ratio"], metadata["licence"]) == (record["model"], "0.5", "CC0-1.0")
    assert metadata["backbone_sha256"] == record["start"]["sha256"]
    data = ("--data", idx, "--model", "dynamicvit_deit_tiny", "--weights", backbone, "--keep-ratio", 0.5)
    scored = edgevit("eval", *data, "--predictors", out / "predictors.safetensors", "--json")
    assert scored.code == 0
    assert json.loads(scored.out)["top1"] == pytest.approx(record["top1"])
    again = edgevit("train", *args, "--out", out, "--licence", "CC0-1.0", "--resume")
    assert (again.code, again.out) == (0, ended.out)
    assert "written with another lr" in refused(edgevit, out, *args, "--resume", "--lr", 0.5)


def test_a_model_that_prunes_with_its_backbone(edgevit: Edgevit, idx: Path, backbone: Path, tmp_path: Path) -> None:
    args = (*PRUNED, "--data", idx, *TINY, "--epochs", 1)
    assert edgevit("train", *args, "--weights", backbone, "--out", tmp_path / "one").code == 0
    record = json.loads((tmp_path / "one" / "train.json").read_text())
    assert (record["keep_ratio"], record["only"], record["epochs"][0]["epoch"]) == (0.7, None, 0)
    shipped = tmp_path / "one" / "model.safetensors"
    model, _ = weights.load("dynamicvit_deit_tiny", str(shipped))
    assert model.keep_ratio == 0.7
    again = edgevit("train", *args, "--weights", shipped, "--only", "predictors", "--out", tmp_path / "two")
    assert again.code == 0  # from the predictors that it has


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only", "predictors"], "efficientvit_m0 has no token predictors to train: name one of the dynamicvit"),
        (["--keep-ratio", 0.5], "efficientvit_m0 prunes no tokens: leave --keep-ratio away"),
        ([*PRUNED], "dynamicvit_deit_tiny learns to prune from its own backbone: add --weights"),
        ([*PRUNED, "--only", "predictors"], "learns to prune from its own backbone: add --weights"),
        ([*PRUNED, "--only", "predictors", "--keep-ratio", 1], "and a --keep-ratio below 1"),
        (
            [*PRUNED, "--weights", "BACKBONE", "--keep-ratio", 0.55],
            "keep ratio 0.55 does not fit DynamicViT: take 0.5,",
        ),
        ([*PRUNED, "--weights", "BACKBONE", "--teacher", "efficientvit_m0"], "has itself, unpruned, as its teacher"),
        (["--only", "heads"], "'heads' is not 'predictors'"),
        (
            [*PRUNED, "--weights", "random", "--only", "predictors"],
            "learns to prune from its own backbone: add --weights",
        ),
    ],
)
def test_wrong_input_to_pruning(
    args: list[object], message: str, edgevit: Edgevit, idx: Path, backbone: Path, tmp_path: Path
) -> None:
    given = [backbone if arg == "BACKBONE" else arg for arg in args]
    ended = edgevit("train", "--data", idx, "--out", tmp_path / "out", *TINY, *given)
    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()


def test_a_label_that_the_backbone_does_not_know(edgevit: Edgevit, backbone: Path, tmp_path: Path) -> None:
    data = write_folders(tmp_path / "data", **{str(name): 4 for name in range(5)})
    (data / "labels.csv").write_text(
        "file,label\n" + "".join(f"{path.relative_to(data)},{path.parent.name}\n" for path in data.rglob("*.png"))
    )
    args = (*PRUNED, "--weights", backbone, "--only", "predictors", "--data", data, *TINY)
    assert "has the label 4, but the model has 4 classes" in refused(edgevit, tmp_path / "out", *args)


def test_the_backbones_own_unpruned_training(edgevit: Edgevit, idx: Path, tmp_path: Path) -> None:
    args = ("--keep-ratio", 1, "--data", idx, "--out", tmp_path / "out", *TINY, "--epochs", 1)
    assert edgevit("train", *PRUNED, *args).code == 0
    _, described = weights.load("dynamicvit_deit_tiny", str(tmp_path / "out" / "model.safetensors"))
    assert described.notes == ()
