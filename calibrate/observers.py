"""From what calibration saw of a tensor to its grid; the observers are torchao's.

Every scale is a float16 number, because beside float16 activations Core ML keeps scales in that type: of any other one
it would hold the nearest, and its grid would not be the program's. A range grows by a thousandth at most.
"""

from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e.observer import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import QuantizationSpec

from calibrate.hessian import HessianObserver
from calibrate.least_error import LeastErrorObserver
from calibrate.percentile import PercentileObserver
from calibrate.recipe import Observer

MIN_SCALE = 2**-16  # a tensor that was always 0 still needs a scale that its reciprocal survives in float32


def half_at_least(scale: Tensor) -> Tensor:
    """The smallest float16 numbers that are not below ``scale`` (positive float32), as float32."""
    nearest = scale.half()
    above = (nearest.view(torch.int16) + 1).view(torch.float16)  # positive floats are ordered as their bits are
    return torch.where(nearest.float() < scale, above, nearest).float()


class HalfScale:
    """Mixed into an observer: its range, on the next wider grid whose scale is a float16 number."""

    qscheme: torch.qscheme
    quant_min: int
    quant_max: int

    def _calculate_qparams(self, min_val: Tensor, max_val: Tensor) -> tuple[Tensor, Tensor]:
        scale, zero_point = super()._calculate_qparams(min_val, max_val)  # type: ignore[misc]
        scale = half_at_least(scale)
        if self.qscheme == torch.per_tensor_affine:
            lowest = self.quant_min - torch.round(min_val.clamp(max=0) / scale)
            zero_point = lowest.clamp(self.quant_min, self.quant_max).to(zero_point.dtype)
        return scale, zero_point


class HalfMinMax(HalfScale, MinMaxObserver):  # type: ignore[misc]
    """The range from the least to the largest value."""


class HalfHistogram(HalfScale, HistogramObserver):  # type: ignore[misc]
    """The range of the least squared error, by torchao's search in a histogram that grows as images come."""


class HalfHessian(HalfScale, HessianObserver):
    """The range of the least error in the logits."""


class HalfLeastError(HalfScale, LeastErrorObserver):
    """The range of the least squared error, of all in a histogram whose ends are known."""


class HalfPercentile(HalfScale, PercentileObserver):
    """The range without the outermost values."""


class HalfPerChannelMinMax(HalfScale, PerChannelMinMaxObserver):  # type: ignore[misc]
    """One range a channel."""


ACTIVATION_OBSERVERS: dict[Observer, Any] = {
    "minmax": HalfMinMax,
    "histogram": HalfHistogram,
    "percentile": HalfPercentile,
    "sqnr": HalfLeastError,
    "hessian": HalfHessian,
}


def activation_spec(observer: Observer) -> QuantizationSpec:
    """int8, affine, one scale and zero point a tensor; 0 is always on the grid."""
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=ACTIVATION_OBSERVERS[observer].with_args(eps=MIN_SCALE),
    )


def weight_spec() -> QuantizationSpec:
    """int8 in -127..127, symmetric, one scale an output channel."""
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=HalfPerChannelMinMax.with_args(eps=MIN_SCALE),
    )
