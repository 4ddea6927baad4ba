from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convert.fold import fold
from tests.convert.fold.conftest import AssertExact, AssertRefused

NAME = "attention_scale_into_query"
NO_LAYER = "the scaled value does not come from a convolution or a linear layer by changes of layout alone"
USED_ELSEWHERE = "the value between the two is used elsewhere"
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
    assert_refused(ConvolutionAttention(scale=lambda q: q.tanh() * SCALE), PROBE, NAME, {NO_LAYER: 1})


class AlsoUnscaled(ConvolutionAttention):
    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x)
        return torch.bmm((q * SCALE).flatten(2).transpose(1, 2), q.flatten(2))


def test_refuses_a_query_that_is_used_unscaled(assert_refused: AssertRefused) -> None:
    assert_refused(AlsoUnscaled(), PROBE, NAME, {USED_ELSEWHERE: 1})


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


# One layer for several values


def heads_as_channels(qkv: Tensor) -> tuple[Tensor, Tensor]:
    """As in edgevit's transformers: slices of ``[B, 3 * heads, N, 4]``."""
    batch, tokens, width = qkv.shape
    parts = qkv.reshape(batch, tokens, width // 4, 4).transpose(1, 2)
    return parts[:, :2].reshape(-1, tokens, 4), parts[:, 2:4].reshape(-1, tokens, 4)


def parts_first(qkv: Tensor) -> tuple[Tensor, Tensor]:
    """As in timm: ``[3, B, heads, N, 4]``, of which each part is an index."""
    parts = qkv.view(qkv.size(0), 6, -1, 2, 4).permute(2, 0, 3, 1, 4)
    return parts[0].flatten(0, 1), parts[1].flatten(0, 1)


def features_first(qkv: Tensor) -> tuple[Tensor, Tensor]:
    """Slices of the layer's own output, then heads."""
    q, k = (qkv[..., start : start + 8].contiguous().unsqueeze(2) for start in (0, 8))
    return (part.reshape(2, 6, 2, 4).transpose(1, 2).flatten(0, 1) for part in (q, k))  # type: ignore[return-value]


def interleaved(qkv: Tensor) -> tuple[Tensor, Tensor]:
    """Each head's query beside its own key, so that the rows of the queries do not adjoin."""
    parts = torch.transpose(qkv.reshape(2, 6, 2, -1), 1, 2).flatten(0, 1)
    return parts[:, :, :4], parts[:, :, 4:8]


Split = Callable[[Tensor], tuple[Tensor, Tensor]]
QUERY_ROWS: dict[Split, list[int]] = {
    heads_as_channels: [*range(8)],
    parts_first: [*range(8)],
    features_first: [*range(8)],
    interleaved: [0, 1, 2, 3, 12, 13, 14, 15],
}
KEY_ROWS: dict[Split, list[int]] = {
    heads_as_channels: [*range(8, 16)],
    parts_first: [*range(8, 16)],
    features_first: [*range(8, 16)],
    interleaved: [4, 5, 6, 7, 16, 17, 18, 19],
}
Also = Callable[[Tensor, Tensor, Tensor], Tensor]


class Fused(nn.Module):
    """Logits ``[2 * heads, 6, 6]`` of an attention over tokens ``[2, 6, 8]`` from one layer, plus something from v."""

    def __init__(self, split: Split, bias: bool = True, width: int = 24) -> None:
        super().__init__()
        self.qkv, self.split = nn.Linear(8, width, bias=bias), split

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        q, k = self.split(qkv)
        return torch.bmm(q * SCALE, k.transpose(1, 2)) + qkv[:1, :1, -1:]


@pytest.mark.parametrize("split", QUERY_ROWS, ids=lambda split: split.__name__)
@pytest.mark.parametrize("bias", [True, False])
def test_queries_and_keys_of_one_layer_share_the_scale(assert_exact: AssertExact, split: Split, bias: bool) -> None:
    model = Fused(split, bias)
    folded = assert_exact(model, TOKENS, NAME)
    assert_rows_scaled(folded, model, QUERY_ROWS[split] + KEY_ROWS[split], SCALE**0.5)
    assert len(list(folded.parameters())) == 1 + bias


def assert_rows_scaled(folded: nn.Module, model: nn.Module, rows: list[int], factor: float) -> None:
    parameters = dict(model.named_parameters())
    for name, after in folded.named_parameters():
        factors = (after / parameters[name]).reshape(len(after), -1)
        assert torch.allclose(factors[rows], torch.tensor(factor))
        others = [row for row in range(len(after)) if row not in rows]
        assert torch.equal(factors[others], torch.ones_like(factors[others]))


class KeyReadElsewhere(Fused):
    def __init__(self, also: Also) -> None:
        super().__init__(heads_as_channels)
        self.also = also

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        q, k = self.split(qkv)
        return torch.bmm(q * SCALE, k.transpose(1, 2)).sum() + self.also(qkv, q, k).sum()


class KeyFromElsewhere(Fused):
    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        q, k = self.split(qkv)
        return torch.bmm(q * SCALE, k.tanh().transpose(1, 2)) + qkv[:1, :1, -1:]


class NegativeScale(Fused):
    def forward(self, x: Tensor) -> Tensor:
        q, k = self.split(self.qkv(x))
        return torch.bmm(q * -SCALE, k.transpose(1, 2))


class TwoProducts(Fused):
    """Of which both read one scaled query, and one no key."""

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        q, k = self.split(qkv)
        scaled = q * SCALE
        return torch.bmm(scaled, k.transpose(1, 2)) + torch.bmm(scaled, k.tanh().transpose(1, 2))


@pytest.mark.parametrize(
    ("model", "factor"),
    [
        (KeyReadElsewhere(lambda qkv, q, k: qkv[..., 8].tanh()), SCALE),
        (KeyReadElsewhere(lambda qkv, q, k: torch.bmm(k, k.transpose(1, 2))), SCALE),
        (KeyFromElsewhere(heads_as_channels), SCALE),
        (TwoProducts(heads_as_channels), SCALE),
        (NegativeScale(heads_as_channels), -SCALE),
    ],
    ids=["a key's row is read elsewhere", "a key is read twice", "no key of the layer", "two products", "negative"],
)
def test_keys_that_cannot_share_leave_it_to_the_query(
    assert_exact: AssertExact, model: nn.Module, factor: float
) -> None:
    assert_rows_scaled(assert_exact(model, TOKENS, NAME), model, QUERY_ROWS[heads_as_channels], factor)


def test_is_exact_for_a_layer_of_queries_and_keys(assert_exact: AssertExact) -> None:
    class QueryAndKey(Fused):
        def forward(self, x: Tensor) -> Tensor:
            q, k = self.split(self.qkv(x))
            return torch.bmm(q * SCALE, k.transpose(1, 2))

    assert_exact(QueryAndKey(heads_as_channels, width=16), TOKENS, NAME)


def test_is_exact_where_the_key_is_scaled_too(assert_exact: AssertExact) -> None:
    class BothScaled(Fused):
        def forward(self, x: Tensor) -> Tensor:
            q, k = self.split(self.qkv(x))
            return torch.bmm(q * SCALE, k.transpose(1, 2) * 0.3)

    assert_exact(BothScaled(heads_as_channels), TOKENS, NAME, count=2)


class FusedConvolution(nn.Module):
    """Query and key of pixels ``[B, 8, H, W]`` from one convolution, and a mean; its output channels are the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.qk = nn.Conv2d(8, 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        qk = self.qk(x)
        return torch.bmm((qk[:, :4] * SCALE).flatten(2).transpose(1, 2), qk[:, 4:8].flatten(2)) + qk[:1, 8:].mean()


def test_is_exact_for_a_convolution_of_queries_and_keys(assert_exact: AssertExact) -> None:
    model = FusedConvolution()
    folded = assert_exact(model, PROBE, NAME)
    assert_rows_scaled(folded, model, [*range(8)], SCALE**0.5)


OVERLAPS: dict[str, Also] = {
    "one row of the query is read by something else": lambda qkv, q, k: q.sum() + qkv[..., 7].sum(),
    "the query is also read unscaled": lambda qkv, q, k: torch.bmm(q, k.transpose(1, 2)),
    "a mean over rows of the query is read": lambda qkv, q, k: qkv[..., 4:].mean(-1).sum(),
    "the input decides which row is read": lambda qkv, q, k: qkv.gather(2, (qkv[..., :1] > 0).long() + 8),
}


@pytest.mark.parametrize("also", OVERLAPS.values(), ids=OVERLAPS.keys())
def test_refuses_rows_that_are_read_elsewhere(assert_refused: AssertRefused, also: Also) -> None:
    class Overlapping(Fused):
        def forward(self, x: Tensor) -> Tensor:
            qkv = self.qkv(x)
            q, k = self.split(qkv)
            return torch.bmm(q * SCALE, k.transpose(1, 2)).sum() + also(qkv, q, k).sum()

    assert_refused(Overlapping(heads_as_channels), TOKENS, NAME, {USED_ELSEWHERE: 1})


def test_refuses_rows_that_are_scaled_twice(assert_refused: AssertRefused) -> None:
    class TwoScales(Fused):
        def forward(self, x: Tensor) -> Tensor:
            q, k = self.split(self.qkv(x))
            return torch.bmm(q * SCALE, k.transpose(1, 2)) - torch.bmm(q * 0.3, k.transpose(1, 2))

    assert_refused(TwoScales(heads_as_channels), TOKENS, NAME, {USED_ELSEWHERE: 2})


def test_scales_all_rows_where_the_query_is_a_mean_of_some(assert_exact: AssertExact) -> None:
    class MeanOfHeads(Fused):
        def forward(self, x: Tensor) -> Tensor:
            q = self.qkv(x).reshape(2, 6, 6, 4).mean(2)
            return torch.bmm(q * SCALE, x[..., :4].transpose(1, 2))

    model = MeanOfHeads(heads_as_channels)
    assert_rows_scaled(assert_exact(model, TOKENS, NAME), model, [*range(24)], SCALE)


def test_refuses_a_mean_of_rows_of_which_one_is_read_elsewhere(assert_refused: AssertRefused) -> None:
    class MeanOfHeads(Fused):
        def forward(self, x: Tensor) -> Tensor:
            qkv = self.qkv(x)
            q = qkv.reshape(2, 6, 6, 4).mean(2)
            return torch.bmm(q * SCALE, x[..., :4].transpose(1, 2)) + qkv[..., 20:21].tanh()

    assert_refused(MeanOfHeads(heads_as_channels), TOKENS, NAME, {USED_ELSEWHERE: 1})


def test_refuses_what_chunk_has_cut(assert_refused: AssertRefused) -> None:
    assert_refused(Fused(lambda qkv: qkv.chunk(3, -1)[:2]), TOKENS, NAME, {NO_LAYER: 1})
