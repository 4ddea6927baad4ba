"""Pack edgevit's bundled image set from the Fashion-MNIST IDX files: ``python tools/pack_fashion_mnist.py SRC DST``.

DST gets 30 images a class of the training split to calibrate on and 100 a class of the test split to score, no two of
them alike, with their labels and their indices in the IDX files. The same SRC gives the same bytes.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

from edgevit.images import ImageSet, open_images

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
SEED = 0


def choose(images: ImageSet, per_class: int, random: np.random.Generator, seen: set[str]) -> list[int]:
    """Sorted indices of ``per_class`` images of each class, none of whose digests is in ``seen``; adds theirs to it."""
    left = dict.fromkeys(range(len(CLASSES)), per_class)
    chosen = []
    for index in random.permutation(len(images)):
        item = images.items[index]
        assert item.label is not None
        if left[item.label] and item.sha256() not in seen:
            left[item.label] -= 1
            seen.add(item.sha256())
            chosen.append(int(index))
    assert not any(left.values()), "too few images"
    return sorted(chosen)


def pack(source: Path, destination: Path) -> None:
    images = open_images(source)
    random, seen = np.random.default_rng(SEED), set[str]()
    arrays = {"classes": np.array(CLASSES)}
    for name, split, per_class in (("calibration", "train", 30), ("test", "test", 100)):
        part = images.split(split)
        indices = choose(part, per_class, random, seen)
        pixels = [np.asarray(part.items[i].image())[..., 0] for i in indices]
        arrays[f"{name}_images"] = np.stack(pixels)
        arrays[f"{name}_labels"] = np.array([part.items[i].label for i in indices], np.uint8)
        arrays[f"{name}_indices"] = np.array(indices, "<u2")
    with destination.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    source, destination = map(Path, sys.argv[1:])
    pack(source, destination)
    print(f"{hashlib.sha256(destination.read_bytes()).hexdigest()}  {destination}")
