"""A program on its way to the targets. Its ONNX form is made once, because two targets start from it."""

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Literal

import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch.export import ExportedProgram

from calibrate.program import QuantizedProgram, logits_only
from convert.qdq.convolve_slices import convolve_slices
from convert.qdq.gather_tokens import gather_tokens
from convert.qdq.name_operators import name_operators
from convert.qdq.name_tensors import name_tensors
from convert.qdq.relabel_uint8 import relabel_uint8
from convert.quiet import quiet
from edgevit.errors import InputError

OPSET = 21  # the first with 8-bit grids on every operator used here, and with a native Gelu
INPUT, OUTPUT = "image", "logits"
OPERATORS = "operators"  # metadata: the weighted operators in their order, as a JSON list, where a file keeps no names
MAX_HALF = torch.finfo(torch.float16).max
Precision = Literal["fp32", "fp16", "int8"]


class Source:
    """A float program, or the quantised one, and the precision that the artifact shall have.

    ``precision`` is "int8" exactly for a quantised program. Raises InputError if a weight does not fit float16 where
    that is asked: converters would clip it without a word.
    """

    def __init__(self, program: ExportedProgram | QuantizedProgram, precision: Precision) -> None:
        if isinstance(program, QuantizedProgram) != (precision == "int8"):
            raise ValueError(f"{type(program).__name__} cannot become {precision}")
        self.precision = precision
        self.quantized = program if isinstance(program, QuantizedProgram) else None
        self.program = program.program if isinstance(program, QuantizedProgram) else program
        self.whole: Source | None = None  # what this is a part of
        if precision == "fp16":
            check_half_range(self.program)

    @property
    def outputs(self) -> list[str]:
        """Names of what the program returns: of one that prunes tokens also the ids kept and the scores, by site."""
        sites = range(1, 1 + len(self.program.graph_signature.user_outputs) // 2)
        return [OUTPUT, *(f"kept_{site}" for site in sites), *(f"scores_{site}" for site in sites)]

    def logits_only(self) -> "Source":
        """The same program without what it returns beside its logits."""
        part = Source(logits_only(self.quantized or self.program), self.precision)
        part.whole = self
        return part

    @cached_property
    def exported(self) -> Path:
        """The ONNX file as torch writes it."""
        self._folder = tempfile.TemporaryDirectory(prefix="edgevit-")
        path = Path(self._folder.name) / "program.onnx"
        # With gradients, torch would assume other layouts than in a capture without, and miss a copy that those need.
        with quiet(), torch.no_grad():
            torch.onnx.export(
                self.program,
                (),
                path,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=self.outputs,
                external_data=False,
                verbose=False,
            )
        return path

    def onnx(self) -> ir.Model:
        """A fresh copy with operators and tensors named, activations on the uint8 grid."""
        if self.whole is not None:
            return first_output(self.whole.onnx())
        model = ir.load(self.exported)
        if self.quantized is not None:
            name_tensors(model, self.quantized.nodes)
            relabel_uint8(model)
        name_operators(model)
        gather_tokens(model)
        convolve_slices(model)
        drop_traces(model)
        return model


def first_output(model: ir.Model) -> ir.Model:
    """Without the other outputs and what only they need, in place."""
    del model.graph.outputs[1:]
    RemoveUnusedNodesPass()(model)
    return model


def check_half_range(program: ExportedProgram) -> None:
    for name, weight in program.state_dict.items():
        if weight.is_floating_point() and weight.abs().max() > MAX_HALF:
            raise InputError(f"{name} reaches beyond {MAX_HALF:g}, the end of float16: export fp32 or int8")


def drop_traces(model: ir.Model) -> None:
    """Remove the stack traces and graph dumps that the exporter hangs on every node: a third of an INT8 file."""
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
