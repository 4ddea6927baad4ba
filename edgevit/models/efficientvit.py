"""EfficientViT M0-M5: cascaded group attention in a memory-efficient sandwich layout.

Source: "EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention", CVPR 2023,
arXiv 2305.07027. Module names follow the authors' checkpoints, so that those load unchanged.

Everything is written for export: shapes are fixed by ``image_size``, no tensor has more than five
dimensions, nothing is padded by zero, attention biases are gathered from their table and never cached.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevit.models import names

PATCH = 16
KEY_DIM = 16
WINDOW = 7
IMAGE_SIZE_STEP = 32
IMAGE_SIZES = range(64, 512 + 1, IMAGE_SIZE_STEP)
HEADS = ("head.l",)
SIZED = "attention bias tables"


@dataclass(frozen=True)
class Config:
    """One row of the paper's Table 1: three stages at strides 16, 32 and 64."""

    widths: tuple[int, int, int]
    depths: tuple[int, int, int]
    heads: tuple[int, int, int]
    kernels: tuple[int, ...]  # of the depthwise convolution on each head's query


CONFIGS = {
    "efficientvit_m0": Config((64, 128, 192), (1, 2, 3), (4, 4, 4), (5, 5, 5, 5)),
    "efficientvit_m1": Config((128, 144, 192), (1, 2, 3), (2, 3, 3), (7, 5, 3, 3)),
    "efficientvit_m2": Config((128, 192, 224), (1, 2, 3), (4, 3, 2), (7, 5, 3, 3)),
    "efficientvit_m3": Config((128, 240, 320), (1, 2, 3), (4, 3, 4), (5, 5, 5, 5)),
    "efficientvit_m4": Config((128, 256, 384), (1, 2, 3), (4, 4, 4), (7, 5, 3, 3)),
    "efficientvit_m5": Config((192, 288, 384), (1, 3, 4), (3, 3, 4), (7, 5, 3, 3)),
}


