"""Hand-written MIL programs, saved by coremltools and read again from their files."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convert.mil.evaluator import Program, load
from convert.mil.quiet import coremltools
from convert.quiet import quiet

ct = coremltools()
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import Function, types  # noqa: E402
from coremltools.converters.mil.mil import Program as MilProgram  # noqa: E402

TYPES = {torch.float32: types.fp32, torch.float16: types.fp16, torch.int32: types.int32}
CAST = {torch.bool: "bool", torch.int8: "int8", torch.uint8: "uint8"}  # no type of a program's input

Build = Callable[..., Any]


def save(path: Path, build: Build, inputs: Mapping[str, Tensor], opset: str = "iOS17", **options: Any) -> Path:
    """The program ``build(**inputs)`` as it is written; ``options`` are those of ``ct.convert``."""
    placeholders = {
        name: mb.placeholder(tuple(tensor.shape), TYPES.get(tensor.dtype, types.int32))
        for name, tensor in inputs.items()
    }
    with quiet(), Function(placeholders, opset_version=getattr(ct.target, opset)) as function:
        outputs = build(**function.inputs)
        function.set_outputs(list(outputs) if isinstance(outputs, tuple) else [outputs])
    program = MilProgram()
    program.add_function("main", function)
    return convert(path, program, "fp32", opset, pass_pipeline=ct.PassPipeline.EMPTY, **options)


def convert(path: Path, source: Any, precision: str, opset: str = "iOS17", **options: Any) -> Path:
    """Save what coremltools makes of an exported or a MIL program."""
    with quiet():
        model = ct.convert(
            source,
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, opset),
            compute_precision=getattr(ct.precision, precision.replace("fp", "FLOAT")),
            skip_model_load=True,
            **options,
        )
        model.save(str(path))
    return path


def export(model: nn.Module, x: Tensor) -> Any:
    return torch.export.export(model, (x,)).run_decompositions({})


@dataclass(frozen=True, eq=False)
class Case:
    """One operation: what is fed to it, its constants, and what it gives for the fed."""

    kind: str
    inputs: Mapping[str, Tensor]
    constants: Mapping[str, Any]
    expected: Callable[..., Any]
    opset: str = "iOS17"
    arguments: Callable[..., Mapping[str, Any]] = dict  # of the fed: the operation's own

    def __str__(self) -> str:
        shown = {name: value for name, value in self.constants.items() if not isinstance(value, np.ndarray)}
        return f"{self.kind} {shown or ''} {self.opset}"


@dataclass(frozen=True, eq=False)
class Cases:
    """Cases of one opset, each for itself in one saved program; only what one needs is run for it."""

    folder: Path
    cases: list[Case]
    outputs: dict[Case, list[str]] = field(default_factory=dict)

    @cached_property
    def program(self) -> Program:
        self.folder.mkdir(exist_ok=True)
        return load(save(self.folder / "cases.mlpackage", self.build, self.inputs, self.cases[0].opset))

    @property
    def inputs(self) -> dict[str, Tensor]:
        """Of all cases, and one for the program's output: a program has both."""
        fed = {self.name(case, name): tensor for case in self.cases for name, tensor in case.inputs.items()}
        return {"unused": torch.zeros(1)} | fed

    def build(self, **fed: Any) -> Any:
        for case in self.cases:
            given = {}
            for name, tensor in case.inputs.items():
                var = fed[self.name(case, name)]
                given[name] = mb.cast(x=var, dtype=CAST[tensor.dtype]) if tensor.dtype in CAST else var
            result = getattr(mb, case.kind)(**case.arguments(**given), **case.constants)
            self.outputs[case] = [var.name for var in (result if isinstance(result, (tuple, list)) else [result])]
        return mb.identity(x=fed["unused"])

    def name(self, case: Case, name: str) -> str:
        return f"case{self.cases.index(case)}_{name}"

    def run(self, case: Case, program: Program, given: Mapping[str, Tensor]) -> tuple[Any, ...]:
        inputs = self.inputs | {self.name(case, name): tensor for name, tensor in given.items()}
        found = program.run(inputs, self.outputs[case])
        return tuple(found[name] for name in self.outputs[case])

    def lean(self, case: Case) -> Program:
        """The program with the optional inputs of ``case`` left out that its constants do not name."""
        given = case.arguments(**case.inputs).keys() | case.constants.keys()
        operation = self.program.package.producers[self.outputs[case][0]]
        return self.without(case, operation.inputs.keys() - given)

    def without(self, case: Case, names: Set[str]) -> Program:
        """The program with these inputs of the operation of ``case`` left out."""
        package = self.program.package
        operation = package.producers[self.outputs[case][0]]
        short = replace(operation, inputs={name: v for name, v in operation.inputs.items() if name not in names})
        operations = tuple(short if entry is operation else entry for entry in package.operations)
        return Program(replace(package, operations=operations))


def by_opset(folder: Path, cases: list[Case]) -> dict[str, Cases]:
    opsets = {case.opset for case in cases}
    return {opset: Cases(folder / opset, [case for case in cases if case.opset == opset]) for opset in opsets}


def check(saved: Mapping[str, Cases], case: Case) -> None:
    """The program gives what is expected, under vmap too, and with MIL's defaults left out."""
    cases = saved[case.opset]
    program = cases.program
    found = cases.run(case, program, case.inputs)
    assert_same(found, case.expected(**case.inputs))
    assert_same(cases.run(case, cases.lean(case), case.inputs), found)
    if not case.inputs:
        return
    names = list(case.inputs)
    others = [tensor.flip(0) for tensor in case.inputs.values()]
    stacked = [torch.stack(pair) for pair in zip(case.inputs.values(), others, strict=True)]
    mapped = torch.func.vmap(lambda *given: cases.run(case, program, dict(zip(names, given, strict=True))))(*stacked)
    assert_same(tuple(part[0] for part in mapped), found)
    assert_same(tuple(part[1] for part in mapped), cases.run(case, program, dict(zip(names, others, strict=True))))


def assert_same(found: tuple[Any, ...], expected: Any) -> None:
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected, strict=True):
        wanted = torch.as_tensor(wanted)
        wanted = wanted.float() if wanted.is_floating_point() else wanted
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6, check_dtype=wanted.is_floating_point())
