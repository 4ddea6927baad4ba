"""Placement: which tensors have a grid, and who reads them on it."""

import pytest
import torch
from torch import Tensor, nn

from calibrate.program import QuantizedProgram, quantize_nodes
from calibrate.ptq import calibrate
from calibrate.quantizer import OPERATOR_META, operators
from calibrate.recipe import Recipe, Rule
from tests.calibrate.subjects import FLOAT_RESIDUAL, INT8_RESIDUAL, images, net, quantized_net

EVERYTHING = Recipe((Rule("*", "int8", ""),), "minmax")
WEIGHTS = {"a.c.weight", "b.c.weight", "dw.c.weight", "head.weight"}


def readers(quantized: QuantizedProgram) -> dict[str, list[str]]:
    """Of every quantised activation: the operators, or else the functions, that read it off its grid."""
    nodes = zip(quantize_nodes(quantized.module.graph), quantized.nodes.values(), strict=True)
    return {
        name: [reader.meta.get(OPERATOR_META, reader.name) for dequantize in node.users for reader in dequantize.users]
        for node, name in nodes
    }


def calibrated(model: nn.Module, recipe: Recipe = EVERYTHING) -> QuantizedProgram:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    return calibrate(model.eval(), recipe, [x], x)


def test_operators_are_the_weighted_layers_and_the_residual_addition() -> None:
    captured = torch.export.export(net(), (images(1, 0, 16),)).module(check_guards=False)
    assert [(op.name, op.kind) for op in operators(captured.graph)] == [
        ("stem.c", "convolution"),
        ("a.c", "convolution"),
        ("b.c", "convolution"),
        ("b.c.residual", "add"),
        ("dw.c", "depthwise"),
        ("head", "linear"),
    ]


def test_places_inputs_weights_and_outputs_of_what_the_recipe_names() -> None:
    quantized = quantized_net(FLOAT_RESIDUAL)
    assert quantized.asked == {"a.c": "convolution", "b.c": "convolution", "dw.c": "depthwise", "head": "linear"}
    assert readers(quantized) == {
        "a.c.input": ["a.c"],  # the float addition reads the same tensor before its grid
        "a.c.output": ["b.c"],
        "b.c.output": ["b.c.residual"],
        "dw.c.input": ["dw.c"],
        "dw.c.output": ["mean"],
        "head.input": ["head"],
        "head.output": ["output"],
    }
    assert set(quantized.tensors) == WEIGHTS | set(readers(quantized))


def test_places_both_inputs_and_the_output_of_a_residual_addition() -> None:
    quantized = quantized_net(INT8_RESIDUAL)
    assert quantized.asked["b.c.residual"] == "add"
    expected = readers(quantized_net(FLOAT_RESIDUAL)) | {"a.c.input": ["a.c", "b.c.residual"]}
    expected["b.c.residual.output"] = expected.pop("dw.c.input")
    assert readers(quantized) == expected


def test_a_relu_belongs_to_its_operator() -> None:
    quantized = quantized_net(FLOAT_RESIDUAL)
    nodes = zip(quantize_nodes(quantized.module.graph), quantized.nodes.values(), strict=True)
    after_relu = {name for node, name in nodes if node.args[0].target is torch.ops.aten.relu.default}
    assert after_relu == {"a.c.input", "a.c.output"}


class ReluOnTheSide(nn.Module):
    """The first layer is read before its ReLU and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(torch.relu(y)) + self.c(y)


def test_a_relu_beside_other_readers_does_not_belong_to_the_operator() -> None:
    quantized = calibrated(ReluOnTheSide(), Recipe((Rule("[abc]", "int8", ""),), "minmax"))
    placed = readers(quantized)
    assert sorted(placed["a.output"]) == ["c", "relu"]
    assert placed["b.input"] == ["b"]
    assert quantized.tensors["a.output"].zero_point != quantized.tensors["b.input"].zero_point == (-128,)


def test_an_inplace_relu_belongs_to_its_operator() -> None:
    quantized = calibrated(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)))
    assert readers(quantized) == {"0.input": ["0"], "0.output": ["2"], "2.output": ["output"]}
    assert quantized.tensors["0.output"].zero_point == (-128,)


class Additions(nn.Module):
    """Additions that are not residual: to itself, of another shape, of two inputs that no layer made."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return (y + y) + (y + y.mean((2, 3), keepdim=True)) + 1


def test_only_a_layer_plus_another_tensor_of_its_shape_is_residual() -> None:
    x = torch.ones(1, 4, 6, 6)
    captured = torch.export.export(Additions(), (x,)).module(check_guards=False)
    assert [op.name for op in operators(captured.graph)] == ["a"]


@pytest.mark.parametrize(("groups", "kind"), [(1, "convolution"), (2, "convolution"), (4, "depthwise")])
def test_one_input_channel_a_group_is_depthwise(groups: int, kind: str) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1, groups=groups))
    captured = torch.export.export(model, (torch.ones(1, 4, 6, 6),)).module(check_guards=False)
    assert [op.kind for op in operators(captured.graph)] == [kind]
