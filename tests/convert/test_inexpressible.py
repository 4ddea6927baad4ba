"""The exporters' own errors, met for real, become one sentence in the words of the model."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from convert.inexpressible import inexpressible
from convert.registry import TARGETS
from convert.source import Source
from convert.target import target
from tests.calibrate.subjects import images


class Neck(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Model(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.neck, self.head = nn.Conv2d(3, 4, 1), Neck(function), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.neck(torch.relu(self.stem(x))).mean((2, 3), keepdim=True).flatten(1))


def exported(function: Callable[[Tensor], Tensor]) -> ExportedProgram:
    return torch.export.export(Model(function).eval(), (images(1, 0, 8),))


OPERATORS = {
    "linalg_inv": torch.linalg.inv,
    "median": lambda x: x.median(-1, keepdim=True).values,
    "cummax": lambda x: torch.cummax(x, -1).values,
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_operator_and_its_module_are_named(name: str, operator: str, tmp_path: Path) -> None:
    program = exported(OPERATORS[operator])
    with pytest.raises(Exception, match=operator) as caught:
        target(name).lower(Source(program, "fp32"), tmp_path, {})
    error = inexpressible(name, program, caught.value)
    assert error is not None
    sentence = (
        rf"target {name} cannot express {operator}(_ex)? in neck \(Neck\): write it without that, or leave .* out"
    )
    assert re.fullmatch(sentence, str(error)), str(error)
    assert error.exit_code == 2


def test_what_only_the_exporter_names_is_named_without_a_module(tmp_path: Path) -> None:
    program = exported(torch.special.i0)
    with pytest.raises(Exception, match="ONNX") as caught:
        target("onnx").lower(Source(program, "fp32"), tmp_path, {})
    error = inexpressible("onnx", program, caught.value)
    assert str(error).startswith("target onnx cannot express bessel_i0 in the model: ")


def test_an_error_about_something_else_is_left_alone() -> None:
    assert inexpressible("onnx", exported(torch.sin), RuntimeError("no space left on `device`")) is None


def test_the_first_cause_decides() -> None:
    error = RuntimeError("while converting %conv2d")
    error.__cause__ = ValueError("no function for aten.sin")
    found = inexpressible("onnx", exported(torch.sin), error)
    assert "cannot express sin in neck (Neck)" in str(found)
