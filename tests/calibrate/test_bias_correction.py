"""A bias takes back what rounding its operator's weights does to the mean of the output."""

import pytest
import torch
from torch import Tensor, nn

from calibrate.bias_correction import correct_biases
from calibrate.prepared import Prepared, convert
from calibrate.ptq import prepare
from calibrate.quantizer import OPERATOR_META
from calibrate.recipe import Recipe, Rule
from calibrate.rounding import choose_rounding, weights_of
from edgevit.errors import InputError
from tests.calibrate.subjects import TOKENS, images, token_net
from tests.calibrate.test_rounding import batches, inputs, kinds, prepared_kinds

ALL_INT8 = Recipe((Rule("*", "int8", ""),), "minmax")
STEP = 2**-7


class Shifted(nn.Module):
    """Of ``a`` most weights are rounded down by 0.4 of a step, those of ``b`` not at all; inputs are positive."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        with torch.no_grad():
            self.a.weight.copy_(torch.randint(-60, 60, self.a.weight.shape) + 0.4)
            self.b.weight.copy_(torch.randint(-60, 60, self.b.weight.shape))
            for weight in (self.a.weight, self.b.weight):
                weight.flatten(1)[:, 0] = 127
                weight.mul_(STEP)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x.abs()).mean((2, 3)))


def shifted() -> nn.Module:
    torch.manual_seed(0)
    return Shifted().eval()


def shift(model: nn.Module, prepared: Prepared) -> float:
    """Of the mean logits, on images that calibration did not see."""
    x = images(64, 99, 16)
    with torch.no_grad():
        return float((prepared.logits(x) - model(x)).mean(0).norm())


def shown() -> list[Tensor]:
    return [images(16, seed, 16) for seed in range(4)]


def biases(prepared: Prepared) -> dict[str, Tensor]:
    return {
        name.removesuffix(".bias"): value.detach().clone()
        for name, value in prepared.module.named_parameters()
        if name.endswith(".bias")
    }


def test_the_mean_of_the_logits_returns() -> None:
    model = shifted()
    prepared = prepare(model, ALL_INT8, shown(), images(1, 0, 16))
    before = shift(model, prepared)
    correct_biases(prepared, shown(), weights_of(prepared))
    assert shift(model, prepared) < 0.05 * before


def test_an_operator_mends_only_its_own_error() -> None:
    prepared = prepare(shifted(), ALL_INT8, shown(), images(1, 0, 16))
    before = biases(prepared)
    correct_biases(prepared, shown(), weights_of(prepared))
    after = biases(prepared)
    assert torch.equal(after["b"], before["b"])
    assert float((after["a"] - before["a"]).abs().min()) > 26 * 0.3 * STEP * 0.7  # 26 inputs, of mean 0.8


def test_a_bias_moves_by_the_mean_over_images_and_positions() -> None:
    prepared = prepared_kinds()
    before, exact = biases(prepared), weights_of(prepared)
    expected = {}
    for node, (x, rounded) in inputs(prepared, batches()).items():
        name, bias = node.meta[OPERATOR_META], node.args[2]
        assert bias is not None
        both = [node.target(x, weight, None, *node.args[3:]).double() for weight in (exact[name], rounded)]
        means = [y.mean((0, 2, 3)) if y.ndim == 4 else y.mean((0, 1)) for y in both]
        expected[name] = before[name] + means[0] - means[1]
    correct_biases(prepared, batches(), exact)
    after = biases(prepared)
    assert after.keys() == expected.keys()
    for name, bias in after.items():
        assert not torch.equal(bias, before[name])
        assert torch.allclose(bias.double(), expected[name], atol=1e-7)


def test_weights_that_were_put_on_the_grid_before_are_compared_with_those_they_had() -> None:
    model = shifted()
    prepared = prepare(model, ALL_INT8, shown(), images(1, 0, 16))
    exact = weights_of(prepared)
    choose_rounding(prepared, shown())
    before = biases(prepared)
    correct_biases(prepared, shown(), weights_of(prepared))
    assert torch.equal(biases(prepared)["a"], before["a"])  # on the grid already
    without = shift(model, prepared)
    correct_biases(prepared, shown(), exact)
    assert not torch.equal(biases(prepared)["a"], before["a"])
    assert shift(model, prepared) < without


def test_conversion_changes_no_bit_and_an_operator_without_a_bias_gets_none() -> None:
    seen = [images(4, seed, 16) for seed in range(2)]
    prepared = prepare(token_net(), TOKENS, seen, images(1, 0, 16))
    x, before = images(8, 9, 16), biases(prepared)
    nearest = prepared.logits(x)
    correct_biases(prepared, seen, weights_of(prepared))
    frozen = prepared.logits(x)
    assert "blocks.1.qkv" in weights_of(prepared)
    assert biases(prepared).keys() == before.keys()
    assert "blocks.1.qkv" not in before
    assert not torch.equal(frozen, nearest)
    assert torch.equal(convert(prepared).run(x), frozen)


def test_the_model_stays_as_it_is() -> None:
    model = kinds()
    prepared = prepare(model, ALL_INT8, batches(), images(1, 0, 16))
    correct_biases(prepared, batches(), weights_of(prepared))
    expected = kinds().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_neither_the_order_of_the_images_nor_their_batches_matter() -> None:
    first, second = prepared_kinds(), prepared_kinds()
    correct_biases(first, batches(), weights_of(first))
    correct_biases(second, torch.cat(batches()).flip(0).split(5), weights_of(second))
    for name, bias in biases(first).items():
        assert torch.allclose(biases(second)[name], bias, rtol=0, atol=1e-6)


def test_refuses_to_correct_by_no_image() -> None:
    prepared = prepared_kinds()
    with pytest.raises(InputError, match="no image"):
        correct_biases(prepared, [], weights_of(prepared))
