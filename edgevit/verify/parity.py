"""The parity chain: original → folded → quantised program → artifact, each link measured by itself.

Quantised outputs are never compared elementwise: equal grids differ by a rounding step here and there, which the
layers behind it spread. A link is judged by SQNR and top-1, beside the program's own self-noise floor: what moving
its input by one part in a million does to its output.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit import metrics
from edgevit.errors import ClaimError
from edgevit.images import ImageSet, Preprocess

Logits = NDArray[np.float32]
Run = Callable[[NDArray[np.float32]], Logits]
NOISE_IMAGES = 50
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
    """One state of the model, as a function from ``[B, 3, S, S]`` to logits ``[B, classes]``."""

    name: str
    run: Run
    batch: int = 1  # the largest B that ``run`` takes


@dataclass(frozen=True)
class Link:
    """What one step kept. The top-1 fields are in percent, and None for unlabelled images."""

    from_: str
    to: str
    sqnr_db: float
    cosine: float
    top1_agreement: float
    self_noise_db: float
    top1: metrics.Drop | None
    limits: Limits

    def broken(self) -> str | None:
        """Why the link does not hold, or None."""
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
            "limits": asdict(self.limits),
        }


def predict(
    stages: Sequence[Stage], images: ImageSet, preprocess: Preprocess, advance: Callable[[int], None]
) -> dict[str, Logits]:
    """``[len(images), classes]`` logits of each stage by its name; every image is decoded once for all of them.

    ``advance`` is told how many images are done. Raises ClaimError if a stage gives logits that are not finite.
    """
    parts: dict[str, list[Logits]] = {stage.name: [] for stage in stages}
    for x in images.batches(preprocess, max(stage.batch for stage in stages)):
        for stage in stages:
            parts[stage.name] += [finite(stage, x[i : i + stage.batch]) for i in range(0, len(x), stage.batch)]
        advance(len(x))
    return {name: np.concatenate(logits) for name, logits in parts.items()}


def finite(stage: Stage, x: NDArray[np.float32]) -> Logits:
    logits = stage.run(x)
    if not np.isfinite(logits).all():
        raise ClaimError(f"the {stage.name} model gives logits that are not finite: check its weights")
    return logits


def self_noise(stage: Stage, images: ImageSet, preprocess: Preprocess, seed: int) -> float:
    """In dB, on the first images: the floor below which a difference of this stage means nothing.

    Raises ClaimError for logits that compare with nothing.
    """

    def first() -> Iterator[NDArray[np.float32]]:
        return images.take(range(min(NOISE_IMAGES, len(images)))).batches(preprocess, stage.batch)

    try:
        return metrics.self_noise(stage.run, first(), seed)
    except ValueError as error:
        raise ClaimError(f"self-noise of the {stage.name} model: {error}") from None


def link(
    from_: tuple[str, Logits],
    to: tuple[str, Logits],
    self_noise_db: float,
    labels: NDArray[np.int64] | None,
    limits: Limits,
) -> Link:
    """Compare the logits of two stages on the same images. Raises ClaimError if they do not compare."""
    reference, output = from_[1], to[1]
    try:
        return Link(
            from_[0],
            to[0],
            metrics.sqnr_db(reference, output),
            metrics.cosine(reference, output),
            metrics.top1_agreement(reference, output),
            self_noise_db,
            None if labels is None else metrics.paired_drop(reference, output, labels),
            limits,
        )
    except ValueError as error:
        raise ClaimError(f"parity {from_[0]} → {to[0]}: {error}") from None
