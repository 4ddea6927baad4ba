import pytest
import torch
from torch import Tensor, nn

from convert.fold import RULES, RULES_BEFORE_INT8, fold
from convert.fold.apply import integers_differ
from tests.convert.fold.conftest import Randomise, error, report_of

PROBE = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


class OtherwiseInTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if self.training else x


def test_traces_the_path_of_evaluation() -> None:
    probe = torch.ones(1, 2)
    folded, _ = fold(OtherwiseInTraining().train(), probe)
    assert torch.equal(folded(probe), probe)


class Selecting(nn.Module):
    """Logits, ids of the best of them, and scores of another size, as a model that prunes tokens returns."""

    def __init__(self, finest: float) -> None:
        super().__init__()
        self.norm, self.linear, self.finest = nn.BatchNorm1d(8), nn.Linear(8, 8), finest

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.linear(self.norm(x))
        return y, (y * self.finest).long(), 1e6 * y


@pytest.mark.parametrize(("finest", "changed"), [(1.0, False), (2.0**30, True)])
def test_measures_the_logits_of_a_tuple_and_tells_a_change_of_integers(
    randomise: Randomise, finest: float, changed: bool
) -> None:
    """``finest`` decides whether the integers hold the last bits of the values."""
    model = randomise(Selecting(finest))
    expected = model(PROBE)
    folded, reports = fold(model, PROBE)
    outputs = folded(PROBE)
    assert [type(output) for output in outputs] == [Tensor] * 3
    assert {report.rule: report.integers_changed for report in reports if report.count or report.integers_changed} == {
        "batchnorm_before_linear": changed
    }
    assert 0 < error(outputs[0], expected[0]) < 1e-5 < error(outputs[2], expected[2])
    assert report_of("batchnorm_before_linear", reports).max_abs_error == error(outputs[0], expected[0])


def test_the_order_of_integers_does_not_count() -> None:
    logits, ids = torch.zeros(2, 3), torch.tensor([[4, 1, 7], [2, 9, 0]])
    assert not integers_differ((logits, ids, ids.float()), (logits, ids.flip(1), ids.float() + 1))
    assert integers_differ((logits, ids), (logits, ids.flip(0)))
    assert integers_differ((logits, ids), (logits, torch.tensor([[4, 1, 7], [2, 9, 1]])))


def test_int8_keeps_the_affine_part_of_a_layernorm() -> None:
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))
    for rules, kept in ((RULES, False), (RULES_BEFORE_INT8, True)):
        folded, reports = fold(model, torch.randn(3, 4), rules)
        assert (folded.get_submodule("0").weight is not None) is kept
        assert len(reports) == len(rules) == 7 - kept
