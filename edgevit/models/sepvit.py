"""SepViT: depthwise and pointwise self-attention over windows, each with a token that stands for it.

Source: "SepViT: Separable Vision Transformer", arXiv 2203.15380, from its equations and its figures alone. Module
names follow the published key grammar (``blocks.{stage}.{block}.attn.DSA_qkv``).

Everything is written for export: shapes are fixed by ``image_size``, the batch is free, and no tensor has more than
five dimensions, also where windows are cut and heads are split.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_DIM = 32
WINDOW, GROUPED = 7, 14  # separable attention, and grouped: 2 x 2 windows as one
BLOCK_EPS, EMBEDDING_EPS, TOKEN_EPS = 1e-6, 1e-5, 1e-5
HEADS = ("head",)
SIZED = "window tokens"
WINDOWED = (".win_tokens", ".win_tokens_norm.", ".PSA_qk.")  # parameters of blocks with more than one window


@dataclass(frozen=True)
class Config:
    """One column of the paper's Table 1: the first width, and blocks a stage. Widths double from stage to stage."""

    width: int
    depths: tuple[int, int, int, int]

    @property
    def widths(self) -> list[int]:
        return [self.width * 2**stage for stage in range(len(self.depths))]

    def window(self, stage: int, block: int) -> int:
        """In the two middle stages every second block groups its windows."""
        return GROUPED if stage in (1, 2) and block % 2 else WINDOW


CONFIGS = {
    "sepvit_lite": Config(32, (1, 2, 6, 2)),
    "sepvit_tiny": Config(96, (1, 2, 6, 2)),
    "sepvit_small": Config(96, (1, 2, 14, 2)),
    "sepvit_base": Config(128, (1, 2, 14, 2)),
}


