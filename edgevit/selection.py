"""Which images calibrate and which are scored: drawn by a seed, checked, recorded by digest, and never the same."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from edgevit.errors import InputError
from edgevit.images import BadImageError, ImageSet, Item, printable

CALIBRATION, SCORED = 300, 1000


@dataclass(frozen=True)
class Selection:
    """Two image sets that share no content, and what was passed over to find them."""

    calibration: ImageSet
    scored: ImageSet
    bad: tuple[tuple[str, str], ...]  # name and reason of each image that was skipped
    duplicates: int = 0  # images not scored because a calibration image has the same bytes


def select(
    images: ImageSet,
    *,
    calibration: int | None,
    scored: int | None,
    seed: int,
    skip_bad: bool,
    report: Callable[[str], None],
    taken: frozenset[str] = frozenset(),
) -> Selection:
    """Draw ``calibration`` images (None: 300, or half of fewer than 600) and ``scored`` others (None: up to 1,000).

    A set with splits calibrates on its ``calibration`` or ``train`` split and is scored on ``test``. No image is scored
    whose SHA-256 is in ``taken``: it calibrated before. Every image drawn has been decoded. Raises InputError if there
    are too few images, and BadImageError for an unusable one unless ``skip_bad``.
    """
    if scored is not None and scored < 1:
        raise InputError(f"cannot score {scored} images: choose 1 or more")
    part = next((name for name in ("calibration", "train") if name in images.splits), None)
    pool = images.split(part) if part else images
    size = calibration_size(pool, calibration, reserve=0 if part else 1, report=report)
    random = np.random.default_rng(seed)
    bad: list[tuple[str, str]] = []
    usable = checked(shuffled(pool, random), skip_bad, report, bad)
    calibrating = list(islice(usable, size))
    if part:  # otherwise `usable` goes on where calibration stopped
        usable = checked(shuffled(images.split("test"), random), skip_bad, report, bad)
    others = ((item, digest) for item, digest in usable if digest not in taken)
    scoring, duplicates = distinct(others, {digest for _, digest in calibrating}, scored or SCORED)
    if duplicates:
        report(f"not scored, because calibration images have the same content: {duplicates:,} images")
    if len(calibrating) < size or len(scoring) < (scored or 1):
        asked = f"{scored:,} others" if scored else "any others"
        raise InputError(
            f"cannot calibrate on {size:,} images and score {asked}: {len(calibrating):,} and {len(scoring):,} of the "
            f"{len(images):,} in {printable(images.source)} can be used, so ask for fewer or give more"
        )
    return Selection(subset(images, (item for item, _ in calibrating)), subset(images, scoring), tuple(bad), duplicates)


def others(images: ImageSet, scored: ImageSet, skip_bad: bool, report: Callable[[str], None]) -> ImageSet:
    """What may be trained on, in order: the split that calibrates, or all, without the content of what is scored.

    Raises BadImageError for an unusable image unless ``skip_bad``.
    """
    part = next((name for name in ("train", "calibration") if name in images.splits), None)
    taken = {item.sha256() for item in scored.items}
    usable = checked((images.split(part) if part else images).items, skip_bad, report, [])
    return subset(images, (item for item, digest in usable if digest not in taken))


def calibration_size(pool: ImageSet, asked: int | None, reserve: int, report: Callable[[str], None]) -> int:
    """``asked``, or 300 or what there is. Raises InputError if ``pool`` has not so many and ``reserve`` more."""
    enough = CALIBRATION * (1 + reserve)
    size = asked if asked is not None else min(CALIBRATION, len(pool) // (1 + reserve))
    if not 1 <= size <= len(pool) - reserve:
        raise InputError(
            f"cannot calibrate on {size:,} of the {len(pool):,} images in {printable(pool.source)}"
            f"{' and score others' * reserve}: choose another calibration size or give more images"
        )
    if asked is None and len(pool) < enough:
        report(
            f"calibrating on {size:,} of {len(pool):,} images: the usual {CALIBRATION} are taken from {enough} or more"
        )
    return size


def shuffled(images: ImageSet, random: np.random.Generator) -> list[Item]:
    return [images.items[i] for i in random.permutation(len(images))]


def checked(
    items: Iterable[Item], skip_bad: bool, report: Callable[[str], None], bad: list[tuple[str, str]]
) -> Iterator[tuple[Item, str]]:
    """Each usable item with its digest; the others are reported and appended to ``bad``, or raised."""
    for item in items:
        try:
            digest = item.check()
        except BadImageError as error:
            if not skip_bad:
                raise
            report(f"skipped: {error}")
            bad.append((error.name, error.reason))
        else:
            yield item, digest


def distinct(usable: Iterable[tuple[Item, str]], taken: set[str], size: int) -> tuple[list[Item], int]:
    """The first ``size`` items whose content is not in ``taken``, and how many were passed over on the way."""
    items: list[Item] = []
    duplicates = 0
    for item, digest in usable:
        if digest in taken:
            duplicates += 1
            continue
        items.append(item)
        if len(items) == size:
            break
    return items, duplicates


def subset(images: ImageSet, items: Iterable[Item]) -> ImageSet:
    return ImageSet(images.source, list(items), images.classes)


def manifest_images(images: ImageSet) -> list[dict[str, str]]:
    """Name and SHA-256 of each image, in order."""
    return [{"name": item.name, "sha256": item.sha256()} for item in images.items]


def sha256_of_list(images: ImageSet) -> str:
    """SHA-256 of the images' hexadecimal digests, in order, one a line."""
    return hashlib.sha256("".join(f"{item.sha256()}\n" for item in images.items).encode()).hexdigest()


def check_labels(images: ImageSet, classes: int) -> None:
    """Raises InputError if a label cannot be one of ``classes`` class indices; unlabelled images pass."""
    if images.classes is not None and len(images.classes) != classes:
        raise InputError(
            f"{printable(images.source)} has {len(images.classes):,} named classes and the model {classes:,}: "
            f"name the class folders by class index, list the images in a labels.csv, "
            f"or put unlabelled images into no class folder"
        )
    for item in images.items:
        if item.label is not None and not 0 <= item.label < classes:
            raise InputError(
                f"{printable(item.name)} has the label {item.label}, but the model has {classes:,} classes "
                f"(0 to {classes - 1}): correct it or use images of the model's classes"
            )
