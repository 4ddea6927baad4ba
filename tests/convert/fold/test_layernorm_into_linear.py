from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from convert.fold import fold
from convert.registry import TARGETS
from convert.source import Source
from convert.target import target
from tests.convert.fold.conftest import AssertExact, AssertRefused, Randomise

NAME = "layernorm_into_linear"
OTHER_READER = "the normalised value is also read by what is no linear layer"
SEVERAL_CHANNELS = "a feature of the linear layer comes from several channels"
PROBE = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(1))
Between = Callable[[Tensor, Tensor], Tensor]


def chosen(x: Tensor) -> Tensor:
    """``[B, 5]`` int64: tokens that the input decides."""
    return x.sum(-1).topk(5, sorted=False).indices


# What may stand between a norm n of tokens x [2, 9, 8] and a linear layer that has 8 inputs.
BETWEEN: dict[str, Between] = {
    "nothing": lambda n, x: n,
    "the first token": lambda n, x: n[:, 0],
    "the other tokens": lambda n, x: n[:, 1:],
    "the mean": lambda n, x: n.mean(1),
    "the mean with its dimension": lambda n, x: torch.mean(n, dim=(1,), keepdim=True),
    "tokens by fixed numbers": lambda n, x: n[:, torch.tensor([3, 0, 3])],
    "tokens by index": lambda n, x: n[:, chosen(x)[0]],
    "tokens of one image by index": lambda n, x: n[n.size(0) - 1, chosen(x)[0]],
    "tokens by index_select": lambda n, x: torch.index_select(n, 1, chosen(x)[1]),
    "tokens by gather": lambda n, x: n.gather(1, chosen(x).unsqueeze(-1).expand(-1, -1, 8)),
    "tokens by gather, dim named": lambda n, x: n.gather(dim=-2, index=chosen(x).unsqueeze(-1).expand(-1, -1, 8)),
    "sizes of the value": lambda n, x: n[:, 1 : n.shape[1]].reshape(n.size(0), 2, 4, n.shape[2]).flatten(1, 2),
    "there and back": lambda n, x: torch.transpose(n.permute(0, 2, 1).contiguous(), 1, 2).unsqueeze(0).squeeze(0),
    "channels in another order": lambda n, x: n.view(2, 9, 2, 4).transpose(2, 3).reshape(2, 9, 8),
}


class NormThenLinear(nn.Module):
    """``[2, 9, 8]`` → a norm, something between, a linear layer."""

    def __init__(
        self, between: Between = BETWEEN["nothing"], inputs: int = 8, bias: bool = True, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.norm, self.between = norm or nn.LayerNorm(8, eps=1e-3), between
        self.linear = nn.Linear(inputs, 5, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(self.between(self.norm(x), x))
        return y


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_is_exact_and_keeps_a_bare_norm(assert_exact: AssertExact, bias: bool, shift: bool) -> None:
    folded = assert_exact(NormThenLinear(bias=bias, norm=nn.LayerNorm(8, eps=1e-3, bias=shift)), PROBE, NAME)
    norm = folded.get_submodule("norm")
    assert type(norm) is nn.LayerNorm
    assert (norm.normalized_shape, norm.eps, norm.training) == ((8,), 1e-3, False)
    assert [name for name, _ in folded.named_parameters()] == ["linear.weight", "linear.bias"][: 1 + (bias or shift)]
    assert all(parameter.dtype == torch.float32 for parameter in folded.parameters())


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN.keys())
def test_is_exact_where_tokens_are_taken_moved_or_averaged(assert_exact: AssertExact, between: Between) -> None:
    assert_exact(NormThenLinear(between), PROBE, NAME)


def test_is_exact_where_a_feature_is_a_channel_of_one_token(assert_exact: AssertExact) -> None:
    assert_exact(NormThenLinear(lambda n, x: n.flatten(1), inputs=72), PROBE, NAME)


def test_is_exact_inside_a_sequence(assert_exact: AssertExact) -> None:
    folded = assert_exact(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()), PROBE, NAME)
    assert [name for name, _ in folded.named_parameters()] == ["1.weight", "1.bias"]


