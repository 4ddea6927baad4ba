from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from convert import onnx as onnx_target
from convert.source import Precision, Source
from tests.calibrate.subjects import INT8_RESIDUAL, images, quantized_net, quantized_vit
from tests.convert.conftest import METADATA, Lowered

Lower = Callable[[str, Precision], Lowered]


def saved(entry: Lowered) -> onnx.ModelProto:
    return onnx.load(entry.folder / "model.onnx")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_file_is_valid_and_says_what_it_is(precision: Precision, lowered: Lower) -> None:
    model = saved(lowered("onnx", precision))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 21)]
    assert {entry.key: entry.value for entry in model.metadata_props} == METADATA
    assert model.producer_name == "edgevit"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_input_and_output_have_their_names(precision: Precision, lowered: Lower) -> None:
    graph = saved(lowered("onnx", precision)).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["image", "logits"]


def test_fp16_computes_in_half_behind_float_inputs_and_outputs(lowered: Lower) -> None:
    model = saved(lowered("onnx", "fp16"))
    types = {i.name: i.data_type for i in model.graph.initializer if i.name.endswith(".weight")}
    assert set(types.values()) == {onnx.TensorProto.FLOAT16}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_drops_only_the_grid_behind_the_classifier(lowered: Lower) -> None:
    assert lowered("onnx", "int8").dropped == ("head.l.output",)


def test_every_integer_layer_has_an_integer_bias(lowered: Lower) -> None:
    model = saved(lowered("onnx", "int8"))
    biases = {i.name: i.data_type for i in model.graph.initializer if i.name.endswith(".bias.int32")}
    assert set(biases) == {f"{name}.bias.int32" for name in quantized_vit().asked}
    assert set(biases.values()) == {onnx.TensorProto.INT32}


@pytest.mark.parametrize("tensor", ["patch_embed.2.c.weight", "patch_embed.2.c.output"])
@pytest.mark.parametrize("part", ["scale", "zero_point"])
def test_a_tampered_grid_is_seen(tensor: str, part: str, lowered: Lower, tmp_path: Path) -> None:
    model = saved(lowered("onnx", "int8"))
    (found,) = (i for i in model.graph.initializer if i.name == f"{tensor}.{part}")
    values = numpy_helper.to_array(found).copy()
    first = values.reshape(-1)[:1]
    first[:] = np.nextafter(first, np.float32(1)) if part == "scale" else first + 1
    found.CopyFrom(numpy_helper.from_array(values, found.name))
    onnx.save(model, tmp_path / "model.onnx")
    tampered, tensors = onnx_target.grid(tmp_path), quantized_vit().tensors
    assert {name for name in tampered if tampered[name] != tensors[name]} == {tensor}


def test_residual_additions_run_in_integers_where_the_recipe_asks(tmp_path: Path) -> None:
    quantized = quantized_net(INT8_RESIDUAL)
    assert onnx_target.lower(Source(quantized, "int8"), tmp_path, {}) == ("head.output",)
    census = onnx_target.census(tmp_path, quantized.asked)
    assert census.missing == ()
    assert census.int8 == {"conv": 3, "add": 1, "linear": 1}
    assert census.float["conv"] == 1


def test_an_addition_is_counted_under_its_own_name_where_scales_are_equal(tmp_path: Path) -> None:
    """Over a map of one pixel the mean has the grid of its input, and ONNX Runtime keeps one of the two constants."""

    class Pixel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch, self.head = nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.relu()
            return self.head((x + self.branch(x)).mean((2, 3)))

    torch.manual_seed(0)
    x = torch.randn(8, 4, 1, 1)
    quantized = calibrate(Pixel(), Recipe((Rule("*", "int8", ""),), "minmax"), [x], x[:1])
    assert quantized.tensors["head.input"] == quantized.tensors["branch.residual.output"]
    onnx_target.lower(Source(quantized, "int8"), tmp_path, {})
    assert onnx_target.census(tmp_path, quantized.asked).missing == ()


def test_half_keeps_small_weights_to_the_last_step_of_float16(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1))
    weight = torch.logspace(-9, 0, 24).reshape(8, 3, 1, 1)
    model[0].weight.data.copy_(weight)
    onnx_target.lower(Source(torch.export.export(model, (images(1, 0, 16),)), "fp16"), tmp_path, {})
    stored = ir.load(tmp_path / "model.onnx").graph.initializers["0.weight"].const_value.numpy().astype(np.float32)
    assert np.isfinite(stored).all()
    assert (np.abs(stored - weight.numpy()) <= np.maximum(weight.numpy() * 2**-11, 2**-24)).all()
