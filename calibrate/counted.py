"""Observers that go through the images twice: for the extremes, then to count what lies between them.

A histogram whose ends are known from the start is the same in whatever order the images come, and takes constant
memory. Each count may be weighted.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torchao.quantization.pt2e.observer import MinMaxObserver

BINS = 4096  # from the least to the largest value
FRACTIONS = torch.logspace(0, -8, 121, base=2)  # of either end that a grid may reach; the widest wins a tie


class CountedObserver(MinMaxObserver):  # type: ignore[misc]
    """Sees the extremes first, and once ``count_from_here`` was called, what lies between them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.counts: Tensor | None = None  # ``[BINS]`` float64

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        return self.min_val.clamp(max=0), self.max_val.clamp(min=0)

    @property
    def values(self) -> Tensor:
        """``[BINS]`` float64: what each count is of."""
        low, high = self.ends
        return torch.lerp(low.double(), high.double(), torch.linspace(0, 1, BINS, dtype=torch.float64))

    def count_from_here(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        if self.counts is not None:
            return self.count(x)
        seen: Tensor = super().forward(x)
        return seen

    def count(self, x: Tensor) -> Tensor:
        self.accumulate(x.detach(), torch.ones(()))
        return x

    def accumulate(self, x: Tensor, weights: Tensor) -> None:
        """Add ``weights``, of the shape of ``x`` or one for all, to the counts of the values of ``x``."""
        assert self.counts is not None
        low, high = self.ends
        bins = ((x - low) * ((BINS - 1) / (high - low).clamp(min=self.eps))).round().long().clamp(0, BINS - 1)
        self.counts.index_add_(0, bins.flatten(), weights.expand_as(x).flatten().double())

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Of the extremes, where there is no count."""
        if self.counts is None or not self.counts.any():
            extremes: tuple[Tensor, Tensor] = super().calculate_qparams()
            return extremes
        found: tuple[Tensor, Tensor] = self._calculate_qparams(*self.chosen_range(self.counts))
        return found

    @abstractmethod
    def chosen_range(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """From ``[BINS]`` counts, not all 0, to the ends of a range that holds 0."""

    def range_of_least_error(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """That which rounds the counted values with the least squared error."""
        low, high = self.ends
        lows, highs = torch.cartesian_prod(low * FRACTIONS, high * FRACTIONS).unbind(1)
        scales, zero_points = self._calculate_qparams(lows, highs)
        ends = ((end - zero_points) * scales.double() for end in (self.quant_min, self.quant_max))
        best = int(expected_errors(self.values, counts, scales.double(), *ends).argmin())
        return lows[best], highs[best]


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
