import torch
from torch import Tensor

from calibrate.program import DEQUANTIZE_WEIGHT, TensorGrid, grid_of, quantize_nodes
from edgevit.metrics import sqnr_db
from tests.calibrate.subjects import FLOAT_RESIDUAL, SIDE, images, net, quantized_net, quantized_vit, vit

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


def test_a_batch_is_its_images_one_by_one() -> None:
    quantized, x = quantized_vit(), images(5, 9, SIDE)
    assert torch.equal(quantized.run(x), torch.cat([quantized.run(image[None]) for image in x]))


def test_the_program_is_quantised_and_still_the_model() -> None:
    x = images(32, 9, SIDE)
    with torch.no_grad():
        assert 15 < sqnr_db(vit()(x).numpy(), quantized_vit().run(x).numpy()) < 60


def test_a_grid_goes_into_the_manifest_without_an_empty_axis() -> None:
    assert TensorGrid((0.5,), (3,)).manifest() == {"scale": [0.5], "zero_point": [3]}
    assert TensorGrid((0.5, 1.0), (0, 0), axis=0).manifest() == {"scale": [0.5, 1.0], "zero_point": [0, 0], "axis": 0}