class OverlappingPatchEmbedding(nn.Module):
    """``[B, inputs, H, W]`` → tokens ``[B, (H / stride) * (W / stride), width]``. Paper section 3.1."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(width, eps=EMBEDDING_EPS)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.proj(x).flatten(2).transpose(1, 2))
        return tokens


class ConditionalPosition(nn.Module):
    """Tokens of a side x side map plus their depthwise 3 x 3 convolution (CPVT, arXiv 2102.10882, section 3.3)."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.proj = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width))

    def forward(self, tokens: Tensor) -> Tensor:
        x = to_map(tokens, self.side)
        y: Tensor = x + self.proj(x)
        return y.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, side: int) -> Tensor:
    """``[B, side * side, C]`` → ``[B, C, side, side]``."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, side, side)


class SeparableAttention(nn.Module):
    """Attention inside windows, then among them. Paper section 3.2, equations 2 to 5.

    ``windows`` of one block: where there is one, the second part and its window token fall away.
    """

    def __init__(self, width: int, windows: int, inner_residuals: bool) -> None:
        super().__init__()
        self.width, self.heads, self.windows = width, width // HEAD_DIM, windows
        self.scale, self.inner_residuals = HEAD_DIM**-0.5, inner_residuals
        self.DSA_qkv = nn.Linear(width, 3 * width)
        if windows > 1:
            self.win_tokens_norm = nn.LayerNorm(width, eps=TOKEN_EPS)
            self.PSA_qk = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def depthwise(self, y: Tensor) -> Tensor:
        """Each window by itself: ``[B * N, T, C]`` → the same shape."""
        tokens = y.shape[1]
        qkv = self.DSA_qkv(y).reshape(-1, tokens, 3 * self.heads, HEAD_DIM).transpose(1, 2)
        q, k, v = (
            qkv[:, part * self.heads : (part + 1) * self.heads].reshape(-1, tokens, HEAD_DIM) for part in range(3)
        )
        weights = torch.bmm(q * self.scale, k.transpose(1, 2)).softmax(-1)
        a = torch.bmm(weights, v).reshape(-1, self.heads, tokens, HEAD_DIM)
        a = a.transpose(1, 2).reshape(-1, tokens, self.width)
        return self.residual(a, y) if self.inner_residuals else a

    def residual(self, a: Tensor, y: Tensor) -> Tensor:
        """``a + y``, added as rows: with one head, OpenVINO 2026.4.1 crashes on the sum of three dimensions."""
        return (a.reshape(-1, self.width) + y.reshape(-1, self.width)).reshape(-1, y.shape[1], self.width)

    def pointwise(self, tokens: Tensor, v: Tensor) -> Tensor:
        """Each place within the windows over all windows: ``[B, N, C]`` and ``[B * N, M * M, C]`` → the latter."""
        n, heads = self.windows, self.heads
        tokens = F.gelu(self.win_tokens_norm(tokens))
        qk = self.PSA_qk(tokens).reshape(-1, n, 2 * heads, HEAD_DIM).transpose(1, 2)
        q, k = (qk[:, part * heads : (part + 1) * heads].reshape(-1, n, HEAD_DIM) for part in range(2))
        weights = torch.bmm(q * self.scale, k.transpose(1, 2)).softmax(-1)
        pixels = v.shape[1]
        values = v.reshape(-1, n * pixels, heads, HEAD_DIM).transpose(1, 2).reshape(-1, n, pixels * HEAD_DIM)
        o = torch.bmm(weights, values)
        o = o + values if self.inner_residuals else o
        return o.reshape(-1, heads, n * pixels, HEAD_DIM).transpose(1, 2).reshape(-1, pixels, self.width)

    def forward(self, y: Tensor) -> Tensor:
        """Normalised ``[B * N, T, C]`` → ``[B * N, M * M, C]``; T counts the window token, where there is one."""
        a = self.depthwise(y)
        if self.windows > 1:
            a = self.pointwise(a[:, 0].reshape(-1, self.windows, self.width), a[:, 1:])
        return a


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """Separable attention and MLP on the tokens ``[B, side * side, C]`` of a square map. Paper section 3.1."""

    win_tokens: Tensor

    def __init__(self, width: int, side: int, window: int, inner_residuals: bool, learnable_tokens: bool) -> None:
        super().__init__()
        self.width, self.window = width, min(window, side)
        self.grid = side // self.window
        windows = self.grid**2
        if windows > 1:
            tokens = torch.zeros(1, windows, 1, width)
            if learnable_tokens:
                self.win_tokens = nn.Parameter(tokens)
            else:
                self.register_buffer("win_tokens", tokens, persistent=False)
        self.norm1 = nn.LayerNorm(width, eps=BLOCK_EPS)
        self.attn = SeparableAttention(width, windows, inner_residuals)
        self.norm2 = nn.LayerNorm(width, eps=BLOCK_EPS)
        self.mlp = MLP(width)

    def forward(self, z: Tensor) -> Tensor:
        z = z + self.attn.proj(self.merge(self.attn(self.norm1(self.partition(z)))))
        y: Tensor = z + self.mlp(self.norm2(z))
        return y

    def partition(self, z: Tensor) -> Tensor:
        """``[B, g·M·g·M, C]`` → windows ``[B·g·g, T, C]``, each after its window token: 4-D at most."""
        g, m, c = self.grid, self.window, self.width
        if g == 1:
            return z
        windows = z.reshape(-1, m, g, m * c).transpose(1, 2).reshape(-1, g * g, m * m, c)
        tokens = self.win_tokens.expand(windows.shape[0], -1, -1, -1)
        return torch.cat([tokens, windows], 2).reshape(-1, m * m + 1, c)

    def merge(self, windows: Tensor) -> Tensor:
        """``[B·g·g, M·M, C]`` → ``[B, g·M·g·M, C]``."""
        g, m, c = self.grid, self.window, self.width
        if g == 1:
            return windows
        return windows.reshape(-1, g, m, m * c).transpose(1, 2).reshape(-1, g * m * g * m, c)


class SepViT(nn.Module):
    """``[B, 3, image_size, image_size]`` float → ``[B, classes]`` logits.

    ``image_size`` must be one that windows divide at every stage (ValueError otherwise); a window is never larger than
    its map. ``inner_residuals`` are the two inside an attention, which published weights need and the paper's equations
    do not show; window tokens are learnt, or fixed at zero (paper section 3.2).
    """

    def __init__(
        self,
        config: Config,
        image_size: int = 224,
        classes: int = 1000,
        inner_residuals: bool = True,
        learnable_tokens: bool = True,
    ) -> None:
        super().__init__()
        check_image_size(image_size)
        self.image_size, self.classes, self.sides = image_size, classes, sides(image_size)
        self.patch_embeds, self.pos_block, self.blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inputs = 3
        for stage, (width, depth, side) in enumerate(zip(config.widths, config.depths, self.sides, strict=True)):
            kernel, stride = (3, 2) if stage else (7, 4)
            self.patch_embeds.append(OverlappingPatchEmbedding(inputs, width, kernel, stride))
            self.pos_block.append(ConditionalPosition(width, side))
            windows = [config.window(stage, block) for block in range(depth)]
            self.blocks.append(
                nn.ModuleList(Block(width, side, window, inner_residuals, learnable_tokens) for window in windows)
            )
            inputs = width
        self.norm = nn.LayerNorm(inputs, eps=BLOCK_EPS)
        self.head = nn.Linear(inputs, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x
        for stage, blocks in enumerate(self.blocks):
            assert isinstance(blocks, nn.ModuleList)
            tokens = self.patch_embeds[stage](to_map(tokens, self.sides[stage - 1]) if stage else x)
            for index, block in enumerate(blocks):
                tokens = block(tokens)
                if index == 0:
                    tokens = self.pos_block[stage](tokens)
        y: Tensor = self.head(self.norm(tokens).mean(1))
        return y


def initialise(module: nn.Module) -> None:
    """Truncated normal for linear layers; for convolutions, variance 2 over the fan of the outputs."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


