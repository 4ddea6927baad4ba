"""Training from scratch or from given weights: AdamW, cosine, label smoothing, crops and flips, EMA, a teacher.

The recipe is EfficientViT's (arXiv 2305.07027, section 4.1) cut down to what one CPU does in an hour. One seed gives
one result on one machine with one number of threads, interrupted or not: every random choice is a function of the
seed, the epoch and the image.
"""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.images import INTERPOLATIONS, ImageSet, Preprocess, printable
from edgevit.metrics import Z95
from edgevit.models import weights
from edgevit.models.fitting import PREDICTOR
from edgevit.selection import check_labels

CHECKPOINT = "checkpoint.safetensors"
HELD_OUT = 10  # one image in so many of a set without splits
BATCH = 50  # images scored at once
BACKBONE_SHARE = 0.01  # of the learning rate, beside token predictors (arXiv 2106.02034, section 4.1)

Advance = Callable[[int], None]  # told how many images are done since it was last called


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training result, given the model and the images."""

    epochs: int = 4
    batch: int = 64
    lr: float = 1e-3  # at its peak, after the warm-up
    weight_decay: float = 0.025
    warmup_steps: int = 200
    smoothing: float = 0.1
    ema: float = 0.998
    crop_area: float = 0.75  # the smallest part of the image that a crop may keep
    distillation: float = 0.5  # weight of the divergence from the teacher's answers, where there is a teacher
    bf16: bool = False  # products in bfloat16; weights, norms, losses and the optimiser stay float32
    seed: int = 0


@dataclass(frozen=True)
class Data:
    """Labelled images to train on, and others to score."""

    train: ImageSet
    test: ImageSet
    scored_on: str  # which images ``test`` is, in words
    classes: int
    preprocess: Preprocess  # of scoring; training crops at random


@dataclass(frozen=True)
class Step:
    """Progress after one optimiser step."""

    epoch: int
    step: int
    steps: int  # in an epoch
    loss: float


@dataclass(frozen=True)
class Epoch:
    """Progress after one epoch, counted from 0; ``top1`` is the averaged model's on the test images, in percent."""

    epoch: int
    loss: float
    top1: float


class Objective(Protocol):
    """What a training lowers."""

    def __call__(self, model: nn.Module, x: Tensor, labels: Tensor, step: int) -> Tensor:
        """The loss on ``x`` [B, 3, S, S] and ``labels`` [B]; what it draws at random is decided by ``step``."""
        ...

    def setting(self) -> dict[str, object]:
        """What decides the result, beside the recipe: equal in the trainings that one checkpoint serves."""
        ...


