"""Ranges of the least error in the logits: each tensor's histogram, weighted by what its values move there.

Rounding a tensor by e moves the logits by J e. With signs s drawn evenly, one a logit, g = Jᵀ s is one backward pass,
and E (gᵀ e)² = |J e|², for roundings that do not go together Σ g² e². As e hangs on a value alone, a histogram that
counts each value with its g² tells that error for any range. A tensor's own squared error would weigh what few logits
read like what all do, and clips the large values of a class token. Source: the Hessian-guided metric of "PTQ4ViT",
arXiv 2111.12293, with squared error in the logits for the loss, whose Hessian is JᵀJ.
"""

import zlib
from functools import partial

import torch
from torch import Tensor
from torch.fx import GraphModule

from calibrate.counted import CountedObserver
from calibrate.program import outputs_of
from edgevit.errors import InputError

IMAGES = 5  # at once: all activations are kept for the backward pass


class HessianObserver(CountedObserver):
    """Counts each value with its squared gradient."""

    def count(self, x: Tensor) -> Tensor:
        own = x.view_as(x)  # others may read ``x`` off this grid, and their gradient is not this one's
        if own.requires_grad:
            own.register_hook(partial(self.see, x.detach()))  # type: ignore[no-untyped-call]
        return own

    def see(self, x: Tensor, gradient: Tensor) -> None:
        self.accumulate(x, gradient.double() ** 2)

    def chosen_range(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        if not counts.isfinite().all():
            raise InputError(
                "the gradient of the logits on a calibration image is not finite, where the hessian observer needs it: "
                "take another (--observer minmax)"
            )
        return self.range_of_least_error(counts)


def backwards(prepared: GraphModule, images: Tensor) -> None:
    """Send the signs of the logits of ``[B, 3, S, S]`` back through the program, whose observers listen on the way."""
    for x in torch.split(images, IMAGES):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = outputs_of(prepared, x)[0]
            torch.autograd.grad((logits * signs(x.detach(), logits.shape[1])).sum(), x, allow_unused=True)


def signs(images: Tensor, classes: int) -> Tensor:
    """``[B, classes]`` of ±1: an image's own, wherever in the list it stands."""
    rows = []
    for image in images:
        random = torch.Generator().manual_seed(zlib.crc32(image.numpy().tobytes()))
        rows.append(torch.randint(2, (classes,), generator=random) * 2.0 - 1)
    return torch.stack(rows)
