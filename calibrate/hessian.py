"""Ranges of the least error in the logits: each tensor's histogram, weighted by what its values move there.

Rounding a tensor by e moves the logits by J e. With signs s drawn evenly, one a logit, g = Jᵀ s is one backward pass,
and E (gᵀ e)² = |J e|², for roundings that do not go together Σ g² e². As e hangs on a value alone, a histogram that
counts each value with its g² tells that error for any range. A tensor's own squared error would weigh what few logits
read like what all do, and clips the large values of a class token. Source: the Hessian-guided metric of "PTQ4ViT",
arXiv 2111.12293, with squared error in the logits for the loss, whose Hessian is JᵀJ.
"""

import zlib
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.observer import MinMaxObserver

from calibrate.program import outputs_of
from edgevit.errors import InputError

BINS = 4096  # from the least to the largest value
FRACTIONS = torch.logspace(0, -8, 121, base=2)  # of either end that a grid may reach; the widest wins a tie
IMAGES = 5  # at once: all activations are kept for the backward pass


class HessianObserver(MinMaxObserver):  # type: ignore[misc]
    """Sees the extremes first, and once ``weigh_from_here`` was called, what the values between them weigh."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.weights: Tensor | None = None  # ``[BINS]`` float64

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        return self.min_val.clamp(max=0), self.max_val.clamp(min=0)

    def weigh_from_here(self) -> None:
        self.weights = torch.zeros(BINS, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        if self.weights is None:
            seen: Tensor = super().forward(x)
            return seen
        own = x.view_as(x)  # others may read ``x`` off this grid, and their gradient is not this one's
        if own.requires_grad:
            own.register_hook(partial(self.accumulate, x.detach()))  # type: ignore[no-untyped-call]
        return own

    def accumulate(self, x: Tensor, gradient: Tensor) -> None:
        assert self.weights is not None
        low, high = self.ends
        bins = ((x - low) * ((BINS - 1) / (high - low).clamp(min=self.eps))).round().long().clamp(0, BINS - 1)
        self.weights.index_add_(0, bins.flatten(), gradient.flatten().double() ** 2)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Of the extremes, where no logit hangs on the tensor."""
        if self.weights is None or not self.weights.any():
            extremes: tuple[Tensor, Tensor] = super().calculate_qparams()
            return extremes
        if not self.weights.isfinite().all():
            raise InputError(
                "the gradient of the logits on a calibration image is not finite, where the hessian observer needs it: "
                "take another (--observer minmax)"
            )
        low, high = self.ends
        lows, highs = torch.cartesian_prod(low * FRACTIONS, high * FRACTIONS).unbind(1)
        scales, zero_points = self._calculate_qparams(lows, highs)
        values = torch.lerp(low.double(), high.double(), torch.linspace(0, 1, BINS, dtype=torch.float64))
        ends = ((end - zero_points) * scales.double() for end in (self.quant_min, self.quant_max))
        best = int(expected_errors(values, self.weights, scales.double(), *ends).argmin())
        found: tuple[Tensor, Tensor] = self._calculate_qparams(lows[best], highs[best])
        return found


def expected_errors(values: Tensor, weights: Tensor, steps: Tensor, lows: Tensor, highs: Tensor) -> Tensor:
    """``[K]``: the squared error of rounding ``values`` (``[BINS]``, rising) on each of K grids, each with its weight.

    A value beyond a grid's end goes to that end, one within half a step of 0 to 0, and any other by an error that is
    even over a step. All float64; ``steps``, ``lows`` and ``highs`` are ``[K]``.
    """
    moments = [nn.functional.pad((weights * values**power).cumsum(0), (1, 0)) for power in range(3)]

    def between(start: Tensor, end: Tensor) -> list[Tensor]:
        first, last = torch.searchsorted(values, start), torch.searchsorted(values, end, right=True)
        return [moment[last] - moment[first] for moment in moments]

    def squares_about(point: Tensor, start: Tensor, end: Tensor) -> Tensor:
        mass, total, squares = between(start, end)
        return squares - 2 * point * total + point**2 * mass

    infinity = torch.full_like(steps, torch.inf)
    inside, near_zero = between(lows, highs), between((-steps / 2).maximum(lows), (steps / 2).minimum(highs))
    rounded = steps**2 / 12 * (inside[0] - near_zero[0]) + near_zero[2]
    return rounded + squares_about(lows, -infinity, lows) + squares_about(highs, highs, infinity)


def weigh(prepared: GraphModule, batches: Iterable[Tensor]) -> None:
    """Run the images through once more, forwards and back, for those observers of ``prepared`` that want it."""
    observers = [module for module in prepared.modules() if isinstance(module, HessianObserver)]
    if not all(end.isfinite() for observer in observers for end in observer.ends):
        return  # conversion will name the tensor
    for observer in observers:
        observer.weigh_from_here()
    for batch in batches if observers else ():
        for start in range(0, len(batch), IMAGES):
            backwards(prepared, batch[start : start + IMAGES])


def backwards(prepared: GraphModule, x: Tensor) -> None:
    """Send the signs of the logits back through the program, whose observers listen on the way."""
    with torch.enable_grad():
        images = x.detach().requires_grad_()
        logits = outputs_of(prepared, images)[0]
        torch.autograd.grad((logits * signs(x, logits.shape[1])).sum(), images, allow_unused=True)


def signs(images: Tensor, classes: int) -> Tensor:
    """``[B, classes]`` of ±1: an image's own, wherever in the list it stands."""
    rows = []
    for image in images:
        random = torch.Generator().manual_seed(zlib.crc32(image.numpy().tobytes()))
        rows.append(torch.randint(2, (classes,), generator=random) * 2.0 - 1)
    return torch.stack(rows)
