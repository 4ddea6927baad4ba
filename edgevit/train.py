"""Training from scratch or from given weights: AdamW, cosine, label smoothing, crops and flips, EMA.

The recipe is EfficientViT's (arXiv 2305.07027, section 4.1) cut down to what one CPU does in an hour. One seed gives one result
on one machine, interrupted or not: every random choice is a function of the seed, the epoch and the image.
"""

import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.images import INTERPOLATIONS, ImageSet, Preprocess

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training result, given the model and the images."""

    epochs: int = 8
    batch: int = 64
    lr: float = 1e-3  # at its peak, after the warm-up
    weight_decay: float = 0.025
    warmup_steps: int = 200
    smoothing: float = 0.1
    ema: float = 0.998
    crop_area: float = 0.75  # the smallest part of the image that a crop may keep
    seed: int = 0


@dataclass(frozen=True)
class Step:
    """Progress after one optimiser step."""

    epoch: int
    step: int
    steps: int  # in an epoch
    loss: float


@dataclass(frozen=True)
class Epoch:
    """Progress after one epoch; ``top1`` is the averaged model's on the test images, in percent."""

    epoch: int
    loss: float
    top1: float


def train(
    model: nn.Module,
    recipe: Recipe,
    images: ImageSet,
    test: ImageSet,
    preprocess: Preprocess,
    out: Path,
    report: Callable[[Step | Epoch], None],
) -> tuple[nn.Module, float]:
    """Train ``model`` in place; returns the averaged (EMA) model and its top-1 on ``test`` in percent.

    After every epoch the whole state goes to ``out / CHECKPOINT``; if that file is there, training goes on from it.
    Raises InputError if it belongs to another recipe.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = State(model, recipe, steps_per_epoch=math.ceil(len(images) / recipe.batch))
    state.resume(out / CHECKPOINT)
    top1 = math.nan
    for epoch in range(state.epoch, recipe.epochs):
        losses = []
        for step, (x, labels) in enumerate(augmented_batches(images, recipe, preprocess, epoch)):
            losses.append(state.step(x, labels))
            report(Step(epoch, step, state.steps_per_epoch, losses[-1]))
        state.save(out / CHECKPOINT)
        top1 = accuracy(state.average, test, preprocess)
        report(Epoch(epoch, float(np.mean(losses)), top1))
    if math.isnan(top1):
        top1 = accuracy(state.average, test, preprocess)
    return state.average, top1


class State:
    """The model being trained, its running average and its optimiser: all that a checkpoint holds."""

    def __init__(self, model: nn.Module, recipe: Recipe, steps_per_epoch: int) -> None:
        self.model, self.recipe, self.steps_per_epoch = model, recipe, steps_per_epoch
        self.average = copy.deepcopy(model).eval()
        self.optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay), lr=recipe.lr)
        self.steps = 0

    @property
    def epoch(self) -> int:
        return self.steps // self.steps_per_epoch

    def step(self, x: Tensor, labels: Tensor) -> float:
        """One optimiser step on ``x`` [B, 3, S, S] and ``labels`` [B]; returns the loss before it."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        loss = F.cross_entropy(self.model(x), labels, label_smoothing=self.recipe.smoothing)
        self.optimizer.zero_grad()
        loss.backward()
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
        partial = path.with_suffix(".partial")
        contiguous = {key: value.contiguous() for key, value in tensors.items()}
        save_file(contiguous, partial, {"recipe": self.identity(), "steps": str(self.steps)})
        os.replace(partial, path)

    def resume(self, path: Path) -> None:
        """Take up the checkpoint at ``path`` if there is one. Raises InputError if it is another recipe's."""
        if not path.exists():
            return
        with safe_open(path, "pt") as file:
            if file.metadata()["recipe"] != self.identity():
                raise InputError(f"{path} was written by another recipe or data set: train into another --out")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            self.steps = int(file.metadata()["steps"])
        self.model.load_state_dict(without_prefix(tensors, "model/"))
        self.average.load_state_dict(without_prefix(tensors, "average/"))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in without_prefix(tensors, "optimizer/").items():
            index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def identity(self) -> str:
        """What must be equal for a checkpoint to be gone on from."""
        return json.dumps(asdict(self.recipe) | {"steps_per_epoch": self.steps_per_epoch}, sort_keys=True)


def without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Norms, biases and attention bias tables are not decayed (MODELS.md 1.2)."""
    named = list(model.named_parameters())
    decayed = [p for name, p in named if p.ndim > 1 and not name.endswith("attention_biases")]
    others = [p for name, p in named if p.ndim <= 1 or name.endswith("attention_biases")]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def augment(image: Image.Image, preprocess: Preprocess, area: float, random: np.random.Generator) -> NDArray[np.float32]:
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
    random = np.random.default_rng([recipe.seed, epoch])
    order = random.permutation(len(images))
    seeds = random.integers(2**63, size=len(images))
    labels = images.labels()
    assert labels is not None

    def make(start: int) -> tuple[Tensor, Tensor]:
        chosen = order[start : start + recipe.batch]
        pixels = [
            augment(images.items[i].image(), preprocess, recipe.crop_area, np.random.default_rng(seeds[i])) for i in chosen
        ]
        x = torch.from_numpy(np.stack(pixels)).contiguous(memory_format=torch.channels_last)
        return x, torch.from_numpy(labels[chosen])

    starts = range(0, len(images), recipe.batch)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(make, 0)
        for start in starts:
            batch = pending.result()
            if start + recipe.batch < len(images):
                pending = pool.submit(make, start + recipe.batch)
            yield batch


@torch.no_grad()
def predict(model: nn.Module, images: ImageSet, preprocess: Preprocess, batch: int = 50) -> NDArray[np.float32]:
    """``[len(images), classes]`` logits in evaluation mode."""
    model.eval()
    return np.concatenate([model(torch.from_numpy(x)).numpy() for x in images.batches(preprocess, batch)])


def accuracy(model: nn.Module, images: ImageSet, preprocess: Preprocess) -> float:
    """Top-1 of labelled images in percent."""
    return float((predict(model, images, preprocess).argmax(1) == images.labels()).mean() * 100)
