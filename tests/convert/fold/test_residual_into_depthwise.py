from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convert.fold import fold
from tests.convert.fold.conftest import AssertExact, AssertRefused, Randomise, error

NAME = "residual_into_depthwise"
PROBE = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(1))
Add = Callable[[Tensor, Tensor], Tensor]
ADDITIONS: dict[str, Add] = {
    "x + y": lambda x, y: x + y,
    "y + x": lambda x, y: y + x,
    "torch.add(x, y)": lambda x, y: torch.add(x, y),
    "y.add(x)": lambda x, y: y.add(x),
}


class Residual(nn.Module):
    def __init__(self, m: nn.Module, add: Add = ADDITIONS["x + y"]) -> None:
        super().__init__()
        self.m, self.add = m, add

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.m(x))


def depthwise(kernel: int | tuple[int, int] = 3, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(8, 8, kernel, padding="same", groups=8, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [1, 3, 5, (3, 7)])
def test_is_exact(assert_exact: AssertExact, kernel: int | tuple[int, int], bias: bool) -> None:
    folded = assert_exact(Residual(depthwise(kernel, bias)), PROBE, NAME)
    assert [name for name, _ in folded.named_parameters()] == ["m.weight", "m.bias"][: 1 + bias]


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS.keys())
def test_sees_every_form_of_the_sum(assert_exact: AssertExact, add: Add) -> None:
    assert_exact(Residual(nn.Conv2d(8, 8, 3, padding=1, groups=8), add), PROBE, NAME)


def test_a_weighted_sum_is_no_match(randomise: Randomise) -> None:
    model = randomise(Residual(depthwise(), lambda x, y: torch.add(x, y, alpha=2)))
    folded, reports = fold(model, PROBE)
    assert not any(report.count or report.skipped for report in reports)
    assert torch.equal(folded(PROBE), model(PROBE))


def test_follows_the_fold_of_the_norm(randomise: Randomise) -> None:
    model = randomise(Residual(nn.Sequential(depthwise(bias=False), nn.BatchNorm2d(8))))
    folded, reports = fold(model, PROBE)
    assert {r.rule: r.count for r in reports if r.count} == {"batchnorm_into_convolution": 1, NAME: 1}
    assert [node.op for node in folded.graph.nodes] == ["placeholder", "call_module", "output"]
    assert error(folded(PROBE), model(PROBE)) <= 1e-5


@pytest.mark.parametrize(
    ("convolution", "reason"),
    [
        (nn.Conv2d(8, 8, 3, padding=1), "the convolution is not depthwise"),
        (nn.Conv2d(8, 8, 3, padding=1, groups=4), "the convolution is not depthwise"),
        (nn.Conv2d(8, 8, 4, padding="same", groups=8), "the kernel has no centre tap"),
        (nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), "the convolution is dilated"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular", groups=8), "the padding is not by zeros"),
    ],
)
def test_refuses_a_convolution_without_identity_tap(
    assert_refused: AssertRefused, convolution: nn.Conv2d, reason: str
) -> None:
    assert_refused(Residual(convolution), PROBE, NAME, {reason: 1})


@pytest.mark.parametrize(
    ("convolution", "side", "reason"),
    [
        (nn.Conv2d(8, 8, 3, stride=(1, 2), padding=1, groups=8), 1, "the convolution has a stride"),
        (nn.Conv2d(8, 8, 3, groups=8), 3, "the padding does not keep the shape"),
        (nn.Conv2d(8, 8, 1, padding=1, groups=8), 1, "the padding does not keep the shape"),
    ],
)
def test_refuses_a_convolution_that_changes_the_shape(
    assert_refused: AssertRefused, convolution: nn.Conv2d, side: int, reason: str
) -> None:
    """The input or the output is a single pixel, which broadcasts, so that the sum itself raises no error."""
    assert_refused(Residual(convolution), PROBE[..., :side, :side], NAME, {reason: 1})


class Twice(nn.Module):
    """``m`` around a residual, and once more on its result; ``read`` says what is read a second time."""

    def __init__(self, read: str) -> None:
        super().__init__()
        self.m, self.read = depthwise(), read

    def forward(self, x: Tensor) -> Tensor:
        y = self.m(x)
        return x + y + (y if self.read == "value" else self.m(x)).relu()


def test_refuses_a_value_that_is_used_elsewhere(assert_refused: AssertRefused) -> None:
    assert_refused(Twice("value"), PROBE, NAME, {"the value between the two is used elsewhere": 1})


def test_refuses_a_convolution_that_is_used_twice(assert_refused: AssertRefused) -> None:
    assert_refused(Twice("layer"), PROBE, NAME, {"the layer is used more than once": 1})


def test_refuses_a_shared_weight(assert_refused: AssertRefused) -> None:
    model = nn.Sequential(Residual(depthwise()), Residual(depthwise()))
    model[1].m.weight = model[0].m.weight
    assert_refused(model, PROBE, NAME, {"the layer shares a weight with another place": 2})
