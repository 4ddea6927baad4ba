from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from convert.fold import batchnorm_into_convolution as rule
from convert.fold import fold
from tests.convert.fold.conftest import AssertExact, AssertRefused, Randomise, error

NAME = "batchnorm_into_convolution"
PROBE = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": 1, "groups": 4},
        {"kernel_size": 5, "stride": 2, "groups": 8},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "padding_mode": "reflect"},
    ],
)
def test_is_exact(assert_exact: AssertExact, options: dict[str, Any], bias: bool, affine: bool) -> None:
    convolution = nn.Conv2d(8, 16, bias=bias, **options)
    folded = assert_exact(nn.Sequential(convolution, nn.BatchNorm2d(16, affine=affine)), PROBE, NAME)
    assert [name for name, _ in folded.named_modules()] == ["", "0"]
    assert folded.get_parameter("0.weight").dtype == folded.get_parameter("0.bias").dtype == torch.float32


def test_uses_the_eps_of_the_norm(assert_exact: AssertExact) -> None:
    assert_exact(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, eps=0.5)), PROBE, NAME)


def test_folds_a_chain_of_norms(assert_exact: AssertExact) -> None:
    assert_exact(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)), PROBE, NAME, count=2)


class OneNormTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.b(self.norm(self.a(x))))


def test_one_norm_folds_into_two_convolutions(assert_exact: AssertExact) -> None:
    folded = assert_exact(OneNormTwice(), PROBE, NAME, count=2)
    assert [name for name, _ in folded.named_modules()] == ["", "a", "b"]


class OneConvolutionTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.a, self.b = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.c(self.a(self.c(x))))


def test_refuses_a_convolution_that_is_used_twice(assert_refused: AssertRefused) -> None:
    assert_refused(OneConvolutionTwice(), PROBE, NAME, {"the layer is used more than once": 2})


def test_refuses_a_shared_weight(assert_refused: AssertRefused) -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    model[2].weight = model[0].weight
    assert_refused(model, PROBE, NAME, {"the layer shares a weight with another place": 2})


class WeightReadDirectly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.bn = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.c(x)) * self.c.weight.sum()


def test_refuses_a_weight_that_the_model_reads_itself(assert_refused: AssertRefused) -> None:
    assert_refused(WeightReadDirectly(), PROBE, NAME, {"the layer shares a weight with another place": 1})


class ConvolutionReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.bn = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(x)
        return self.bn(x) + x.relu()


def test_refuses_a_convolution_whose_output_is_read_before_the_norm(assert_refused: AssertRefused) -> None:
    assert_refused(ConvolutionReadTwice(), PROBE, NAME, {"the value between the two is used elsewhere": 1})


def test_refuses_a_norm_without_running_statistics(assert_refused: AssertRefused) -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, track_running_stats=False))
    assert_refused(model, PROBE, NAME, {"the norm has no running statistics": 1})


def test_refuses_a_norm_in_training_mode() -> None:
    model = fx.symbolic_trace(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)).train())
    (node,) = (node for node in model.graph.nodes if rule.matches(model, node))
    assert rule.check(model, node) == "the norm is in training mode"
    model.eval()
    assert rule.check(model, node) is None


def test_a_subclass_of_a_convolution_is_no_match(randomise: Randomise) -> None:
    class Doubled(nn.Conv2d):
        __module__ = "torch.nn"  # a leaf for the tracer

        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    model = randomise(nn.Sequential(Doubled(8, 8, 1), nn.BatchNorm2d(8)))
    folded, reports = fold(model, PROBE)
    assert not any(report.count or report.skipped for report in reports)
    assert error(folded(PROBE), model(PROBE)) == 0
