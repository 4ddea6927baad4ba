"""The parity chain: original → folded → quantised program → artifact, each link measured by itself.

Quantised outputs are never compared elementwise: equal grids differ by a rounding step here and there, which the
layers behind it spread. A link is judged by SQNR and top-1, beside the program's own self-noise floor: what moving
its input by one part in a million does to its output.

A model that prunes tokens makes choices, and one other choice changes its logits more than all rounding does. So the
choices are compared by themselves (``edgevit.verify.tokens``), and the numbers where the reference was made to keep the
tokens that the stage after it kept.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.source import Precision
from edgevit import metrics
from edgevit.errors import ClaimError
from edgevit.images import ImageSet, Preprocess
from edgevit.verify import tokens
from edgevit.verify.tokens import Kept

Logits = NDArray[np.float32]
Outputs = tuple[NDArray[Any], ...]  # logits, then of a model that prunes tokens the ids kept and the scores, by site
Run = Callable[[NDArray[np.float32]], Outputs]
Replay = Callable[[NDArray[np.float32], Sequence[NDArray[np.int64]]], Outputs]
NOISE_IMAGES = 50
FLOOR_DRAWS = 4
ORIGINAL, FOLDED, QUANTISED = "original", "folded", "quantised program"
ON_MAC = "coreml on this Mac"


@dataclass(frozen=True)
class Limits:
    """What a link must keep; a link that does not is broken."""

    min_sqnr_db: float
    min_agreement: float
    max_drop: float  # points of top-1


EXACT = Limits(min_sqnr_db=80, min_agreement=0.99, max_drop=0.2)
LIMITS = {
    "fp32": EXACT,
    "fp16": Limits(min_sqnr_db=35, min_agreement=0.98, max_drop=0.5),
    "int8": Limits(min_sqnr_db=15, min_agreement=0.95, max_drop=1.0),
}
# Random weights spread a rounding step far and give every class much the same logit. What is left to ask is that the
# noise be smaller than the signal.
UNTRAINED = Limits(min_sqnr_db=0, min_agreement=0, max_drop=100)
EXACT_UNTRAINED = replace(UNTRAINED, min_sqnr_db=EXACT.min_sqnr_db)


def above_noise(limits: Limits, self_noise_db: float) -> Limits:
    """No more SQNR than the reference keeps against itself: some models make more of float rounding than others."""
    return replace(limits, min_sqnr_db=min(limits.min_sqnr_db, self_noise_db))


@dataclass(frozen=True)
class Stage:
    """One state of the model, as a function of images ``[B, 3, S, S]``; ``replay`` is it with the tokens kept given."""

    name: str
    run: Run
    batch: int = 1  # the largest B that ``run`` takes
    replay: Replay | None = None


@dataclass(frozen=True)
class Predicted:
    """What a stage gave for a list of images: logits ``[images, classes]`` and, if it prunes, the tokens it kept.

    Raises ClaimError, as it is made, if those are no selection.
    """

    stage: str
    outputs: Outputs

    def __post_init__(self) -> None:
        if len(self.outputs) > 1:
            _ = self.kept

    @property
    def logits(self) -> Logits:
        return self.outputs[0]

    @cached_property
    def kept(self) -> Kept | None:
        if len(self.outputs) == 1:
            return None
        try:
            return Kept.of(self.outputs)
        except ValueError as error:
            raise ClaimError(f"the {self.stage} model: {error}") from None


@dataclass(frozen=True)
class Choice:
    """How far the tokens that two stages keep are the same, and what the two give when each keeps its own."""

    common: tokens.Overlap
    verdict: tokens.Verdict
    sqnr_db: float
    top1_agreement: float

    def manifest(self) -> dict[str, Any]:
        own = {"sqnr_db": self.sqnr_db, "top1_agreement": self.top1_agreement}
        return {
            "kept_token_overlap": list(self.common.shares),
            "tokens": tokens.manifest(self.common, self.verdict) | {"each_its_own": own},
        }


@dataclass(frozen=True)
class Link:
    """What one step kept. The top-1 fields are in percent, and None for unlabelled images.

    Where tokens are pruned, SQNR, cosine and agreement are those with the reference made to keep the same tokens;
    ``top1`` is of the two stages as they are, and ``choice`` says how far their tokens differ.
    """

    from_: str
    to: str
    sqnr_db: float
    cosine: float
    top1_agreement: float
    self_noise_db: float
    top1: metrics.Drop | None
    limits: Limits
    choice: Choice | None = None

    def broken(self) -> str | None:
        """Why the link does not hold, or None."""
        if self.choice is not None and (reason := self.choice.verdict.broken()) is not None:
            return reason
        if self.sqnr_db < self.limits.min_sqnr_db:
            return f"{self.sqnr_db:.1f} dB SQNR, less than {self.limits.min_sqnr_db:.4g}"
        if self.top1_agreement < self.limits.min_agreement:
            return f"{self.top1_agreement:.1%} top-1 agreement, less than {self.limits.min_agreement:.1%}"
        if self.top1 is not None and self.top1.drop_points > self.limits.max_drop:
            return f"top-1 drops {self.top1.drop_points:.2f} points, more than {self.limits.max_drop:g}"
        return None

    @property
    def name(self) -> str:
        return f"parity {self.from_} → {self.to}"

    def manifest(self) -> dict[str, Any]:
        labelled: dict[str, Any] = {}
        if self.top1 is not None:
            labelled = {
                "top1_from": self.top1.from_,
                "top1_to": self.top1.to,
                "top1_drop": self.top1.drop_points,
                "top1_drop_ci95": list(self.top1.ci95),
            }
        return {
            "from": self.from_,
            "to": self.to,
            "sqnr_db": self.sqnr_db,
            "cosine": self.cosine,
            "top1_agreement": self.top1_agreement,
            "self_noise_db": self.self_noise_db,
            **labelled,
            **({} if self.choice is None else self.choice.manifest()),
            "limits": asdict(self.limits),
        }


def broken(links: Iterable[Link]) -> list[str]:
    """A sentence for every link that is not what it should be."""
    return [f"{link.name}: {reason}" for link in links if (reason := link.broken()) is not None]


def predict(
    stages: Sequence[Stage], images: ImageSet, preprocess: Preprocess, advance: Callable[[int], None]
) -> dict[str, Predicted]:
    """What each stage gives, by its name; every image is decoded once for all of them.

    ``advance`` is told how many images are done. Raises ClaimError if a stage gives logits that are not finite.
    """
    parts: dict[str, list[Outputs]] = {stage.name: [] for stage in stages}
    for x in images.batches(preprocess, max(stage.batch for stage in stages)):
        for stage in stages:
            parts[stage.name] += [finite(stage, x[i : i + stage.batch]) for i in range(0, len(x), stage.batch)]
        advance(len(x))
    return {name: Predicted(name, joined(outputs)) for name, outputs in parts.items()}


def finite(stage: Stage, x: NDArray[np.float32]) -> Outputs:
    outputs = stage.run(x)
    if not np.isfinite(outputs[0]).all():
        raise ClaimError(f"the {stage.name} model gives logits that are not finite: check its weights")
    return outputs


def joined(batches: Sequence[Outputs]) -> Outputs:
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def forced(reference: Stage, own: Predicted, kept: Kept, images: ImageSet, preprocess: Preprocess) -> Predicted:
    """What ``reference`` gives where it has to keep the tokens of ``kept``; ``own`` is what it gave by itself.

    Only images whose tokens differ are run again.
    """
    assert reference.replay is not None
    assert own.kept is not None
    where = tokens.differing(own.kept, kept)
    rows = np.flatnonzero(where)
    if not len(rows):
        return own
    batches, done = [], 0
    for x in images.take(rows).batches(preprocess, reference.batch):
        batch = rows[done : done + len(x)]
        batches.append(reference.replay(x, [ids[batch] for ids in kept.ids]))
        done += len(x)
    return Predicted(own.stage, tokens.substituted(own.outputs, joined(batches), where))


def self_noise(stage: Stage, images: ImageSet, preprocess: Preprocess, seed: int) -> float:
    """In dB, on the first images: the floor below which a difference of this stage means nothing.

    Raises ClaimError for logits that compare with nothing.
    """

    def first() -> Iterator[NDArray[np.float32]]:
        return images.take(range(min(NOISE_IMAGES, len(images)))).batches(preprocess, stage.batch)

    try:
        return metrics.self_noise(lambda x: stage.run(x)[0], first(), seed)
    except ValueError as error:
        raise ClaimError(f"self-noise of the {stage.name} model: {error}") from None


def noise_floor(stage: Stage, images: ImageSet, preprocess: Preprocess, seed: int) -> float:
    """The lowest of a few draws of ``self_noise``: what a limit may be set by.

    A few images that spread a rounding step far decide it, and one draw may miss them: of an EfficientViT-M0 with
    random weights, on 15 images of noise, draws lie between 54 and 80 dB.
    """
    return min(self_noise(stage, images, preprocess, seed + draw) for draw in range(FLOOR_DRAWS))


def link(
    from_: tuple[str, Predicted],
    to: tuple[str, Predicted],
    self_noise_db: float,
    labels: NDArray[np.int64] | None,
    limits: Limits,
    reference: Predicted | None = None,
    precision: Precision = "fp32",
) -> Link:
    """Compare what two stages give for the same images. Raises ClaimError if it does not compare.

    ``reference`` is ``from_`` made to keep the tokens of ``to`` (``forced``), and ``precision`` is that of ``to``.
    """
    own, output = from_[1], to[1]
    same = own if reference is None else reference
    try:
        return Link(
            from_[0],
            to[0],
            metrics.sqnr_db(same.logits, output.logits),
            metrics.cosine(same.logits, output.logits),
            metrics.top1_agreement(same.logits, output.logits),
            self_noise_db,
            None if labels is None else metrics.paired_drop(own.logits, output.logits, labels),
            limits,
            None if reference is None else choice(own, output, reference, precision),
        )
    except ValueError as error:
        raise ClaimError(f"parity {from_[0]} → {to[0]}: {error}") from None


def choice(own: Predicted, output: Predicted, reference: Predicted, precision: Precision) -> Choice:
    assert own.kept is not None
    assert output.kept is not None
    assert reference.kept is not None
    return Choice(
        tokens.overlap(own.kept, output.kept),
        tokens.check(reference.kept, output.kept, precision),
        metrics.sqnr_db(own.logits, output.logits),
        metrics.top1_agreement(own.logits, output.logits),
    )