class TwoHeads(nn.Module):
    """As in LV-ViT: one classifier for the first token, one for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head, self.aux_head = nn.LayerNorm(8), nn.Linear(8, 5), nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x)
        y: Tensor = self.head(n[:, 0]) + 0.5 * self.aux_head(n[:, 1:]).amax(1)
        return y


def test_folds_into_every_linear_layer_that_reads_the_norm(assert_exact: AssertExact) -> None:
    folded = assert_exact(TwoHeads(), PROBE, NAME)
    assert [name for name, _ in folded.named_parameters()] == [
        "head.weight",
        "head.bias",
        "aux_head.weight",
        "aux_head.bias",
    ]


def test_folds_a_chain_of_norms(assert_exact: AssertExact) -> None:
    layers = (nn.LayerNorm(8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8))
    assert_exact(nn.Sequential(*layers), PROBE, NAME, count=2)


def test_folding_twice_changes_nothing(randomise: Randomise) -> None:
    once, _ = fold(randomise(NormThenLinear()), PROBE)
    twice, reports = fold(once, PROBE)
    assert not any(report.count or report.skipped for report in reports)
    assert torch.equal(twice(PROBE), once(PROBE))


class Classifier(nn.Module):
    """``[B, 3, 8, 8]`` → logits ``[B, 5]``, with a norm on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.head = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.patches(x).flatten(2).transpose(1, 2))[:, 0])
        return y


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_runs_the_bare_norm(randomise: Randomise, tmp_path: Path, name: str) -> None:
    model, images = randomise(Classifier()), torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    folded, reports = fold(model, images)
    assert {report.rule: report.count for report in reports if report.count} == {NAME: 1}
    target(name).lower(Source(torch.export.export(folded, (images,)), "fp32"), tmp_path, {})
    logits = torch.from_numpy(target(name).load(tmp_path)(images.numpy()))
    assert torch.allclose(logits, model(images), atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        NormThenLinear(lambda n, x: n.tanh()),
        NormThenLinear(lambda n, x: n.amax(1)),
        NormThenLinear(lambda n, x: torch.cat([n, x], 1)),
        NormThenLinear(lambda n, x: n.mean(1, dtype=torch.float32)),
        NormThenLinear(lambda n, x: n[x[..., 0] > 0]),
        NormThenLinear(lambda n, x: n[..., chosen(x)[0], :]),
        NormThenLinear(norm=nn.LayerNorm(8, elementwise_affine=False)),
    ],
)
def test_other_ways_between_the_two_are_no_match(randomise: Randomise, model: nn.Module) -> None:
    expected = randomise(model)(PROBE)
    folded, reports = fold(model, PROBE)
    assert not any(report.count or report.skipped for report in reports)
    assert torch.equal(folded(PROBE), expected)


def test_refuses_a_norm_over_tokens_and_channels(assert_refused: AssertRefused) -> None:
    model = NormThenLinear(norm=nn.LayerNorm((9, 8)))
    assert_refused(model, PROBE, NAME, {"the norm scales more than the channels": 1})


class NormTwice(NormThenLinear):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(self.norm(x)) + self.linear(self.norm(x.relu()))
        return y


class NormReadDirectly(NormThenLinear):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x) * self.norm.weight.sum()
        return y


def test_refuses_a_norm_that_is_used_twice(assert_refused: AssertRefused) -> None:
    assert_refused(NormTwice(), PROBE, NAME, {"the layer is used more than once": 2})


def test_refuses_a_norm_that_the_model_reads_itself(assert_refused: AssertRefused) -> None:
    assert_refused(NormReadDirectly(), PROBE, NAME, {"the layer shares a weight with another place": 1})


# Each reads the norm n of x besides the linear layer, or instead of a part of what it reads.
ALSO: dict[str, Callable[[Tensor], Tensor]] = {
    "a residual": lambda n: n[:, 0, :5],
    "an activation": lambda n: n.tanh()[:, 0, :5],
    "a functional linear layer": lambda n: nn.functional.linear(n[:, 0], torch.ones(5, 8)),
}


@pytest.mark.parametrize("also", ALSO.values(), ids=ALSO.keys())
def test_refuses_a_norm_with_another_reader(assert_refused: AssertRefused, also: Callable[[Tensor], Tensor]) -> None:
    class ReadTwice(NormThenLinear):
        def forward(self, x: Tensor) -> Tensor:
            n = self.norm(x)
            y: Tensor = self.linear(n[:, 0]) + also(n)
            return y

    assert_refused(ReadTwice(), PROBE, NAME, {OTHER_READER: 1})


def test_refuses_a_norm_that_the_model_returns(assert_refused: AssertRefused) -> None:
    class Returned(NormThenLinear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            n = self.norm(x)
            return self.linear(n), n[:, 0]

    model = Returned()
    _, reports = fold(model, PROBE)
    assert [report.skipped for report in reports if report.skipped] == [{OTHER_READER: 1}]


@pytest.mark.parametrize(
    ("between", "inputs"),
    [
        (lambda n, x: n.transpose(1, 2), 9),  # the features are tokens
        (lambda n, x: n.mean(2), 9),
        (lambda n, x: n.reshape(2, 6, 12), 12),  # channel and feature out of step
        (lambda n, x: n.gather(2, (x > 0).long()), 8),  # the input decides the channel
        (lambda n, x: n[:, :, chosen(x)[0]], 5),
        # Rows that begin at channel 0, 1, 2 ..., of which the input decides one: the first is the channels in order.
        (lambda n, x: n.reshape(2, 8, 9)[:, :, :8][:, chosen(x)[0]], 8),
        (lambda n, x: n.reshape(2, 8, 9)[:, :, :8].index_select(1, chosen(x)[0]), 8),
        (lambda n, x: n.reshape(2, 8, 9)[:, :, :8].mean(1), 8),
    ],
)
def test_refuses_features_of_several_channels(assert_refused: AssertRefused, between: Between, inputs: int) -> None:
    assert_refused(NormThenLinear(between, inputs), PROBE, NAME, {SEVERAL_CHANNELS: 1})


def test_refuses_a_linear_layer_that_is_used_twice(assert_refused: AssertRefused) -> None:
    class LinearTwice(NormThenLinear):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.linear(self.norm(x)) + self.linear(x)
            return y

    assert_refused(LinearTwice(), PROBE, NAME, {"the layer is used more than once": 1})


def test_refuses_a_linear_layer_that_shares_its_weight(assert_refused: AssertRefused) -> None:
    model = TwoHeads()
    model.aux_head.weight = model.head.weight
    assert_refused(model, PROBE, NAME, {"the layer shares a weight with another place": 1})
