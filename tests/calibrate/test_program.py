import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from calibrate.program import (
    DEQUANTIZE_WEIGHT,
    TensorGrid,
    grid_of,
    logits_only,
    quantize_nodes,
    weighted_operators,
)
from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from edgevit.metrics import sqnr_db
from tests.calibrate.subjects import (
    FLOAT_RESIDUAL,
    INT8_RESIDUAL,
    SIDE,
    images,
    net,
    quantized_net,
    quantized_token_net,
    quantized_vit,
    token_net,
    vit,
)

OPERATORS = ("a.c", "b.c", "dw.c", "head")


def test_each_quantize_node_has_one_name_and_the_grid_of_that_name() -> None:
    quantized = quantized_vit()
    nodes = quantize_nodes(quantized.program.graph)
    assert [node.name for node in nodes] == list(quantized.nodes)
    assert len(set(quantized.nodes.values())) == len(nodes)
    assert [grid_of(node) for node in nodes] == [quantized.tensors[name] for name in quantized.nodes.values()]


def test_every_asked_operator_has_a_weight_grid_and_nothing_else_has_one() -> None:
    quantized = quantized_vit()
    weights = {name for name, grid in quantized.tensors.items() if grid.axis is not None}
    assert weights == {f"{name}.weight" for name in quantized.asked}
    assert set(quantized.tensors) - weights == set(quantized.nodes.values())


def test_weights_their_scales_and_zero_points_carry_the_name_of_their_operator() -> None:
    program = quantized_net(FLOAT_RESIDUAL).program
    held = {**program.state_dict, **program.constants}
    expected = {f"{name}.{suffix}" for name in OPERATORS for suffix in ("weight", "weight_scale", "weight_zero_point")}
    expected |= {f"{name}.bias" for name in (*OPERATORS, "stem.c")} | {"stem.c.weight"}
    assert set(held) == expected
    assert {name for name, value in held.items() if value.dtype == torch.int8} == {f"{n}.weight" for n in OPERATORS}
    assert "_frozen_param" not in str(program.graph)


def test_the_named_weights_are_the_ones_the_program_reads() -> None:
    """Each weight, off its grid, is the float one to half a step."""
    module, floats = quantized_net(FLOAT_RESIDUAL).module, dict(net().named_parameters())
    nodes = [node for node in module.graph.nodes if node.target is DEQUANTIZE_WEIGHT]
    assert len(nodes) == len(OPERATORS)
    for node in nodes:
        name = str(node.args[0].target)
        weight, scale = (read(module, str(argument.target)) for argument in node.args[:2])
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
        assert bool(((weight * scale - floats[name]).abs() <= 0.5001 * scale).all()), name


def read(module: torch.nn.Module, path: str) -> Tensor:
    owner, _, name = path.rpartition(".")
    value: Tensor = getattr(module.get_submodule(owner), name)
    return value


def test_run_is_the_program() -> None:
    quantized, x = quantized_vit(), images(1, 9, SIDE)
    assert torch.equal(quantized.run(x), quantized.program.module()(x))
    assert [torch.equal(output, quantized.run(x)) for output in quantized.outputs(x)] == [True]


def test_run_gives_the_logits_and_outputs_what_follows_them() -> None:
    quantized, x = quantized_token_net(), images(5, 9, 16)
    logits, ids, scores = quantized.outputs(x)
    assert torch.equal(quantized.run(x), logits)
    assert (logits.shape, ids.shape, scores.shape) == ((5, 10), (5, 9), (5, 16))
    assert ids.dtype == torch.int64
    assert torch.equal(ids.sort().values, scores.topk(9).indices.sort().values)
    with torch.no_grad():
        assert sqnr_db(token_net()(x)[2].numpy(), scores.numpy()) > 20


def test_a_batch_is_its_images_one_by_one() -> None:
    quantized, x = quantized_vit(), images(5, 9, SIDE)
    assert torch.equal(quantized.run(x), torch.cat([quantized.run(image[None]) for image in x]))


def test_the_program_is_quantised_and_still_the_model() -> None:
    x = images(32, 9, SIDE)
    with torch.no_grad():
        assert 15 < sqnr_db(vit()(x).numpy(), quantized_vit().run(x).numpy()) < 60


def float_token_net() -> ExportedProgram:
    return torch.export.export(token_net(), (images(1, 0, 16),))


def test_logits_only_keeps_the_logits_and_every_grid_of_a_quantised_program() -> None:
    whole, x = quantized_token_net(), images(4, 9, 16)
    part = logits_only(whole)
    assert len(part.outputs(x)) == 1
    assert torch.equal(part.run(x), whole.run(x))
    assert torch.equal(part.run(x[:1]), part.program.module()(x[:1]))
    assert (part.tensors, part.asked, part.nodes) == (whole.tensors, whole.asked, whole.nodes)
    assert [node.name for node in quantize_nodes(part.program.graph)] == list(part.nodes)
    operators = [list(weighted_operators(quantized.program).values()) for quantized in (part, whole)]
    assert operators[0] == operators[1]
    assert len(whole.outputs(x)) == 3  # which was left as it was


def test_logits_only_of_a_float_program() -> None:
    whole, x = float_token_net(), images(1, 9, 16)
    part = logits_only(whole)
    assert torch.equal(part.module()(x), whole.module()(x)[0])
    assert set(part.state_dict) == set(whole.state_dict)
    assert list(weighted_operators(part).values()) == list(weighted_operators(whole).values())
    assert len(whole.module()(x)) == 3


@pytest.mark.parametrize("recipe", [FLOAT_RESIDUAL, INT8_RESIDUAL], ids=["float residual", "int8 residual"])
def test_logits_only_of_logits_is_the_same_program(recipe: Recipe) -> None:
    whole = quantized_net(recipe)
    part = logits_only(whole)
    assert (part.tensors, part.asked, part.nodes) == (whole.tensors, whole.asked, whole.nodes)


class TwoHeads(nn.Module):
    """Nothing but the second output needs the layers ``side`` and ``other``, and their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.head, self.side, self.other = (nn.Conv2d(4, 4, 1) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.stem(x)
        return self.head(y).flatten(1), y + self.other(self.side(y))


@pytest.mark.parametrize("quantised", [True, False])
def test_what_only_another_output_needs_goes(quantised: bool) -> None:
    torch.manual_seed(0)
    x, model = images(2, 0, 6), TwoHeads().eval()
    if not quantised:
        part = logits_only(torch.export.export(model, (x,)))
        assert set(part.state_dict) == {
            f"{name}.{suffix}" for name in ("stem", "head") for suffix in ("weight", "bias")
        }
        return
    whole = calibrate(model, Recipe((Rule("*", "int8", ""),), "minmax"), [x], x)
    assert set(whole.asked) == {"stem", "side", "head", "other", "other.residual"}
    left = logits_only(whole)
    assert set(left.asked) == {"stem", "head"}
    assert set(left.tensors) == {"stem.input", "stem.output", "stem.weight", "head.output", "head.weight"}
    assert set(left.nodes.values()) == {"stem.input", "stem.output", "head.output"}
    assert torch.equal(left.run(x), whole.run(x))
    assert not any(name.startswith(("side", "other")) for name in (*left.program.state_dict, *left.program.constants))


def test_a_grid_goes_into_the_manifest_without_an_empty_axis() -> None:
    assert TensorGrid((0.5,), (3,)).manifest() == {"scale": [0.5], "zero_point": [3]}
    assert TensorGrid((0.5, 1.0), (0, 0), axis=0).manifest() == {"scale": [0.5, 1.0], "zero_point": [0, 0], "axis": 0}
