"""Regenerates ``timm_logits.json``: what timm's EfficientViT answers for weights and an image that anyone can make.

Needs timm, which nothing else here does: ``python -m tests.models.make_timm_logits`` from the root of the repository.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

GOLDEN = Path(__file__).with_name("timm_logits.json")
LOGITS = 10  # recorded of each model's thousand


def reference_state(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Values for timm's keys in sorted order from one generator: uniform, which every processor draws alike.

    The scale of the kernels lets the image reach the logits: with smaller ones activations vanish, with larger they
    explode.
    """
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key in sorted(shapes):
        shape = shapes[key]
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(1)
            continue
        uniform = torch.rand(shape, generator=generator)
        if key.endswith(("running_var", "bn.weight")):
            state[key] = uniform + 0.5
        elif len(shape) == 4 or key == "head.linear.weight":
            state[key] = (2 * uniform - 1) * math.sqrt(2 / math.prod(shape[1:]))
        else:
            state[key] = uniform - 0.5
    return state


def reference_image() -> Tensor:
    """``[1, 3, 224, 224]``, uniform in -2..2."""
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 4 - 2


@torch.no_grad()
def main() -> None:
    import timm

    logits = {}
    for name in (f"efficientvit_m{size}" for size in range(6)):
        model = timm.create_model(name)
        model.load_state_dict(reference_state({key: value.shape for key, value in model.state_dict().items()}))
        logits[name] = model.eval()(reference_image())[0, :LOGITS].tolist()
    made = f"tests/models/make_timm_logits.py with timm {timm.__version__} and torch {torch.__version__}"
    GOLDEN.write_text(json.dumps({"made": made, "logits": logits}, indent=1) + "\n")


if __name__ == "__main__":
    main()