class ConvBN(nn.Module):
    """Convolution without bias, then BatchNorm. ``gamma`` is the norm's initial weight."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        gamma: float = 1.0,
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.bn.weight, gamma)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.c(x))
        return y


class Residual(nn.Module):
    def __init__(self, m: nn.Module) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.m(x)
        return y


class FFN(nn.Module):
    """Two pointwise convolutions with expansion 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pw1 = ConvBN(width, 2 * width)
        self.pw2 = ConvBN(2 * width, width, gamma=0.0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pw2(torch.relu(self.pw1(x)))
        return y


def token_interaction(width: int) -> Residual:
    """The depthwise residual convolution that precedes every FFN."""
    return Residual(ConvBN(width, width, 3, groups=width, gamma=0.0))


def attention_offsets(side: int) -> Tensor:
    """``[N, N]`` int64, N = side * side: where in the bias table query p finds its bias for key q.

    Tokens are row-major; the entry is ``|dy| * side + |dx|``, so the table has ``side * side`` rows.
    """
    y, x = torch.arange(side * side) // side, torch.arange(side * side) % side
    return (y[:, None] - y[None]).abs() * side + (x[:, None] - x[None]).abs()


class CascadedGroupAttention(nn.Module):
    """Each head attends over its own chunk of channels, plus the output of the head before it.

    Input and output ``[B, width, side, side]``. Paper section 3.1.
    """

    offsets: Tensor

    def __init__(self, width: int, heads: int, side: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.side, self.chunk, self.scale = side, width // heads, KEY_DIM**-0.5
        self.qkvs = nn.ModuleList(ConvBN(self.chunk, 2 * KEY_DIM + self.chunk) for _ in range(heads))
        self.dws = nn.ModuleList(ConvBN(KEY_DIM, KEY_DIM, kernel, groups=KEY_DIM) for kernel in kernels[:heads])
        self.proj = nn.Sequential(nn.ReLU(), ConvBN(width, width, gamma=0.0))
        self.attention_biases = nn.Parameter(torch.zeros(heads, side * side))
        self.register_buffer("offsets", attention_offsets(side), persistent=False)

    def head(self, j: int, x: Tensor) -> Tensor:
        """``[B, chunk, side, side]`` → the same shape: softmax(qᵀk·scale + bias) applied to v."""
        qkv = self.qkvs[j](x)
        q = self.dws[j](qkv[:, :KEY_DIM]) * self.scale
        k = qkv[:, KEY_DIM : 2 * KEY_DIM].flatten(2)
        v = qkv[:, 2 * KEY_DIM :].flatten(2)
        bias = self.attention_biases[j][self.offsets]
        weights = (torch.bmm(q.flatten(2).transpose(1, 2), k) + bias).softmax(-1)
        return torch.bmm(v, weights.transpose(1, 2)).reshape(-1, self.chunk, self.side, self.side)

    def forward(self, x: Tensor) -> Tensor:
        """The heads' outputs side by side; ``proj`` is the caller's, because it does not care about windows."""
        outputs: list[Tensor] = []
        for j in range(len(self.qkvs)):
            chunk = x[:, j * self.chunk : (j + 1) * self.chunk]
            outputs.append(self.head(j, chunk + outputs[-1] if j else chunk))
        return torch.cat(outputs, 1)


class WindowAttention(nn.Module):
    """Cascaded group attention inside square windows; one window where the stage is small enough.

    A side that windows do not divide is padded with zeros at the bottom and right, unmasked, as the
    authors' code does.
    """

    def __init__(self, width: int, heads: int, side: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.width, self.side, self.window = width, side, min(WINDOW, side)
        self.grid = -(-side // self.window)
        self.attn = CascadedGroupAttention(width, heads, self.window, kernels)

    def forward(self, x: Tensor) -> Tensor:
        if self.grid == 1:
            y: Tensor = self.attn.proj(self.attn(x))
            return y
        padding = self.grid * self.window - self.side
        if padding:
            x = F.pad(x, (0, padding, 0, padding))
        y = self.attn.proj(self.merge(self.attn(self.partition(x))))
        return y[:, :, : self.side, : self.side] if padding else y

    def partition(self, x: Tensor) -> Tensor:
        """``[B, C, g·w, g·w]`` → ``[B·g·g, C, w, w]``, rows first and then columns: 5-D at most."""
        g, w, c = self.grid, self.window, self.width
        x = x.reshape(-1, c, g, w, g * w).transpose(1, 2)
        return x.reshape(-1, c * w, g, w).transpose(1, 2).reshape(-1, c, w, w)

    def merge(self, x: Tensor) -> Tensor:
        """The inverse of ``partition``."""
        g, w, c = self.grid, self.window, self.width
        x = x.reshape(-1, g, c * w, w).transpose(1, 2)
        return x.reshape(-1, g, c, w, g * w).transpose(1, 2).reshape(-1, c, g * w, g * w)


class Block(nn.Module):
    """The sandwich: one attention between two token interactions and FFNs. Paper section 3.1."""

    def __init__(self, width: int, heads: int, side: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.dw0 = token_interaction(width)
        self.ffn0 = Residual(FFN(width))
        self.mixer = Residual(WindowAttention(width, heads, side, kernels))
        self.dw1 = token_interaction(width)
        self.ffn1 = Residual(FFN(width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.ffn1(self.dw1(self.mixer(self.ffn0(self.dw0(x)))))
        return y


class SqueezeExcite(nn.Module):
    """Channel gate from the global mean: reduction to a quarter, rounded to a multiple of 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        reduced = round(width / 4 / 8) * 8
        self.fc1 = nn.Conv2d(width, reduced, 1)
        self.fc2 = nn.Conv2d(reduced, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(gate))))


class PatchMerging(nn.Module):
    """Inverted residual with stride 2 and squeeze-excite, no skip: ``side`` → ``(side - 1) // 2 + 1``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = 4 * inputs
        self.conv1 = ConvBN(inputs, hidden)
        self.conv2 = ConvBN(hidden, hidden, 3, stride=2, groups=hidden)
        self.se = SqueezeExcite(hidden)
        self.conv3 = ConvBN(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        y: Tensor = self.conv3(self.se(x))
        return y


def interaction_and_ffn(width: int) -> nn.Sequential:
    return nn.Sequential(token_interaction(width), Residual(FFN(width)))


class Head(nn.Module):
    """BatchNorm and linear classifier on ``[B, width]``."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(width)
        self.l = nn.Linear(width, classes)  # the authors' key
        nn.init.trunc_normal_(self.l.weight, std=0.02)
        nn.init.zeros_(self.l.bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.l(self.bn(x))
        return y


def patch_embedding(width: int) -> nn.Sequential:
    """Four overlapping stride-2 convolutions: ``[B, 3, S, S]`` → ``[B, width, S / 16, S / 16]``."""
    return nn.Sequential(
        ConvBN(3, width // 8, 3, stride=2),
        nn.ReLU(),
        ConvBN(width // 8, width // 4, 3, stride=2),
        nn.ReLU(),
        ConvBN(width // 4, width // 2, 3, stride=2),
        nn.ReLU(),
        ConvBN(width // 2, width, 3, stride=2),
    )


class EfficientViT(nn.Module):
    """``[B, 3, image_size, image_size]`` float → ``[B, classes]`` logits.

    ``image_size`` is a multiple of 32 from 64 to 512 (ValueError otherwise).
    """

    blocks1: nn.Sequential
    blocks2: nn.Sequential
    blocks3: nn.Sequential

    def __init__(self, config: Config, image_size: int = 224, classes: int = 1000) -> None:
        super().__init__()
        check_image_size(image_size)
        self.image_size, self.classes = image_size, classes
        self.patch_embed = patch_embedding(config.widths[0])
        side = image_size // PATCH
        for stage, (width, depth, heads) in enumerate(zip(config.widths, config.depths, config.heads, strict=True)):
            blocks: list[nn.Module] = []
            if stage:
                previous = config.widths[stage - 1]
                side = (side - 1) // 2 + 1
                blocks = [interaction_and_ffn(previous), PatchMerging(previous, width), interaction_and_ffn(width)]
            blocks += [Block(width, heads, side, config.kernels) for _ in range(depth)]
            setattr(self, f"blocks{stage + 1}", nn.Sequential(*blocks))
        self.head = Head(config.widths[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks3(self.blocks2(self.blocks1(self.patch_embed(x))))
        y: Tensor = self.head(x.mean((2, 3), keepdim=True).flatten(1))  # XNNPACK's mean keeps its dimensions
        return y


def check_image_size(image_size: int) -> None:
    """Raise ValueError unless EfficientViT can be built for ``image_size`` pixels."""
    if image_size not in IMAGE_SIZES:
        raise ValueError(
            f"image size {image_size} does not fit EfficientViT: "
            f"take a multiple of {IMAGE_SIZE_STEP} from {IMAGE_SIZES[0]} to {IMAGE_SIZES[-1]}"
        )


def build(name: str, image_size: int = 224, classes: int = 1000) -> EfficientViT:
    """The named model (a key of ``CONFIGS``) with freshly initialised weights, in training mode."""
    return EfficientViT(CONFIGS[name], image_size, classes)


def own_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """See ``registry.Family``: the authors' and timm's; the authors' index buffers hold nothing that is not known."""
    authors = names.to_authors(tensors) if names.grammar(tensors) == "timm" else tensors
    return {key: value for key, value in authors.items() if not names.is_index_buffer(key)}


def is_sized(key: str) -> bool:
    """See ``registry.Family``."""
    return key.endswith(".attention_biases")


def resized(value: Tensor, shape: torch.Size) -> Tensor | None:
    """A bias table ``[heads, w * w]`` for another window, each head's resized bicubically as a w x w image.

    So do the authors when they fine-tune at a higher resolution (MODELS.md 1.3).
    """
    heads, old, new = len(value), isqrt(value.shape[-1]), isqrt(shape[1])
    if value.shape != (shape[0], old * old):
        return None
    return F.interpolate(value.reshape(1, heads, old, old), (new, new), mode="bicubic").reshape(heads, new * new)


def is_conditional(key: str) -> bool:
    """See ``registry.Family``: every size has the same parameters."""
    return False
