import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from convert.source import INPUT, OPSET, OUTPUT, Precision, Source
from edgevit.errors import InputError
from tests.calibrate.subjects import FLOAT_RESIDUAL, images, net, quantized_net
from tests.convert.conftest import source

EXAMPLE = images(1, 0, 16)


def exported(model: nn.Module) -> torch.export.ExportedProgram:
    return torch.export.export(model, (EXAMPLE,))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_quantised_program_is_int8_and_nothing_else(precision: Precision) -> None:
    with pytest.raises(ValueError, match=f"QuantizedProgram cannot become {precision}"):
        Source(quantized_net(FLOAT_RESIDUAL), precision)


def test_a_float_program_cannot_become_int8() -> None:
    with pytest.raises(ValueError, match="ExportedProgram cannot become int8"):
        Source(exported(net()), "int8")


def test_a_weight_beyond_float16_is_refused_for_fp16_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    nn.init.constant_(model[0].bias, -1e5)
    Source(exported(model), "fp32")
    with pytest.raises(InputError, match=r"0\.bias reaches beyond 65504"):
        Source(exported(model), "fp16")


def test_the_onnx_form_has_the_promised_opset_names_and_a_fixed_batch() -> None:
    model = source("fp32").onnx()
    assert model.opset_imports[""] == OPSET == 21
    assert [value.name for value in model.graph.inputs] == [INPUT]
    assert [value.name for value in model.graph.outputs] == [OUTPUT]
    assert list(model.graph.inputs[0].shape) == [1, 3, 96, 96]


def test_every_call_gives_a_fresh_copy_of_one_export() -> None:
    first = source("fp32").onnx()
    for node in first.graph:
        node.name = "changed"
    assert all(node.name != "changed" for node in source("fp32").onnx().graph)
    assert source("fp32").exported == source("fp32").exported


class Rows(nn.Module):
    """Rows of a map behind a depthwise convolution: whether they need a copy hangs on the layout of its result."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x).transpose(1, 2).reshape(-1, 8, 4, 4)
        return self.depthwise(x).flatten(2).transpose(1, 2).reshape(-1, 2, 2, 16)


@pytest.mark.parametrize("captured_with_gradients", [False, True])  # in this order: torch keeps layouts
def test_a_program_may_be_captured_with_gradients_or_without(captured_with_gradients: bool) -> None:
    with torch.set_grad_enabled(captured_with_gradients):
        program = torch.export.export(Rows(), (torch.randn(1, 16, 8),))
    assert list(Source(program, "fp32").onnx().graph.outputs[0].shape) == [2, 2, 2, 16]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_exporters_traces_go(precision: Precision) -> None:
    traced = onnx.load(source(precision).exported)
    assert any(node.metadata_props for node in traced.graph.node)
    model = source(precision).onnx()
    assert not any(node.metadata_props for node in model.graph)
    assert not any(value.metadata_props for node in model.graph for value in node.outputs)


def test_operators_carry_the_names_of_the_recipe() -> None:
    named = {node.name for node in source("fp32").onnx().graph}
    asked = source("int8").quantized.asked
    assert set(asked) <= named
    assert set(asked) <= {node.name for node in source("int8").onnx().graph}
    assert "blocks1.0.ffn0.m.pw2.c.residual" in named


SCRIPT = """
import pathlib, sys, torch
from convert.onnx import lower
from convert.source import Source
from tests.calibrate.subjects import FLOAT_RESIDUAL, images, net, quantized_net
folder = pathlib.Path(sys.argv[1])
lower(Source(quantized_net(FLOAT_RESIDUAL), "int8"), folder, {})
lower(Source(torch.export.export(net(), (images(1, 0, 16),)), "fp16"), folder, {})
"""


def test_calibrating_and_exporting_print_nothing(tmp_path: Path) -> None:
    """In a process of its own: here, pytest would take the warnings and the log."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