@dataclass(frozen=True)
class Score:
    """How many of ``images`` a model got right."""

    images: int
    correct: int

    @property
    def top1(self) -> float:
        """In percent."""
        return 100 * self.correct / self.images

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson's score interval for ``top1``, 95 %, in percent.

        E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927) 209-212.
        """
        n, p = self.images, self.correct / self.images
        centre = p + Z95**2 / (2 * n)
        half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
        low, high = ((centre + side * half) / (1 + Z95**2 / n) for side in (-1, 1))
        return 100 * max(0.0, low), 100 * min(1.0, high)


def prepare(images: ImageSet, recipe: Recipe, image_size: int, classes: int | None = None) -> Data:
    """Divide labelled ``images``: a set without splits is scored on a seeded tenth of itself.

    ``classes`` is how many the model is bound to know; None takes the images' own. Raises InputError if there is
    nothing to train on or to score, or a label that is none of the classes.
    """
    shown, labels = printable(images.source), images.labels()
    if labels is None:
        raise InputError(
            f"the images in {shown} have no labels: put them into class folders or list them in labels.csv"
        )
    if images.splits and "train" not in images.splits:
        raise InputError(f"the {shown} images are for calibrating and scoring: give --data a folder to train on")
    train, test, scored_on = parts(images, recipe.seed)
    if len(train) % recipe.batch == 1 or recipe.batch == 1:
        raise InputError(
            f"{len(train):,} training images in batches of {recipe.batch} leave a batch of one image, which has no "
            f"statistics: choose another --batch"
        )
    if classes is not None:
        check_labels(images, classes)
    else:
        classes = len(images.classes) if images.classes else int(labels.max()) + 1
        if not 2 <= classes <= len(images):
            raise InputError(
                f"{shown} has {len(images):,} images of {classes:,} classes: number the classes from 0, 2 or more"
            )
    preprocess = Preprocess(image_size, image_size) if images.uncropped else Preprocess.imagenet(image_size)
    return Data(train, test, scored_on, classes, preprocess)


def parts(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet, str]:
    """The images to train on, those to score, and which the latter are. Raises InputError if there are too few."""
    if images.splits:
        return images.split("train"), images.split("test"), "the test split"
    held = math.ceil(len(images) / HELD_OUT)
    if held == len(images):
        raise InputError(f"{printable(images.source)} holds one image: training takes more")
    order = np.random.default_rng(seed).permutation(len(images))
    scored_on = f"one in {HELD_OUT} images, held out by seed {seed}"
    return images.take(np.sort(order[held:])), images.take(np.sort(order[:held])), scored_on


def check(images: ImageSet, advance: Advance) -> str:
    """Decode every image; returns the SHA-256 over their digests and labels.

    Raises BadImageError for an unusable one.
    """
    digest = hashlib.sha256()
    for item in images.items:
        digest.update(f"{item.check()} {item.label}\n".encode())
        advance(1)
    return digest.hexdigest()


def train(
    model: nn.Module,
    recipe: Recipe,
    data: Data,
    sha256: str,
    out: Path,
    report: Callable[[Step | Epoch], None],
    objective: Objective,
) -> tuple[nn.Module, list[Epoch]]:
    """Train what is not frozen of ``model``, in place; returns the averaged (EMA) model, and what each epoch came to.

    ``sha256`` is that of the images to train on, as ``check`` returns it. After every epoch the whole state goes to
    ``out / CHECKPOINT``; if that file is there, training goes on from it. An epoch whose scoring was interrupted is
    not in the list. Raises InputError if the checkpoint is of another training, or the training diverges.
    """
    setting = {
        "images": sha256,
        "preprocess": asdict(data.preprocess),
        "model": sha256_of_state(model),
        **objective.setting(),
    }
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = State(model, recipe, math.ceil(len(data.train) / recipe.batch), setting, objective)
    path = out / CHECKPOINT
    if path.exists():
        state.resume(path)
    else:
        state.save(path)  # finds out now, not in an hour, whether it can be written
    for epoch in range(state.epoch, recipe.epochs):
        losses = []
        for step, (x, labels) in enumerate(augmented_batches(data.train, recipe, data.preprocess, epoch)):
            losses.append(state.step(x, labels))
            report(Step(epoch, step, state.steps_per_epoch, losses[-1]))
        state.save(path)  # before scoring, which takes a while
        top1 = score(state.average, data.test, data.preprocess).top1
        state.history.append(Epoch(epoch, float(np.mean(losses)), top1))
        state.save(path)
        report(state.history[-1])
    return state.average, state.history


def ship(
    model: nn.Module, data: Data, path: Path, metadata: Mapping[str, str], advance: Advance = lambda count: None
) -> Score:
    """Write ``model`` as float16 to ``path``, with what those rounded weights score as ``top1`` in its metadata."""
    shipped = rounded(model)
    result = score(shipped, data.test, data.preprocess, advance)
    weights.save(path, shipped, {**metadata, "top1": f"{result.top1:.2f}"})
    return result


def rounded(model: nn.Module) -> nn.Module:
    """A copy with the float16 weights that are shipped."""
    copied: nn.Module = copy.deepcopy(model).half().float().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return copied


class State:
    """The model being trained, its running average and its optimiser: all that a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        steps_per_epoch: int,
        setting: Mapping[str, object],
        objective: Objective,
    ) -> None:
        self.model, self.recipe, self.steps_per_epoch, self.setting = model, recipe, steps_per_epoch, setting
        self.objective = objective
        self.average = copy.deepcopy(model).eval()
        self.optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay), lr=recipe.lr)
        self.steps = 0
        self.history: list[Epoch] = []

    @property
    def epoch(self) -> int:
        return self.steps // self.steps_per_epoch

    def step(self, x: Tensor, labels: Tensor) -> float:
        """One optimiser step on ``x`` [B, 3, S, S] and ``labels`` [B]; returns the loss before it.

        Raises InputError if that is not finite.
        """
        training_mode(self.model)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["share"]
        loss = self.objective(self.model, x, labels, self.steps)
        if not loss.isfinite():
            raise InputError(f"the loss is {loss.item()} after {self.steps:,} steps: train with a lower --lr")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.steps += 1
        self.update_average()
        return loss.item()

    def learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to 1 % of the peak."""
        recipe, total = self.recipe, self.recipe.epochs * self.steps_per_epoch
        warmup = min(recipe.warmup_steps, total // 10)
        if self.steps < warmup:
            return recipe.lr * (self.steps + 1) / warmup
        cosine = 0.5 + 0.5 * math.cos(math.pi * (self.steps - warmup) / (total - warmup))
        return recipe.lr * (0.01 + 0.99 * cosine)

    @torch.no_grad()
    def update_average(self) -> None:
        """The average follows faster in the first steps, when the weights it starts from mean little."""
        decay = min(self.recipe.ema, (1 + self.steps) / (10 + self.steps))
        averages = self.average.state_dict()
        for key, value in self.model.state_dict().items():
            if value.is_floating_point():
                averages[key].lerp_(value, 1 - decay)
            else:
                averages[key].copy_(value)

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average/{k}": v for k, v in self.average.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{k}": v for k, v in values.items()}
        contiguous = {key: value.contiguous() for key, value in tensors.items()}
        history = json.dumps([asdict(epoch) for epoch in self.history])
        partial = path.with_suffix(".partial")
        try:
            partial.write_bytes(
                save(contiguous, {"recipe": self.identity(), "steps": str(self.steps), "history": history})
            )
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def resume(self, path: Path) -> None:
        """Take up the checkpoint at ``path``. Raises InputError if it is damaged or of another training."""
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            recorded, mine = json.loads(metadata["recipe"]), json.loads(self.identity())
            self.steps = int(metadata["steps"])
            self.history = [Epoch(**epoch) for epoch in json.loads(metadata["history"])]
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}): train into another --out") from None
        differing = [key for key in mine if recorded.get(key) != mine[key]]
        if differing:
            what = ", ".join(differing)
            raise InputError(
                f"{path} was written with another {what}: give the same again, or train into another --out"
            )
        self.model.load_state_dict(without_prefix(tensors, "model/"))
        self.average.load_state_dict(without_prefix(tensors, "average/"))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in without_prefix(tensors, "optimizer/").items():
            index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def identity(self) -> str:
        """What must be equal for a checkpoint to be gone on from, as JSON."""
        what = asdict(self.recipe) | {"steps_per_epoch": self.steps_per_epoch, **self.setting}
        return json.dumps(what, sort_keys=True)


@dataclass(frozen=True)
class Classification:
    """Cross-entropy with the labels, and the divergence from what a teacher answers, if there is one.

    The teacher sees the same crops, at its own size, and has the same classes.
    """

    recipe: Recipe
    teacher: nn.Module | None = None  # in evaluation mode

    def __call__(self, model: nn.Module, x: Tensor, labels: Tensor, step: int) -> Tensor:
        with products(self.recipe, x):
            logits = model(x).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.smoothing)
            if self.teacher is not None:
                loss = loss + self.recipe.distillation * divergence(answers(self.teacher, x), logits)
        return loss

    def setting(self) -> dict[str, object]:
        return {"teacher": None if self.teacher is None else sha256_of_state(self.teacher)}


def products(recipe: Recipe, x: Tensor) -> torch.autocast:
    """A context in which products are computed as the recipe says."""
    return torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.bf16)


def training_mode(model: nn.Module) -> None:
    """Training mode, but for frozen layers: a norm among them keeps its statistics."""
    model.train()
    for layer in model.modules():
        own = list(layer.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            layer.training = False


@torch.no_grad()
def answers(teacher: nn.Module, x: Tensor) -> Tensor:
    """The teacher's logits on ``x``, which is brought to its own size."""
    size = cast(int, teacher.image_size)
    logits: Tensor = teacher(x if x.shape[-1] == size else F.interpolate(x, (size, size), mode="bilinear"))
    return logits.float()


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Kullback-Leibler of two sets of logits ``[B, classes]``, the mean over images.

    Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, at temperature 1.
    """
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True)


def sha256_of_state(model: nn.Module) -> str:
    """Over the names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """What is trained. Norms, biases and attention bias tables are not decayed (arXiv 2305.07027, the authors' code).

    Beside token predictors a backbone takes a ``share`` of the learning rate.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    pruned = any(name.startswith(PREDICTOR) for name, _ in named)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        decayed = parameter.ndim > 1 and not name.endswith("attention_biases")
        share = BACKBONE_SHARE if pruned and not name.startswith(PREDICTOR) else 1.0
        groups.setdefault((decayed, share), []).append(parameter)
    return [
        {"params": groups[decayed, share], "weight_decay": weight_decay * decayed, "share": share}
        for decayed, share in sorted(groups, reverse=True)
    ]


def augment(
    image: Image.Image, preprocess: Preprocess, area: float, random: np.random.Generator
) -> NDArray[np.float32]:
    """A random square crop that keeps at least ``area`` of the image, flipped half the time. ``[3, S, S]``."""
    side = min(image.size) * math.sqrt(random.uniform(area, 1))
    left, top = random.uniform(0, image.width - side), random.uniform(0, image.height - side)
    size = (preprocess.crop, preprocess.crop)
    box = (left, top, left + side, top + side)
    crop = image.resize(size, INTERPOLATIONS[preprocess.interpolation], box=box)
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return preprocess.normalise(crop)


def augmented_batches(
    images: ImageSet, recipe: Recipe, preprocess: Preprocess, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches of one epoch, ``[B, 3, S, S]`` and ``[B]``, each made while the one before is trained on."""
    labels = images.labels()
    assert labels is not None
    batches = shuffled_batches(len(images), recipe.batch, [recipe.seed, epoch])
    for (chosen, _), x in zip(batches, crops(images, batches, preprocess, recipe.crop_area), strict=True):
        yield x, torch.from_numpy(labels[chosen])


