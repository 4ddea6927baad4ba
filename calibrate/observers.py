"""From what calibration saw of a tensor to its grid; the observers are torchao's."""

import torch
from torchao.quantization.pt2e.observer import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import QuantizationSpec

from calibrate.recipe import Observer

MIN_SCALE = 2**-16  # a tensor that was always 0 still needs a scale that its reciprocal survives in float32
ACTIVATION_OBSERVERS = {"minmax": MinMaxObserver, "histogram": HistogramObserver}


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
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=MIN_SCALE),
    )
