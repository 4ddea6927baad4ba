from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convert.fold import fold
from tests.convert.fold.conftest import AssertExact, AssertRefused

NAME = "attention_scale_into_query"
SCALE = 24**-0.5  # no power of two: the product rounds
PROBE = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
Scale = Callable[[Tensor], Tensor]
SCALINGS: dict[str, Scale] = {
    "q * c": lambda q: q * SCALE,
    "c * q": lambda q: SCALE * q,
    "torch.mul(q, c)": lambda q: torch.mul(q, SCALE),
    "q.mul(c)": lambda q: q.mul(SCALE),
}


class ConvolutionAttention(nn.Module):
    """Logits of an attention over pixels ``[B, 8, H, W]``, the query from a grouped convolution."""

    def __init__(self, bias: bool = True, scale: Scale = SCALINGS["q * c"]) -> None:
        super().__init__()
        self.q, self.k = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=bias), nn.Conv2d(8, 8, 1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(self.scale(self.q(x)).flatten(2).transpose(1, 2), self.k(x).flatten(2))


class LinearAttention(nn.Module):
    """Two heads over tokens ``[B, N, 8]``."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 8, bias=bias), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q = (self.q(x) * SCALE).view(2, 6, 2, 4).permute(0, 2, 1, 3).unsqueeze(0).squeeze(0)
        return q @ torch.permute(torch.reshape(self.k(x), (2, 6, 2, 4)), (0, 2, 3, 1))


@pytest.mark.parametrize("bias", [True, False])
def test_is_exact_for_a_convolution(assert_exact: AssertExact, bias: bool) -> None:
    folded = assert_exact(ConvolutionAttention(bias), PROBE, NAME)
    assert (folded.get_submodule("q").bias is not None) is bias


@pytest.mark.parametrize("bias", [True, False])
def test_is_exact_for_a_linear_layer(assert_exact: AssertExact, bias: bool) -> None:
    folded = assert_exact(LinearAttention(bias), TOKENS, NAME)
    assert (folded.get_submodule("q").bias is not None) is bias


@pytest.mark.parametrize("scale", SCALINGS.values(), ids=SCALINGS.keys())
def test_sees_every_form_of_the_product(assert_exact: AssertExact, scale: Scale) -> None:
    assert_exact(ConvolutionAttention(scale=scale), PROBE, NAME)


@pytest.mark.parametrize(
    "model",
    [
        ConvolutionAttention(scale=lambda q: (q * SCALE).relu()),  # more than layout before the product
        ConvolutionAttention(scale=lambda q: q * q),  # no constant
    ],
)
def test_other_multiplications_are_no_match(model: nn.Module) -> None:
    folded, reports = fold(model, PROBE)
    assert not any(report.count or report.skipped for report in reports)
    assert torch.equal(folded(PROBE), model(PROBE))


def test_refuses_a_query_after_an_activation(assert_refused: AssertRefused) -> None:
    reason = "the scaled value does not come straight from a convolution or a linear layer"
    assert_refused(ConvolutionAttention(scale=lambda q: q.tanh() * SCALE), PROBE, NAME, {reason: 1})


class AlsoUnscaled(ConvolutionAttention):
    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x)
        return torch.bmm((q * SCALE).flatten(2).transpose(1, 2), q.flatten(2))


def test_refuses_a_query_that_is_used_unscaled(assert_refused: AssertRefused) -> None:
    assert_refused(AlsoUnscaled(), PROBE, NAME, {"the value between the two is used elsewhere": 1})


class QueryLayerIsKeyLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(self.q(x) * SCALE, self.q(x.relu()).transpose(1, 2))


def test_refuses_a_layer_that_is_used_twice(assert_refused: AssertRefused) -> None:
    assert_refused(QueryLayerIsKeyLayer(), TOKENS, NAME, {"the layer is used more than once": 1})


def test_refuses_a_shared_weight(assert_refused: AssertRefused) -> None:
    model = LinearAttention()
    model.k.weight = model.q.weight
    assert_refused(model, TOKENS, NAME, {"the layer shares a weight with another place": 1})
