"""How far one program's logits are from another's: one definition each, used by every step.

``reference`` and ``output`` are logits ``[N, K]`` of one set of N images, in any float type; the arithmetic is float64.
Arrays of other or unequal shapes, empty ones and NaN or infinite logits raise ValueError: a broken program never gets a
number.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating[Any]]

MAX_DB = 200.0  # what equal arrays are given: JSON has no infinity, and float64 itself ends near 300 dB
NUDGE = 1e-6
Z95 = 1.959963984540054  # the standard normal's 97.5 % quantile


@dataclass(frozen=True)
class Drop:
    """Top-1 before and after, in percent; ``drop_points = from_ - to`` and its 95 % interval, in points."""

    from_: float
    to: float
    drop_points: float
    ci95: tuple[float, float]


def sqnr_db(reference: Logits, output: Logits) -> float:
    """Signal to quantisation noise: ``10 log10(sum reference² / sum (reference - output)²)``, at most MAX_DB."""
    reference, output = comparable(reference, output)
    signal, noise = np.square(reference).sum(), np.square(reference - output).sum()
    if signal == 0:
        raise ValueError("the reference logits are all zero, so nothing compares with them: check its weights")
    return MAX_DB if noise == 0 else min(MAX_DB, float(10 * np.log10(signal / noise)))


def cosine(reference: Logits, output: Logits) -> float:
    """The mean over the N rows of the cosine between them; an output row of zeros counts 0."""
    reference, output = comparable(reference, output)
    lengths, output_lengths = np.linalg.norm(reference, axis=1), np.linalg.norm(output, axis=1)
    if not lengths.all():
        raise ValueError("a row of the reference logits is all zero and has no direction: check its weights")
    output_lengths[output_lengths == 0] = 1
    return float(((reference * output).sum(1) / lengths / output_lengths).mean())


def top1_agreement(reference: Logits, output: Logits) -> float:
    """The fraction, 0..1, of images that both give the same first class (the lowest index where logits tie)."""
    reference, output = comparable(reference, output)
    return float((reference.argmax(1) == output.argmax(1)).mean())


def top1(logits: Logits, labels: NDArray[np.integer[Any]]) -> float:
    """Top-1 accuracy in percent; ``labels`` is ``[N]`` class indices."""
    return float(hits(logits, labels).mean() * 100)


def paired_drop(reference: Logits, output: Logits, labels: NDArray[np.integer[Any]]) -> Drop:
    """What top-1 loses from ``reference`` to ``output`` on the same images; a gain is a negative drop."""
    comparable(reference, output)
    before, after = hits(reference, labels), hits(output, labels)
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    low, high = paired_interval(lost, gained, len(before))
    points = 100 * (lost - gained) / len(before)
    return Drop(float(before.mean() * 100), float(after.mean() * 100), points, (100 * low, 100 * high))


def paired_interval(lost: int, gained: int, n: int) -> tuple[float, float]:
    """Tango's score interval, 95 %, for ``(lost - gained) / n`` where n pairs were seen.

    Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Stat. Med. 17 (1998) 891-908; recommended by Fagerland et al., Stat. Med. 33 (2014) 2850-2875. Unlike Wald's it
    stays inside -1..1 and keeps a width where no pair differs (±3.84 / (n + 3.84)).
    """

    def holds(difference: float) -> bool:
        """Whether the score test accepts it; q is the likeliest P(gained) under it (Tango's q21)."""
        b = (2 * n - lost + gained) * difference - lost - gained
        c = -gained * difference * (1 - difference)
        q = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * q + difference * (1 - difference))
        return (lost - gained - n * difference) ** 2 <= Z95 * Z95 * variance

    def limit(outside: float) -> float:
        inside = (lost - gained) / n
        for _ in range(50):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if holds(middle) else (inside, middle)
        return inside

    return limit(-1.0), limit(1.0)


def self_noise(run: Callable[[NDArray[Any]], Logits], batches: Iterable[NDArray[Any]], seed: int) -> float:
    """The self-noise floor in dB: SQNR of a program against itself, its input moved by one part in a million.

    ``run`` takes one of ``batches`` (float32 or float64, any shape) to logits ``[B, K]``. A float program lands near
    120 dB, or at MAX_DB where its output does not move at all; a quantised one may land far lower, because a rounding
    step that flips cascades through its layers.
    """
    random = np.random.default_rng(seed)
    still, moved = [], []
    for x in batches:
        if x.dtype not in (np.float32, np.float64):
            raise ValueError(f"a change of one part in a million is lost in {x.dtype}: give the batches as float32")
        nudged = (x * (1 + NUDGE * random.standard_normal(x.shape))).astype(x.dtype)
        # Copied, because a runtime may hand out the same buffer twice, and that would look like no noise at all.
        still.append(np.array(run(x), np.float64))
        moved.append(np.array(run(nudged), np.float64))
    if not still:
        raise ValueError("the self-noise floor needs at least one batch of images")
    return sqnr_db(np.concatenate(still), np.concatenate(moved))


def comparable(reference: Logits, output: Logits) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64. Raises ValueError unless they are finite and of one shape ``[N, K]``."""
    if reference.shape != output.shape:
        raise ValueError(f"the logits' shapes {reference.shape} and {output.shape} differ: run both on the same images")
    return finite(reference, "reference"), finite(output, "output")


def finite(logits: Logits, name: str) -> NDArray[np.float64]:
    if logits.ndim != 2 or logits.size == 0:
        raise ValueError(f"the {name} logits have the shape {logits.shape}, where [images, classes] is needed")
    if not np.isfinite(logits).all():
        rows = int((~np.isfinite(logits).all(1)).sum())
        raise ValueError(f"the {name} logits of {rows} of {len(logits)} images are NaN or infinite: export it again")
    return logits.astype(np.float64)


def hits(logits: Logits, labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """``[N]``: which images' first class is their label."""
    logits = finite(logits, "output")
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"there are labels of shape {labels.shape} for {len(logits)} images: give one label an image")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"the labels run from {labels.min()} to {labels.max()}, the classes from 0 to {logits.shape[1] - 1}"
        )
    return np.asarray(logits.argmax(1) == labels)
