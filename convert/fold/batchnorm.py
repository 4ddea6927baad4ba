"""BatchNorm at inference is a fixed scale and shift of each channel.

    BN(x) = gamma · (x − mean) / √(var + eps) + beta = s · x + t
    s = gamma / √(var + eps),  t = beta − s · mean

with gamma = 1 and beta = 0 where the norm has no affine part. Source: Ioffe and Szegedy, "Batch
Normalization", arXiv 1502.03167, algorithm 2.
"""

import torch
from torch import Tensor, nn

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


def scale_and_shift(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """``s`` and ``t``, each ``[channels]`` float64; the norm has running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.affine:
        scale = scale * norm.weight.detach().double()
    shift = -scale * norm.running_mean.double()
    if norm.affine:
        shift = shift + norm.bias.detach().double()
    return scale, shift


def why_not_fixed(norm: BatchNorm) -> str | None:
    """Why the norm is no fixed scale and shift, or None."""
    if norm.running_mean is None or norm.running_var is None:
        return "the norm has no running statistics"
    if norm.training:
        return "the norm is in training mode"
    return None
