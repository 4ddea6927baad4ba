"""Random norms and tables, and the two claims that every rule's tests make: exact, or refused for this reason."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from convert.fold import FoldReport, fold

TOLERANCE = 1e-5  # of the output's largest magnitude: some roundings of float32
VISIBLE = 1e-2  # what a fold that did nothing would be off by, at least

Randomise = Callable[[nn.Module], nn.Module]
AssertExact = Callable[..., fx.GraphModule]
AssertRefused = Callable[[nn.Module, Tensor, str, dict[str, int]], None]


@pytest.fixture
def randomise() -> Randomise:
    """Give a model seeded norm parameters, running statistics and attention biases, and set it to evaluation."""

    def apply(model: nn.Module) -> nn.Module:
        torch.manual_seed(7)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                randomise_uniformly((module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0))
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
                randomise_uniformly((module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5))
        for name, parameter in model.named_parameters():
            if name.endswith("attention_biases"):
                nn.init.normal_(parameter)
        return model.eval()

    return apply


@pytest.fixture
def assert_exact(randomise: Randomise) -> AssertExact:
    """Fold a randomised model by ``rule`` alone, ``count`` times, and return the result."""

    def apply(model: nn.Module, probe: Tensor, rule: str, count: int = 1) -> fx.GraphModule:
        expected = randomise(model)(probe).detach()
        state = copy.deepcopy(model.state_dict())
        folded, reports = fold(model, probe)
        assert {r.rule: r.count for r in reports if r.count} == {rule: count}
        assert not report_of(rule, reports).skipped
        assert report_of(rule, reports).max_abs_error == error(folded(probe), expected)
        assert error(folded(probe), expected) <= TOLERANCE * float(expected.abs().max())
        assert error(unfolded_weights(folded, model)(probe), expected) > VISIBLE * float(expected.abs().max())
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        return folded

    return apply


@pytest.fixture
def assert_refused(randomise: Randomise) -> AssertRefused:
    """Fold a randomised model that ``rule`` must leave alone, for these reasons."""

    def apply(model: nn.Module, probe: Tensor, rule: str, reasons: dict[str, int]) -> None:
        expected = randomise(model)(probe)
        folded, reports = fold(model, probe)
        assert not any(r.count for r in reports)
        assert report_of(rule, reports).skipped == reasons
        assert torch.equal(folded(probe), expected)

    return apply


def randomise_uniformly(*tensors: tuple[Tensor | None, float, float]) -> None:
    """Each tensor that there is, between its bounds."""
    for tensor, low, high in tensors:
        if tensor is not None:
            nn.init.uniform_(tensor, low, high)


def report_of(rule: str, reports: list[FoldReport]) -> FoldReport:
    (report,) = (r for r in reports if r.rule == rule)
    return report


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).detach().abs().max())


def unfolded_weights(folded: fx.GraphModule, original: nn.Module) -> fx.GraphModule:
    """The folded graph with the weights from before the fold: what the output would be had no weight changed."""
    undone, before = copy.deepcopy(folded), dict(original.named_parameters())
    with torch.no_grad():
        for name, parameter in undone.named_parameters():
            parameter.copy_(before[name] if name in before else torch.zeros_like(parameter))
    return undone
