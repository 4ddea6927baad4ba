"""Ranges of the best SQNR of each tensor by itself: the least squared error of rounding it.

Source: Sung et al., "Resiliency of Deep Neural Networks under Quantization", arXiv 1511.06488, which
chooses a step by the L2 error; here over both ends of the range, from a histogram.
"""

from torch import Tensor

from calibrate.counted import CountedObserver


class LeastErrorObserver(CountedObserver):
    def chosen_range(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        return self.range_of_least_error(counts)
