"""What is calibrated and lowered in the tests, each made once: a four-layer net, a narrow EfficientViT, a small ViT."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from calibrate.program import QuantizedProgram
from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from calibrate.recipes import EFFICIENTVIT
from convert.fold import fold
from edgevit.models.efficientvit import Config, ConvBN, EfficientViT

torch.set_num_threads(1)
SIDE = 96  # three stages of 6, 3 and 2 tokens a side: no map is a single pixel
WIDTH, HEADS, KEPT = 64, 2, 9
NARROW = Config((32, 64, 96), (1, 1, 1), (2, 2, 2), (5, 3))

FLOAT_RESIDUAL = Recipe(
    (Rule("stem.*", "float", "three channels"), Rule("*.residual", "float", ""), Rule("*", "int8", "")), "minmax"
)
TOKENS = Recipe(
    (Rule("score_predictor.*", "float", ""), Rule("*.residual", "float", ""), Rule("*", "int8", "")), "histogram"
)
INT8_RESIDUAL = Recipe((Rule("stem.*", "float", "three channels"), Rule("*", "int8", "")), "minmax")


class Net(nn.Module):
    """``[B, 3, 16, 16]`` → ``[B, 5]``: stem, residual branch of two pointwise layers, depthwise layer, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = ConvBN(3, 8, 3, stride=2), ConvBN(8, 16), ConvBN(16, 8)
        self.dw, self.head = ConvBN(8, 8, 3, groups=8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.b(torch.relu(self.a(x)))
        return self.head(self.dw(x).mean((2, 3)))


class TokenBlock(nn.Module):
    """Attention of two heads, and an MLP, on ``[B, N, 64]``."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH, bias=bias), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, d = x.shape[1], WIDTH // HEADS
        qkv = self.qkv(self.norm1(x)).reshape(-1, n, 3 * HEADS, d).transpose(1, 2)
        q, k, v = (qkv[:, part * HEADS : (part + 1) * HEADS].reshape(-1, n, d) for part in range(3))
        weights = torch.bmm(q * d**-0.5, k.transpose(1, 2)).softmax(-1)
        attended = torch.bmm(weights, v).reshape(-1, HEADS, n, d).transpose(1, 2).reshape(-1, n, WIDTH)
        x = x + self.proj(attended)
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class TokenNet(nn.Module):
    """``[B, 3, 16, 16]`` → ``[B, 10]``: a ViT that keeps 9 of its 16 patches between its two blocks.

    It also returns their ids, int64 ``[B, 9]``, and the scores ``[B, 16]``. Its second block has no bias for qkv.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, WIDTH, 4, 4)
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Parameter(torch.zeros(1, 17, WIDTH))
        self.blocks = nn.ModuleList(TokenBlock(bias) for bias in (True, False))
        self.score_predictor = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), patches], 1) + self.pos_embed
        tokens = self.blocks[0](tokens)
        z = self.score_predictor(tokens[:, 1:])
        scores = z[:, :, 0] - z[:, :, 1]
        ids = torch.topk(scores, KEPT, sorted=False)[1]
        kept = tokens[:, 1:].gather(1, ids.unsqueeze(2).expand(-1, -1, WIDTH))
        tokens = self.blocks[1](torch.cat([tokens[:, :1], kept], 1))
        return self.head(self.norm(tokens[:, 0])), ids, scores


def randomise(model: nn.Module, seed: int = 7) -> nn.Module:
    """Seeded norm parameters, statistics and attention biases: fresh ones would make every block the identity."""
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
            ):
                nn.init.uniform_(tensor, low, high, generator=random)
        elif isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=random)
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=random)
    for name, parameter in model.named_parameters():
        if name.endswith(("attention_biases", "cls_token", "pos_embed")):
            nn.init.normal_(parameter, generator=random)
    return model.eval()


def images(count: int, seed: int, side: int) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@cache
def net() -> GraphModule:
    torch.manual_seed(0)
    return fold(randomise(Net()), images(1, 0, 16))[0]


def net_batches() -> list[Tensor]:
    return [images(4, seed, 16) for seed in range(3)]


@cache
def quantized_net(recipe: Recipe) -> QuantizedProgram:
    return calibrate(net(), recipe, net_batches(), images(1, 0, 16))


@cache
def vit() -> GraphModule:
    torch.manual_seed(0)
    return fold(randomise(EfficientViT(NARROW, SIDE, 10)), images(1, 0, SIDE))[0]


@cache
def quantized_vit() -> QuantizedProgram:
    batches = [images(8, seed, SIDE) for seed in range(4)]
    return calibrate(vit(), EFFICIENTVIT, batches, images(1, 0, SIDE))


@cache
def token_net() -> TokenNet:
    torch.manual_seed(0)
    model = randomise(TokenNet())
    assert isinstance(model, TokenNet)
    with torch.no_grad():
        model.score_predictor[1].weight *= 10  # so that rounding swaps no two tokens
    return model


@cache
def quantized_token_net() -> QuantizedProgram:
    batches = [images(8, seed, 16) for seed in range(4)]
    return calibrate(token_net(), TOKENS, batches, images(1, 0, 16))