Shuffled = list[tuple[NDArray[np.int64], NDArray[np.int64]]]  # of each batch, which images and a seed for each


def shuffled_batches(count: int, batch: int, seed: Sequence[int]) -> Shuffled:
    """``count`` images in a random order, ``batch`` at a time; the last may be fewer."""
    random = np.random.default_rng(seed)
    order = random.permutation(count)
    seeds = random.integers(2**63, size=count)
    return [(order[start : start + batch], seeds[order[start : start + batch]]) for start in range(0, count, batch)]


def crops(images: ImageSet, batches: Shuffled, preprocess: Preprocess, area: float) -> Iterator[Tensor]:
    """``[B, 3, S, S]`` each, augmented, made while the one before is used."""

    def make(chosen: NDArray[np.int64], seeds: NDArray[np.int64]) -> Tensor:
        pixels = [
            augment(images.items[i].image(), preprocess, area, np.random.default_rng(seed))
            for i, seed in zip(chosen, seeds, strict=True)
        ]
        return torch.from_numpy(np.stack(pixels)).contiguous(memory_format=torch.channels_last)

    with ThreadPoolExecutor(1) as pool:
        pending = None
        for batch in batches:
            following = pool.submit(make, *batch)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()


@torch.no_grad()
def predict(
    model: nn.Module, images: ImageSet, preprocess: Preprocess, advance: Advance = lambda count: None
) -> NDArray[np.float32]:
    """``[len(images), classes]`` logits in evaluation mode."""
    model.eval()
    logits = []
    for x in images.batches(preprocess, BATCH):
        logits.append(model(torch.from_numpy(x)).numpy())
        advance(len(x))
    return np.concatenate(logits)


def score(model: nn.Module, images: ImageSet, preprocess: Preprocess, advance: Advance = lambda count: None) -> Score:
    """Of labelled images, how many ``model`` gives their label. Raises InputError if its logits are not finite."""
    logits = predict(model, images, preprocess, advance)
    if not np.isfinite(logits).all():
        raise InputError("the model's logits are NaN or infinite: take other weights")
    return Score(len(images), int((logits.argmax(1) == images.labels()).sum()))
