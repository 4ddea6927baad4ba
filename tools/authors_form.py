"""EfficientViT computed as its authors' published code computes it: what their users have to export today.

The same numbers by other operators than in ``edgevit.models.efficientvit``: chunks and splits, products of tensors of
any rank, a gathered bias that is kept, and windows cut from channels-last images in six dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevit.models.efficientvit import KEY_DIM, CascadedGroupAttention, WindowAttention


class AuthorsAttention(nn.Module):
    """``[B, width, side, side]`` → the same shape, of the attention that it is made from."""

    biases: Tensor

    def __init__(self, attention: CascadedGroupAttention) -> None:
        super().__init__()
        self.qkvs, self.dws, self.proj = attention.qkvs, attention.dws, attention.proj
        self.chunk, self.scale = attention.chunk, attention.scale
        self.register_buffer("biases", attention.attention_biases.detach()[:, attention.offsets])

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        chunks, outputs = x.chunk(len(self.qkvs), 1), list[Tensor]()
        for j, chunk in enumerate(chunks):
            qkv = self.qkvs[j](outputs[-1] + chunk if outputs else chunk)
            q, k, v = qkv.view(batch, -1, height, width).split([KEY_DIM, KEY_DIM, self.chunk], 1)
            q, k, v = self.dws[j](q).flatten(2), k.flatten(2), v.flatten(2)
            weights = (q.transpose(-2, -1) @ k * self.scale + self.biases[j]).softmax(-1)
            outputs.append((v @ weights.transpose(-2, -1)).view(batch, self.chunk, height, width))
        y: Tensor = self.proj(torch.cat(outputs, 1))
        return y


class AuthorsWindows(nn.Module):
    """``[B, width, side, side]`` → the same shape; the projection is inside the windows."""

    def __init__(self, windows: WindowAttention) -> None:
        super().__init__()
        self.attn, self.window, self.grid = AuthorsAttention(windows.attn), windows.window, windows.grid

    def forward(self, x: Tensor) -> Tensor:
        if self.grid == 1:
            y: Tensor = self.attn(x)
            return y
        batch, channels, height, width = x.shape
        g, w = self.grid, self.window
        x = x.permute(0, 2, 3, 1)
        if g * w > height:
            x = F.pad(x, (0, 0, 0, g * w - width, 0, g * w - height))
        x = x.view(batch, g, w, g, w, channels).transpose(2, 3)
        x = self.attn(x.reshape(batch * g * g, w, w, channels).permute(0, 3, 1, 2))
        x = x.permute(0, 2, 3, 1).view(batch, g, g, w, w, channels).transpose(2, 3)
        return x.reshape(batch, g * w, g * w, channels)[:, :height, :width].permute(0, 3, 1, 2)


def in_authors_form(model: nn.Module) -> nn.Module:
    """``model`` with its attentions replaced, which share its weights. Raises ValueError where it has none."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, WindowAttention)
    ]
    if not found:
        raise ValueError("only EfficientViT has another form in its authors' code")
    for parent, name, windows in found:
        setattr(parent, name, AuthorsWindows(windows))
    return model
