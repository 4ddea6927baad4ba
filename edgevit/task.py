"""What a training is asked for, made ready: the model, the images, and what it shall learn from them."""

from dataclasses import dataclass, replace
from typing import cast

from torch import nn

from edgevit.errors import InputError
from edgevit.images import ImageSet
from edgevit.models import fitting, registry, weights
from edgevit.models.download import Report
from edgevit.models.dynamicvit import UNPRUNED, DynamicViT
from edgevit.models.weights import Weights
from edgevit.predictors import EndToEnd, Saliency, freeze_backbone
from edgevit.train import Classification, Data, Objective, Recipe, prepare


@dataclass(frozen=True)
class Asked:
    """The options of a training, as on the command line."""

    model: str
    recipe: Recipe
    image_size: int
    weights: str | None = None
    keep_ratio: float | None = None
    only_predictors: bool = False
    teacher: str | None = None
    teacher_weights: str | None = None

    @property
    def kept(self) -> float | None:
        """The keep ratio of the model; None if it is of a kind that prunes no tokens."""
        usual = registry.entry(self.model).keep_ratio
        return usual if self.keep_ratio is None else self.keep_ratio

    @property
    def prunes(self) -> bool:
        return registry.entry(self.model).keep_ratio is not None and self.kept != UNPRUNED


@dataclass(frozen=True)
class Teacher:
    """A trained model whose answers are learnt beside the labels."""

    name: str
    model: nn.Module
    weights: Weights


@dataclass(frozen=True)
class Task:
    """``backbone`` is a model that prunes, itself, before training and keeping all its tokens."""

    model: nn.Module
    data: Data
    objective: Objective
    start: Weights | None = None  # None: fresh weights
    teacher: Teacher | None = None
    backbone: DynamicViT | None = None


def made_ready(asked: Asked, images: ImageSet, report: Report) -> Task:
    """Raises InputError for anything that does not fit together; ``report`` follows a download."""
    if asked.only_predictors and not asked.prunes:
        raise InputError(
            f"{asked.model} has no token predictors to train: name one of the dynamicvit models, and a --keep-ratio "
            "below 1"
        )
    return pruning(asked, images, report) if asked.prunes else classifying(asked, images, report)


def classifying(asked: Asked, images: ImageSet, report: Report) -> Task:
    """A model that learns the labels, and the answers of a teacher if there is one."""
    data = prepare(images, asked.recipe, asked.image_size)
    size, seed, start = asked.image_size, asked.recipe.seed, None
    if asked.weights is None:
        model = fitting.seeded(asked.model, size, data.classes, seed, asked.keep_ratio)
    else:
        model, start = weights.load(
            asked.model,
            asked.weights,
            image_size=size,
            classes=data.classes,
            keep_ratio=asked.keep_ratio,
            seed=seed,
            report=report,
        )
    teacher = teacher_for(asked, data, report)
    objective = Classification(asked.recipe, teacher.model if teacher else None)
    return Task(model, data, objective, start, teacher)


def teacher_for(asked: Asked, data: Data, report: Report) -> Teacher | None:
    """The teacher, if one is named. Raises InputError unless it knows the classes and sees images as the model does."""
    if asked.teacher is None:
        if asked.teacher_weights is not None:
            raise InputError("--teacher-weights needs the name of the teacher: add --teacher MODEL")
        return None
    model, described = weights.load(asked.teacher, asked.teacher_weights or "bundled", report=report)
    if model.classes != data.classes:
        raise InputError(
            f"the teacher {asked.teacher} tells {model.classes} classes apart, and the images have {data.classes}: "
            "take one that was trained on them"
        )
    own, given = described.preprocess, data.preprocess
    if (own.mean, own.std) != (given.mean, given.std):
        raise InputError(f"the teacher {asked.teacher} takes images normalised in another way: take another teacher")
    return Teacher(asked.teacher, model, described)


def pruning(asked: Asked, images: ImageSet, report: Report) -> Task:
    """A model that learns which tokens to keep, from itself unpruned: with its backbone, or without."""
    if asked.weights in (None, "random"):
        raise InputError(
            f"{asked.model} learns to prune from its own backbone: add --weights, official or a file, or take "
            "--keep-ratio 1 to train the backbone"
        )
    if asked.teacher is not None or asked.teacher_weights is not None:
        raise InputError(f"{asked.model} has itself, unpruned, as its teacher: leave --teacher away")
    model, start = weights.load(
        asked.model,
        asked.weights,
        image_size=asked.image_size,
        keep_ratio=asked.kept,
        fresh_predictors=True,
        seed=asked.recipe.seed,
        report=report,
    )
    backbone = cast(DynamicViT, fitting.unpruned(asked.model, model))
    data = prepare(images, asked.recipe, asked.image_size, backbone.classes)
    data = replace(data, preprocess=start.preprocess)  # what the backbone was trained on
    if not asked.only_predictors:
        return Task(model, data, EndToEnd(asked.recipe, backbone), start, backbone=backbone)
    freeze_backbone(model)
    return Task(model, data, Saliency(asked.recipe), start, backbone=backbone)
