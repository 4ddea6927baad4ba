"""Both rules about a norm beside a linear layer: before it and after it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from convert.fold import Rule, batchnorm_after_linear, batchnorm_before_linear
from tests.convert.fold.conftest import AssertExact, AssertRefused

BEFORE, AFTER = "batchnorm_before_linear", "batchnorm_after_linear"
PROBE = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))


def norm_then_linear(bias: bool = True, **options: bool) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(8, **options), nn.Linear(8, 8, bias=bias))


def linear_then_norm(bias: bool = True, **options: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8, bias=bias), nn.BatchNorm1d(8, **options))


both = pytest.mark.parametrize(("build", "name"), [(norm_then_linear, BEFORE), (linear_then_norm, AFTER)])
Build = Callable[..., nn.Sequential]


@both
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_is_exact(assert_exact: AssertExact, build: Build, name: str, bias: bool, affine: bool) -> None:
    folded = assert_exact(build(bias, affine=affine), PROBE, name)
    assert [type(module) for module in folded.children()] == [nn.Linear]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3)), BEFORE),
        (nn.Sequential(nn.Linear(8, 3), nn.BatchNorm1d(3)), AFTER),
    ],
)
def test_is_exact_where_the_width_changes(assert_exact: AssertExact, model: nn.Module, name: str) -> None:
    assert_exact(model, PROBE, name)


@both
def test_refuses_a_norm_without_running_statistics(assert_refused: AssertRefused, build: Build, name: str) -> None:
    assert_refused(build(track_running_stats=False), PROBE, name, {"the norm has no running statistics": 1})


@pytest.mark.parametrize(
    ("build", "rule"), [(norm_then_linear, batchnorm_before_linear), (linear_then_norm, batchnorm_after_linear)]
)
def test_refuses_a_norm_in_training_mode(build: Build, rule: Rule) -> None:
    model = fx.symbolic_trace(build().train())
    (node,) = (node for node in model.graph.nodes if rule.matches(model, node))
    assert rule.check(model, node) == "the norm is in training mode"


@both
def test_refuses_a_norm_over_another_dimension(assert_refused: AssertRefused, build: Build, name: str) -> None:
    """On ``[B, 8, 8]`` the norm acts on the middle dimension and the linear layer on the last."""
    probe = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(2))
    assert_refused(build(), probe, name, {"the norm and the linear layer act on different dimensions": 1})


class InTheMiddle(nn.Module):
    """Two layers in a row, of which the first one's output is read a second time."""

    def __init__(self, pair: nn.Sequential) -> None:
        super().__init__()
        self.first, self.second = pair

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x) + x.relu()


@both
def test_refuses_a_value_that_is_used_elsewhere(assert_refused: AssertRefused, build: Build, name: str) -> None:
    assert_refused(InTheMiddle(build()), PROBE, name, {"the value between the two is used elsewhere": 1})


@both
def test_refuses_a_linear_layer_that_is_used_twice(assert_refused: AssertRefused, build: Build, name: str) -> None:
    model = build()
    linear = next(module for module in model if isinstance(module, nn.Linear))
    reason = {"the layer is used more than once": 1}
    assert_refused(nn.Sequential(model, nn.ReLU(), linear), PROBE, name, reason)


@both
def test_refuses_a_shared_weight(assert_refused: AssertRefused, build: Build, name: str) -> None:
    model, other = build(), nn.Linear(8, 8)
    other.weight = next(module for module in model if isinstance(module, nn.Linear)).weight
    reason = {"the layer shares a weight with another place": 1}
    assert_refused(nn.Sequential(model, nn.ReLU(), other), PROBE, name, reason)
