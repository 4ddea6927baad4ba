"""Make a bundled checkpoint from a training on Fashion-MNIST; each model card says which.

    edgevit train --data /usr/share/datasets/fashion-mnist --out TRAINED --licence Apache-2.0 ...
    python tools/bundle_weights.py TRAINED/model.safetensors edgevit/assets/MODEL-fashion-mnist.safetensors

The weights stay as they are; the names of the classes, which the published IDX files do not hold, are added.
"""

import json
import sys
from pathlib import Path

from safetensors import safe_open

from edgevit.images import open_images
from edgevit.models import weights


def main(source: Path, destination: Path) -> None:
    """Write the checkpoint at ``source`` to ``destination`` with the bundled images' class names."""
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    model, _ = weights.load(metadata["model"], str(source))
    weights.save(destination, model, metadata | {"class_names": json.dumps(open_images("bundled").classes)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
