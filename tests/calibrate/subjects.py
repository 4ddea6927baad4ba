"""What is calibrated and lowered in the tests, each made once: a four-layer net, and a narrow EfficientViT."""

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
NARROW = Config((32, 64, 96), (1, 1, 1), (2, 2, 2), (5, 3))

FLOAT_RESIDUAL = Recipe(
    (Rule("stem.*", "float", "three channels"), Rule("*.residual", "float", ""), Rule("*", "int8", "")), "minmax"
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
    for name, parameter in model.named_parameters():
        if name.endswith("attention_biases"):
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
