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


class ClassToken(nn.Module):
    """As many class tokens as images; 12 patches of 4 channels, and a count of what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.embed, self.head = nn.Parameter(torch.ones(1, 1, 4)), nn.Linear(64, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.embed(x.reshape(x.shape[0], 12, 64))
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1)
        return self.head(tokens.mean(1)), tokens.argmax(1)


@pytest.mark.parametrize("size", [1, 3])
def test_the_program_has_the_examples_batch_and_the_module_takes_any(size: int) -> None:
    torch.manual_seed(0)
    model = ClassToken().eval()
    quantized = calibrate(model, EVERYTHING, net_batches(), images(size, 0, 16))
    assert quantized.program.module()(images(size, 1, 16))[0].shape == (size, 3)
    placeholder = next(node for node in quantized.program.graph.nodes if node.name == "x")
    assert placeholder.meta["val"].shape == (size, 3, 16, 16)
    x = images(5, 1, 16)
    assert torch.equal(quantized.run(x), torch.cat([quantized.run(image[None]) for image in x]))
    others = calibrate(model, EVERYTHING, [image[None] for batch in net_batches() for image in batch], EXAMPLE)
    assert others.tensors == quantized.tensors


def test_refuses_a_model_whose_batch_is_built_in() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(768, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x.reshape(2, 768))

    with pytest.raises(Exception, match="batch"):
        calibrate(Single(), EVERYTHING, [EXAMPLE], EXAMPLE)


def test_only_the_logits_must_be_finite() -> None:
    class Odds(nn.Module):
        def __init__(self, first: int) -> None:
            super().__init__()
            self.a, self.first = nn.Conv2d(3, 4, 1), first

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            outputs = self.a(x), x.abs() / 0
            return outputs[self.first], outputs[1 - self.first]

    calibrate(Odds(0), EVERYTHING, [EXAMPLE], EXAMPLE)
    with pytest.raises(InputError, match="output on a calibration image is not finite"):
        calibrate(Odds(1), EVERYTHING, [EXAMPLE], EXAMPLE)


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
