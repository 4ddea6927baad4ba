import pytest
import torch
from torch import Tensor, nn

from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from edgevit.errors import InputError
from tests.calibrate.subjects import FLOAT_RESIDUAL, images, net, net_batches, quantized_net

EVERYTHING = Recipe((Rule("*", "int8", ""),), "minmax")
EXAMPLE = images(1, 0, 16)


def test_leaves_the_model_as_it_was() -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model(EXAMPLE)
        calibrate(model, FLOAT_RESIDUAL, net_batches(), EXAMPLE)
        assert torch.equal(model(EXAMPLE), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_example_is_no_calibration_image() -> None:
    again = calibrate(net(), FLOAT_RESIDUAL, net_batches(), 100 * EXAMPLE)
    assert again.tensors == quantized_net(FLOAT_RESIDUAL).tensors


def test_refuses_a_rule_that_names_nothing() -> None:
    recipe = Recipe((Rule("haed", "float", ""), Rule("*", "int8", "")), "minmax")
    with pytest.raises(InputError, match="'haed' names no operator"):
        calibrate(net(), recipe, net_batches(), EXAMPLE)


def test_refuses_to_calibrate_on_nothing() -> None:
    with pytest.raises(InputError, match="no image"):
        calibrate(net(), FLOAT_RESIDUAL, [], EXAMPLE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_logits_that_are_not_finite(value: float) -> None:
    poisoned = [*net_batches(), torch.full((1, 3, 16, 16), value)]
    with pytest.raises(InputError, match="output on a calibration image is not finite"):
        calibrate(net(), FLOAT_RESIDUAL, poisoned, EXAMPLE)


def test_refuses_an_infinite_activation_that_the_logits_do_not_show() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 4, 1))
    nn.init.constant_(model[0].bias, float("inf"))
    assert model(EXAMPLE).isfinite().all()
    with pytest.raises(InputError, match=r"0\.output are not finite"):
        calibrate(model, EVERYTHING, [EXAMPLE], EXAMPLE)


class OneLayerTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.a(x).relu())


def test_refuses_a_layer_that_is_used_twice() -> None:
    with pytest.raises(InputError, match="uses 'a' more than once"):
        calibrate(OneLayerTwice(), EVERYTHING, [EXAMPLE], EXAMPLE)
