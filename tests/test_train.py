"""Training: what is trained on and scored, one result for one seed, interrupted or not, and what is shipped."""

import copy
import gzip
import json
import math
import shutil
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.images import BadImageError, ImageSet, Preprocess, open_images
from edgevit.models import fitting, weights
from edgevit.train import (
    CHECKPOINT,
    Classification,
    Data,
    Epoch,
    Recipe,
    Score,
    State,
    Step,
    check,
    divergence,
    parameter_groups,
    parts,
    prepare,
    score,
    ship,
    train,
    training_mode,
)

M0, SIZE, CLASSES = "efficientvit_m0", 64, 4
RECIPE = Recipe(epochs=2, batch=16)
Report = Callable[[Step | Epoch], None]
Finished = tuple[Path, dict[str, Tensor], list[Epoch]]


def write_idx(folder: Path, train: int = 40, test: int = 20) -> Path:
    """An IDX set of noise in which a bright band of rows tells the class."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % CLASSES).astype(np.uint8)
        pixels = random.integers(0, 64, (count, 28, 28), np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            image[7 * label : 7 * label + 7] = 220
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return folder


def write_folders(folder: Path, **counts: int) -> Path:
    """Class folders of so many images each."""
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(random.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / name / f"{i:03}.png")
    return folder


def model() -> nn.Module:
    return fitting.seeded(M0, SIZE, CLASSES, seed=0)


def silent(event: Step | Epoch) -> None:
    pass


def ignore(count: int) -> None:
    pass


def stop_at(epoch: int, step: int) -> Report:
    def report(event: Step | Epoch) -> None:
        if isinstance(event, Step) and (event.epoch, event.step) == (epoch, step):
            raise KeyboardInterrupt

    return report


def run(
    data: Data,
    out: Path,
    recipe: Recipe = RECIPE,
    report: Report = silent,
    network: nn.Module | None = None,
    teacher: nn.Module | None = None,
) -> tuple[dict[str, Tensor], list[Epoch]]:
    torch.set_num_threads(1)
    network = model() if network is None else network
    average, history = train(
        network, recipe, data, check(data.train, ignore), out, report, Classification(recipe, teacher)
    )
    return dict(average.state_dict()), history


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return prepare(open_images(write_idx(tmp_path_factory.mktemp("data") / "idx")), RECIPE, SIZE)


@pytest.fixture(scope="module")
def finished(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """An uninterrupted training: its folder, its averaged state, its history."""
    out = tmp_path_factory.mktemp("finished")
    return out, *run(data, out)


# What is trained on and what is scored


def test_splits_are_kept(tmp_path: Path) -> None:
    data = prepare(open_images(write_idx(tmp_path / "idx")), RECIPE, SIZE)
    assert [item.name for item in data.train.items] == [f"train/{i}" for i in range(40)]
    assert [item.name for item in data.test.items] == [f"test/{i}" for i in range(20)]
    assert (data.scored_on, data.classes, data.preprocess) == ("the test split", CLASSES, Preprocess(SIZE, SIZE))


def test_a_tenth_is_held_out_of_a_set_without_splits(tmp_path: Path) -> None:
    images = open_images(write_folders(tmp_path, cat=20, dog=21))
    data = prepare(images, RECIPE, SIZE)
    held, kept = ({item.name for item in part.items} for part in (data.test, data.train))
    assert (len(held), len(kept)) == (5, 36)
    assert held | kept == {item.name for item in images.items}
    assert (data.classes, data.preprocess) == (2, Preprocess.imagenet(SIZE))
    assert data.scored_on == "one in 10 images, held out by seed 0"


def test_what_is_held_out_depends_on_the_seed_alone(tmp_path: Path) -> None:
    images = open_images(write_folders(tmp_path, cat=20, dog=21))
    held = [[item.name for item in parts(images, seed)[1].items] for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_images_that_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="have no labels: put them into class folders"):
        prepare(open_images(write_folders(tmp_path, loose=3) / "loose"), RECIPE, SIZE)
    with pytest.raises(InputError, match="the bundled images are for calibrating and scoring"):
        prepare(open_images("bundled"), RECIPE, SIZE)
    with pytest.raises(InputError, match="holds one image"):
        prepare(open_images(write_folders(tmp_path / "one", cat=1)), RECIPE, SIZE)
    with pytest.raises(InputError, match="20 images of 1 classes: number the classes from 0, 2 or more"):
        prepare(open_images(write_folders(tmp_path / "cats", cat=20)), RECIPE, SIZE)
    with pytest.raises(InputError, match="20 images of 1,000 classes"):
        prepare(open_images(write_folders(tmp_path / "gap", **{"0": 10, "999": 10})), RECIPE, SIZE)


def test_no_batch_of_one_image(tmp_path: Path) -> None:
    images = open_images(write_idx(tmp_path / "idx", train=33))
    with pytest.raises(InputError, match="33 training images in batches of 16 leave a batch of one"):
        prepare(images, RECIPE, SIZE)
    assert len(prepare(images, replace(RECIPE, batch=15), SIZE).train) == 33


def test_check_decodes_every_image_and_depends_on_content_and_label(tmp_path: Path) -> None:
    images = open_images(write_folders(tmp_path, cat=2, dog=2))
    counts: list[int] = []
    before = check(images, counts.append)
    assert sum(counts) == 4
    relabelled = ImageSet(images.source, [replace(item, label=1) for item in images.items])
    assert check(relabelled, ignore) != before
    (tmp_path / "dog" / "001.png").write_bytes((tmp_path / "cat" / "001.png").read_bytes())
    assert check(open_images(tmp_path), ignore) != before
    (tmp_path / "cat" / "001.png").write_bytes(b"no image")
    with pytest.raises(BadImageError, match=r"cat/001\.png"):
        check(open_images(tmp_path), ignore)


# One seed, one result


def assert_equal(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    assert not [key for key in expected if not torch.equal(state[key], expected[key])]


def test_training_lowers_the_loss(finished: Finished) -> None:
    _, _, history = finished
    assert [epoch.epoch for epoch in history] == [0, 1]
    assert history[1].loss < 0.7 * history[0].loss


def test_the_same_again(data: Data, finished: Finished, tmp_path: Path) -> None:
    state, history = run(data, tmp_path)
    assert history == finished[2]
    assert_equal(state, finished[1])


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 0), (1, 2)])
def test_interrupted_and_gone_on_with(epoch: int, step: int, data: Data, finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, report=stop_at(epoch, step))
    trained: list[tuple[int, int]] = []

    def report(event: Step | Epoch) -> None:
        if isinstance(event, Step):
            trained.append((event.epoch, event.step))

    state, history = run(data, tmp_path, report=report)
    assert trained[0] == (epoch, 0)
    assert history == finished[2]
    assert_equal(state, finished[1])
    assert_equal(load_file(tmp_path / CHECKPOINT), load_file(finished[0] / CHECKPOINT))


def test_a_finished_training_is_not_trained_again(data: Data, finished: Finished, tmp_path: Path) -> None:
    shutil.copy(finished[0] / CHECKPOINT, tmp_path)
    events: list[Step | Epoch] = []
    state, history = run(data, tmp_path, report=events.append)
    assert (events, history) == ([], finished[2])
    assert_equal(state, finished[1])


# Checkpoints that do not fit


@pytest.mark.parametrize(
    ("recipe", "differing"),
    [
        (replace(RECIPE, lr=1e-2), "lr"),
        (replace(RECIPE, epochs=3), "epochs"),
        (replace(RECIPE, batch=8), "batch, steps"),
    ],
)
def test_another_recipe(recipe: Recipe, differing: str, data: Data, finished: Finished) -> None:
    before = (finished[0] / CHECKPOINT).read_bytes()
    with pytest.raises(InputError, match=f"was written with another {differing}"):
        run(data, finished[0], recipe)
    assert (finished[0] / CHECKPOINT).read_bytes() == before


def test_other_images_preprocessing_or_starting_weights(data: Data, finished: Finished) -> None:
    relabelled = replace(data.train, items=[replace(item, label=0) for item in data.train.items])
    with pytest.raises(InputError, match="another images: "):
        run(replace(data, train=relabelled), finished[0])
    with pytest.raises(InputError, match="another preprocess: "):
        run(replace(data, preprocess=Preprocess(72, SIZE)), finished[0])
    with pytest.raises(InputError, match="another model: "):
        run(data, finished[0], network=fitting.seeded(M0, SIZE, CLASSES, seed=1))


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_a_damaged_checkpoint(content: bytes | None, data: Data, finished: Finished, tmp_path: Path) -> None:
    whole = (finished[0] / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(InputError, match=r"is damaged .*: train into another --out"):
        run(data, tmp_path)


def test_a_checkpoint_that_cannot_be_written_is_found_out_before_training(data: Data, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run(data, tmp_path / "missing", report=lambda event: pytest.fail("trained"))


def test_divergence(data: Data, tmp_path: Path) -> None:
    broken = model()
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    with pytest.raises(InputError, match="the loss is nan after 0 steps: train with a lower --lr"):
        run(data, tmp_path, network=broken)


def test_learning_rate() -> None:
    recipe = Recipe(epochs=10, lr=1.0, warmup_steps=20)
    state = State(nn.Linear(2, 2), recipe, 100, {}, Classification(recipe))
    rates = []
    for state.steps in range(1000):
        rates.append(state.learning_rate())
    assert rates[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert (rates[20], rates[510]) == pytest.approx((1.0, 0.01 + 0.99 * 0.5))
    assert rates[-1] == pytest.approx(0.01, abs=1e-4)


# What is learnt


class Fixed(nn.Module):
    """Gives everything the same logits, which are learnt; wants images of ``image_size``."""

    def __init__(self, *logits: float, image_size: int = SIZE) -> None:
        super().__init__()
        self.logits, self.image_size = nn.Parameter(torch.tensor(logits)), image_size
        self.seen: list[torch.Size] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.shape)
        return self.logits.expand(len(x), -1)


def test_the_loss_is_smoothed_cross_entropy_and_half_the_divergence_from_the_teacher() -> None:
    student, teacher = Fixed(1.0, 0.0), Fixed(0.0, 2.0, image_size=32)
    x, labels = torch.zeros(3, 3, SIZE, SIZE), torch.tensor([0, 0, 0])
    p, q = torch.tensor([1.0, 0.0]).softmax(0), torch.tensor([0.0, 2.0]).softmax(0)
    plain = -(0.95 * p[0].log() + 0.05 * p[1].log())
    taught = plain + 0.5 * (q * (q / p).log()).sum()
    recipe = Recipe(smoothing=0.1, distillation=0.5)
    assert Classification(recipe)(student, x, labels, 0).item() == pytest.approx(plain.item())
    loss = Classification(recipe, teacher)(student, x, labels, 0)
    assert loss.item() == pytest.approx(taught.item())
    assert teacher.seen == [torch.Size([3, 3, 32, 32])]  # the same crops at its own size
    loss.backward()
    assert teacher.logits.grad is None


def test_divergence_is_zero_from_itself_and_a_mean_over_images() -> None:
    a, b = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).split([2, 3])
    assert divergence(a, a).item() == pytest.approx(0, abs=1e-6)
    twice = divergence(torch.cat([b, b]), torch.cat([b.flip(0), b.flip(0)]))
    assert twice.item() == pytest.approx(divergence(b, b.flip(0)).item())


def test_another_teacher_is_another_training(data: Data, finished: Finished) -> None:
    with pytest.raises(InputError, match="another teacher: "):
        run(data, finished[0], teacher=model())


def test_bfloat16_products_train_alike_and_leave_weights_in_float32(data: Data, tmp_path: Path) -> None:
    losses = {}
    for bf16 in (False, True):
        (tmp_path / str(bf16)).mkdir()
        state, history = run(data, tmp_path / str(bf16), replace(RECIPE, epochs=1, bf16=bf16))
        losses[bf16] = history[0].loss
        assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}
    assert losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=0.05)


def test_what_is_frozen_is_not_trained_and_its_norms_keep_their_statistics() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    net[:2].requires_grad_(False)
    training_mode(net)
    assert [layer.training for layer in net] == [False, False, True, True, True]
    trained = [parameter for group in parameter_groups(net, 0.1) for parameter in group["params"]]  # type: ignore[attr-defined]
    assert {id(parameter) for parameter in trained} == {id(parameter) for parameter in net[2:].parameters()}


def test_norms_and_biases_are_not_decayed_and_a_pruned_backbone_learns_slowly() -> None:
    net = fitting.seeded("dynamicvit_deit_tiny", SIZE, CLASSES, 0)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = {
        (group["weight_decay"], group["share"]): [names[id(parameter)] for parameter in group["params"]]  # type: ignore[attr-defined]
        for group in parameter_groups(net, 0.1)
    }
    assert set(groups) == {(0.1, 1.0), (0.0, 1.0), (0.1, 0.01), (0.0, 0.01)}
    assert all(
        name.startswith("score_predictor.") == (share == 1) for (_, share), part in groups.items() for name in part
    )
    assert all(name.endswith("bias") or ".norm" in name or "in_conv.0" in name for name in groups[0.0, 1.0])
    assert "blocks.0.attn.qkv.weight" in groups[0.1, 0.01]
    assert sum(map(len, groups.values())) == len(names)


# Scoring and shipping


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    [(0, 10, 0.0, 27.7533), (10, 10, 72.2467, 100.0), (15, 148, 6.2382, 16.0521), (81, 263, 25.5273, 36.6216)],
)
def test_wilson_interval(correct: int, images: int, low: float, high: float) -> None:
    """The last two are Newcombe's examples (Stat. Med. 17 (1998) 857-872, table I, method 3)."""
    assert Score(images, correct).ci95 == pytest.approx((low, high), abs=6e-3)
    assert Score(images, correct).top1 == pytest.approx(100 * correct / images)


