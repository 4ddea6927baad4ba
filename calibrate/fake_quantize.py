"""A grid as a module: what quantize and dequantize nodes will do to a tensor, done in float.

Bit for bit the same: ``(clamp(round(x / scale) + zero_point) - zero_point) * scale``, where x / scale is x times the
reciprocal in float32. Every scale is a float16 number, of whose reciprocal the nearest float32 is the same whether it
was float64 before or not.
"""

import torch
from torch import Tensor, nn
from torchao.quantization.pt2e.fake_quantize import FakeQuantizeBase
from torchao.quantization.pt2e.observer import ObserverBase

from calibrate.observers import MIN_SCALE


class FakeQuantize(FakeQuantizeBase):  # type: ignore[misc]
    """The grid that an observer chose. Gradients pass it as if it did not round, and stop where it clamps.

    Once ``learn_scale`` was called its scale is a parameter too, with the gradient of "Learned Step Size Quantization",
    arXiv 1902.08153, section 2.1; a factor of the scale is learned, as in arXiv 1903.08066, so that a step of an
    optimiser is as large for a small scale as for a large one. The zero point stays.
    """

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
        self.log_factor: nn.Parameter | None = None

    def learn_scale(self) -> None:
        self.log_factor = nn.Parameter(torch.zeros_like(self.scale))

    def keep_scale(self) -> None:
        """The scale as it was learned becomes what it is."""
        self.scale, self.log_factor = self.current_scale().detach(), None

    def current_scale(self) -> Tensor:
        """A float16 number, as float32; its gradient is that of the number before it was rounded."""
        if self.log_factor is None:
            return self.scale
        scale = (self.scale * self.log_factor.exp()).clamp(min=MIN_SCALE)
        return scale + (scale.half().float() - scale).detach()

    def forward(self, x: Tensor) -> Tensor:
        if not self.fake_quant_enabled[0]:
            return x
        x, ends, axis = x.float(), (self.quant_min, self.quant_max), self.ch_axis
        if self.log_factor is None:
            if axis is None:
                return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, *ends)
            return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point, axis, *ends)
        grid = (self.current_scale(), self.zero_point.float())
        if axis is None:
            return torch._fake_quantize_learnable_per_tensor_affine(x, *grid, *ends)
        return torch._fake_quantize_learnable_per_channel_affine(x, *grid, axis, *ends)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """What conversion asks for."""
        return self.current_scale().detach(), self.zero_point