def sides(image_size: int) -> tuple[int, int, int, int]:
    """Of the square maps of the four stages."""
    first = (image_size - 1) // 4 + 1
    second = (first - 1) // 2 + 1
    third = (second - 1) // 2 + 1
    return first, second, third, (third - 1) // 2 + 1


def fits(image_size: int) -> bool:
    """Whether every stage's windows divide its map."""
    windows = ((WINDOW,), (WINDOW, GROUPED), (WINDOW, GROUPED), (WINDOW,))
    return all(
        side % min(window, side) == 0
        for side, stage in zip(sides(image_size), windows, strict=True)
        for window in stage
    )


IMAGE_SIZES = tuple(size for size in range(28, 448 + 1, 28) if fits(size))


def check_image_size(image_size: int) -> None:
    """Raise ValueError unless SepViT can be built for ``image_size`` pixels."""
    if image_size not in IMAGE_SIZES:
        raise ValueError(
            f"image size {image_size} does not fit SepViT, whose windows divide its maps: "
            f"take {', '.join(map(str, IMAGE_SIZES[:-1]))} or {IMAGE_SIZES[-1]}"
        )


def build(name: str, image_size: int = 224, classes: int = 1000) -> SepViT:
    """The named model (a key of ``CONFIGS``) with freshly initialised weights, in training mode."""
    return SepViT(CONFIGS[name], image_size, classes)


def own_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """See ``registry.Family``: one grammar is known."""
    return dict(tensors)


def is_sized(key: str) -> bool:
    """See ``registry.Family``."""
    return key.endswith(".win_tokens")


def resized(value: Tensor, shape: torch.Size) -> Tensor | None:
    """Window tokens ``[1, g * g, 1, C]`` for another number of windows, resized bicubically as a g x g image."""
    old, new, width = isqrt(value.shape[1]), isqrt(shape[1]), shape[-1]
    if value.shape != (1, old * old, 1, width):
        return None
    image = F.interpolate(value.reshape(1, old, old, width).permute(0, 3, 1, 2), (new, new), mode="bicubic")
    return image.permute(0, 2, 3, 1).reshape(1, new * new, 1, width)


def is_conditional(key: str) -> bool:
    """See ``registry.Family``: where one window holds the whole map, it has no token."""
    return any(part in key for part in WINDOWED)
