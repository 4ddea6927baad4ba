"""The plain vision transformer that DynamicViT prunes: DeiT's and LV-ViT's embeddings, attention and blocks.

Sources: "Training data-efficient image transformers & distillation through attention", arXiv 2012.12877 (DeiT), and
"All Tokens Matter: Token Labeling for Training Better Vision Transformers", arXiv 2104.10858 (LV-ViT). Module names
follow the authors' checkpoints.

Everything is written for export: attention products are ``bmm`` on three dimensions, qkv is cut by slices, no tensor
has more than four dimensions, and the batch is free.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 16
STEM_WIDTH, STEM_STRIDE = 64, 2
MASK_EPS = 1e-6


class PatchEmbedding(nn.Module):
    """DeiT's: one convolution, ``[B, 3, S, S]`` → tokens ``[B, (S / 16)², width]``, row by row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.proj(x)
        return y.flatten(2).transpose(1, 2)


class ConvolutionalEmbedding(nn.Module):
    """LV-ViT's: three convolutions before the patches are cut. Shapes as in ``PatchEmbedding``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, 7, STEM_STRIDE, 3, bias=False)
        self.conv2 = nn.Conv2d(STEM_WIDTH, STEM_WIDTH, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(STEM_WIDTH, STEM_WIDTH, 3, padding=1, bias=False)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(STEM_WIDTH) for _ in range(3))
        self.proj = nn.Conv2d(STEM_WIDTH, width, PATCH // STEM_STRIDE, PATCH // STEM_STRIDE)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        y: Tensor = self.proj(torch.relu(self.bn3(self.conv3(x))))
        return y.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention on ``[B, N, width]``; see ``masked_softmax`` for the mask ``[B, N]``."""

    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.width, self.heads, self.head_width = width, heads, width // heads
        self.scale = self.head_width**-0.5
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens, heads, d = x.shape[1], self.heads, self.head_width
        qkv = self.qkv(x).reshape(-1, tokens, 3 * heads, d).transpose(1, 2)
        q, k, v = (qkv[:, part * heads : (part + 1) * heads].reshape(-1, tokens, d) for part in range(3))
        products = torch.bmm(q * self.scale, k.transpose(1, 2))
        weights = products.softmax(-1) if mask is None else masked_softmax(products, mask)
        mixed = torch.bmm(weights, v).reshape(-1, heads, tokens, d).transpose(1, 2)
        y: Tensor = self.proj(mixed.reshape(-1, tokens, self.width))
        return y


def masked_softmax(products: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension of ``[B * heads, N, N]`` with tokens left out, as DynamicViT trains.

    ``mask`` is ``[B, N]``: 1 keeps a token, 0 hides it from all but itself, and gradients reach it. The arithmetic is
    float32. arXiv 2106.02034, section 3.3, with the authors' epsilon.
    """
    batch, tokens = mask.shape
    itself = torch.eye(tokens, dtype=torch.bool, device=mask.device)
    seen = torch.where(itself, 1.0, mask.float()[:, None, None])  # [B, 1, N, N]
    scores = products.float().reshape(batch, -1, tokens, tokens)
    scores = scores - scores.amax(-1, keepdim=True).detach()  # it cancels, so no gradient is lost
    shares = scores.exp() * seen
    weights = (shares + MASK_EPS / tokens) / (shares.sum(-1, keepdim=True) + MASK_EPS)
    return weights.reshape(products.shape).to(products.dtype)


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """Attention and MLP on tokens ``[B, N, width]``, each normalised before and added after.

    LV-ViT halves what it adds, DeiT does not.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, eps: float, qkv_bias: bool, halved: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, mlp_ratio * width)
        self.halved = halved

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.add(x, self.attn(self.norm1(x), mask))
        return self.add(x, self.mlp(self.norm2(x)))

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + branch * 0.5 if self.halved else x + branch


def initialise(module: nn.Module) -> None:
    """Linear layers as vision transformers start; the others keep PyTorch's own start."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