def test_score_counts_and_tells_of_each_batch(data: Data) -> None:
    class Brightest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            bands = x[:, 0, : SIZE // 28 * 28].mean(2)
            return torch.stack([bands[:, 16 * c + 4 : 16 * c + 12].mean(1) for c in range(CLASSES)], 1)

    counts: list[int] = []
    many = ImageSet("many", list(data.train.items) + list(data.test.items))
    assert score(Brightest(), many, data.preprocess, counts.append) == Score(60, 60)
    assert counts == [50, 10]
    wrong = ImageSet("wrong", [replace(many.items[0], label=3), *many.items[1:]])
    assert score(Brightest(), wrong, data.preprocess) == Score(60, 59)


def test_score_refuses_logits_that_are_not_finite(data: Data) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), CLASSES), math.inf)

    with pytest.raises(InputError, match="NaN or infinite"):
        score(Broken(), data.test, data.preprocess)


def test_what_is_shipped_is_what_was_scored(
    data: Data, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    average = model()
    average.load_state_dict(finished[1])
    before = copy.deepcopy(average.state_dict())
    scored: list[nn.Module] = []

    def recording(model: nn.Module, *rest: Any) -> Score:
        scored.append(model)
        return score(model, *rest)

    monkeypatch.setattr("edgevit.train.score", recording)
    metadata = {"model": M0, "image_size": str(SIZE), "preprocess": json.dumps(asdict(data.preprocess))}
    result = ship(average, data, tmp_path / "model.safetensors", metadata)
    loaded, described = weights.load(M0, str(tmp_path / "model.safetensors"))
    assert described.preprocess == data.preprocess
    assert result == score(loaded, data.test, described.preprocess)
    assert_equal(dict(loaded.state_dict()), dict(scored[0].state_dict()))
    for key, value in finished[1].items():
        assert torch.equal(loaded.state_dict()[key], value.half().float() if value.is_floating_point() else value)
    assert_equal(dict(average.state_dict()), before)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata()["top1"] == f"{result.top1:.2f}"
