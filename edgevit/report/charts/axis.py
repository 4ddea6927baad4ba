"""Numbers to places on an axis that begins and ends at round ones."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """``name`` has the unit; ``ticks`` rise, and the first and the last are its ends."""

    name: str
    ticks: tuple[float, ...]

    def at(self, value: float, start: float, end: float) -> float:
        """Where ``value`` is if the axis runs from ``start`` to ``end``."""
        low, high = self.ticks[0], self.ticks[-1]
        return start + (end - start) * (value - low) / (high - low)


def axis(name: str, values: Iterable[float], parts: int = 5) -> Axis:
    """Round numbers, about ``parts`` steps of them, around all ``values``: put in a 0 where it is to be seen."""
    values = list(values)
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # one number, but for rounding
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    step = rounded((high - low) / parts)
    first, last = math.floor(low / step), math.ceil(high / step)
    return Axis(name, tuple(step * index for index in range(first, last + 1)))


def rounded(step: float) -> float:
    """The next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
