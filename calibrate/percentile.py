"""Ranges that leave out the outermost of a tensor's values, a hundred-thousandth of them at either end.

Source: Wu et al., "Integer Quantization for Deep Learning Inference", arXiv 2004.09602, which
compares percentiles of the absolute value, 99.999 among them; here each end has its own.
"""

import torch
from torch import Tensor

from calibrate.counted import CountedObserver

LEFT_OUT = 1e-5


class PercentileObserver(CountedObserver):
    def chosen_range(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        reached = counts.cumsum(0) / counts.sum()
        places = torch.searchsorted(reached, torch.tensor([LEFT_OUT, 1 - LEFT_OUT], dtype=torch.float64))
        low, high = self.values[places.clamp(max=len(counts) - 1)].float()
        return low.clamp(max=0), high.clamp(min=0)
