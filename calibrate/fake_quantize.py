"""A grid as a module: what quantize and dequantize nodes will do to a tensor, done in float.

Bit for bit the same: ``(clamp(round(x / scale) + zero_point) - zero_point) * scale``, where x / scale is x times the
reciprocal in float32. Every scale is a float16 number, of whose reciprocal the nearest float32 is the same whether it
was float64 before or not.
"""

import torch
from torch import Tensor
from torchao.quantization.pt2e.fake_quantize import FakeQuantizeBase
from torchao.quantization.pt2e.observer import ObserverBase


class FakeQuantize(FakeQuantizeBase):  # type: ignore[misc]
    """The grid that an observer chose. Gradients pass it as if it did not round, and stop where it clamps."""

    scale: Tensor  # float32, ``[1]`` or one an output channel
    zero_point: Tensor  # int32, as many

    def __init__(self, observer: ObserverBase) -> None:
        super().__init__()
        scale, zero_point = observer.calculate_qparams()
        self.register_buffer("scale", scale.detach().float().reshape(-1))
        self.register_buffer("zero_point", zero_point.detach().int().reshape(-1))
        self.dtype, self.qscheme, self.is_dynamic = observer.dtype, observer.qscheme, False
        self.quant_min, self.quant_max = observer.quant_min, observer.quant_max
        self.ch_axis: int | None = observer.ch_axis if self.qscheme is torch.per_channel_symmetric else None

    def forward(self, x: Tensor) -> Tensor:
        if not self.fake_quant_enabled[0]:
            return x
        ends = (self.quant_min, self.quant_max)
        if self.ch_axis is None:
            return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, *ends)
        return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point, self.ch_axis, *ends)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """What conversion asks for."""
        return self.scale.detach(), self.zero_point
