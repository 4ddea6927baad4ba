"""ExecuTorch ``.pte`` files for phones: the program lowered to XNNPACK.

XNNPACK's integer kernels start and end on a grid, so nothing of the superset is dropped. What it cannot express runs on
ExecuTorch's portable kernels, and each such gap splits the program into one more partition: the census counts both.
"""

import copy
import json
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Program, Runtime, Verification
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram

from calibrate.program import TensorGrid, outputs_of, weighted_operators
from convert import pte
from convert.aten.gather_tokens import gather_tokens
from convert.aten.norm_by_products import norm_by_products
from convert.aten.rewrite import Rewrite, rewritten
from convert.native_output import held_back
from convert.provenance import shared_provenance
from convert.quiet import quiet
from convert.registry import TARGETS
from convert.source import OPERATORS, Precision, Source
from convert.target import Census, Run, RunAll, logits_of, readable
from edgevit.errors import ClaimError

FILE = TARGETS["executorch"].file
BATCH = 1

KINDS = {"XNNConv2d": "conv", "XNNDepthwiseConv2d": "conv", "XNNFullyConnected": "linear"}
OTHER_KINDS = {"XNNBatchMatrixMultiply": "matmul"}
running: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


def lower(source: Source, folder: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Write ``folder / model.pte``; see ``convert.target``.

    The metadata goes in as methods without arguments that return a string, ``get_<key>``, which the mobile runtimes
    call as any other. ``get_operators`` lists the weighted operators in their order.
    """
    program = rewritten(source.program, rewrites(source.precision))
    program = half(program) if source.precision == "fp16" else program
    operators = json.dumps(list(weighted_operators(source.program).values()))
    methods = {f"get_{key}": value for key, value in {**metadata, OPERATORS: operators}.items()}
    with quiet(), shared_provenance():
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods=methods)
        lowered = edge.to_executorch()
    (folder / FILE).write_bytes(lowered.buffer)
    return ()


def rewrites(precision: Precision) -> tuple[Rewrite, ...]:
    """Half precision keeps its norms: it could not hold the square of a large activation."""
    return (gather_tokens,) if precision == "fp16" else (gather_tokens, norm_by_products)


def half(program: ExportedProgram) -> ExportedProgram:
    """The same program in float16, its input and outputs in float32."""
    assert program.example_inputs is not None
    return torch.export.export(Half(copy.deepcopy(program).module(check_guards=False)), *program.example_inputs)


class Half(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.half()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = outputs_of(self.model, x.half())
        return tuple(output.float() if output.is_floating_point() else output for output in outputs)


def load(folder: Path, threads: int = 1) -> Run:
    """See ``convert.target``. Raises what ``load_all`` does."""
    return logits_of(load_all(folder, threads))


def load_all(folder: Path, threads: int = 1) -> RunAll:
    """See ``convert.target``. Raises ValueError if a program runs on another number of threads in this process."""
    with held_back():
        set_threads(threads)
    with readable(folder / FILE), held_back():
        program = open_program(folder)
        method = program.load_method(pte.METHOD)
        assert method is not None

    def run(x: NDArray[np.float32], program: Program = program) -> tuple[NDArray[Any], ...]:
        """Holds ``program``, because its method reads on in the memory of it."""
        outputs = method.execute((torch.from_numpy(x),))
        return tuple(output.numpy().copy() for output in outputs)  # it writes its next ones to the same place

    running.add(run)
    return run


def open_program(folder: Path) -> Program:
    data = (folder / FILE).read_bytes()
    return Runtime.get().load_program(data, verification=Verification.InternalConsistency)


def set_threads(threads: int) -> None:
    """The pool belongs to the process, and changing it under a program that is loaded can crash."""
    if portable_lib._threadpool_get_thread_count() == threads:
        return
    if running:
        raise ValueError(f"a program that is loaded runs on another number of threads than {threads}")
    portable_lib._unsafe_reset_threadpool(threads)


def metadata(folder: Path) -> dict[str, str]:
    """What ``lower`` was given, and ``operators``, as the runtime reads it."""
    with readable(folder / FILE), held_back():
        program = open_program(folder)
        methods = {name: program.load_method(name) for name in program.method_names if name.startswith("get_")}
        return {name.removeprefix("get_"): m.execute(())[0] for name, m in methods.items() if m is not None}


def census(folder: Path, asked: Mapping[str, str]) -> Census:
    """From the XNNPACK graphs: a node on int8 values has an integer kernel or does not load."""
    program, names = read(folder)
    integer, floats, delivered = Counter[str](), Counter[str](), set[str | None]()
    for graph in program.graphs:
        view = View(graph, names)
        for node in graph.nodes:
            kind = KINDS.get(node.kind) or OTHER_KINDS.get(node.kind, node.kind.removeprefix("XNN").lower())
            if view.is_integer(node):
                integer[kind] += 1
                delivered.add(view.operator(node))
            else:
                floats[kind] += 1
    missing = tuple(name for name in asked if name not in delivered)
    return Census(dict(integer), dict(floats), tuple(asked), missing, len(program.graphs), dict(program.portable))


def grid(folder: Path) -> dict[str, TensorGrid]:
    """Read from the values of the XNNPACK graphs in the file.

    Raises ClaimError if one tensor stands on two grids there.
    """
    program, names = read(folder)
    grids: dict[str, TensorGrid] = {}
    for graph in program.graphs:
        for name, found in View(graph, names).grids():
            if grids.setdefault(name, found) != found:
                raise ClaimError(f"{folder / FILE} holds {name} on two grids: export it again")
    return grids


def read(folder: Path) -> tuple[pte.Program, dict[pte.Node, str]]:
    """The program, and the operator that each of its weighted nodes is.

    They are joined by their order in the program: partitions run in another one where nothing forbids it.
    """
    with readable(folder / FILE):
        program = pte.read(folder / FILE)
        operators = json.loads(metadata(folder)[OPERATORS])
        weighted = [node for graph in program.graphs for node in graph.nodes if node.kind in KINDS]
        weighted.sort(key=lambda node: node.handle)
        return program, dict(zip(weighted, operators, strict=True))


class View:
    """One graph with its values joined to operators."""

    def __init__(self, graph: pte.Graph, names: Mapping[pte.Node, str]) -> None:
        self.graph, self.names = graph, names
        self.producers = {value: node for node in graph.nodes for value in node.outputs}

    def grids(self) -> Iterator[tuple[str, TensorGrid]]:
        """Name and grid of every int8 value; see ``calibrate.program`` for the names of those of an operator."""
        weights = {node.inputs[1]: name for node, name in self.names.items() if node in self.graph.nodes}
        for value, found in self.graph.grids.items():
            if value in weights:
                yield f"{weights[value]}.weight", found
            elif (producer := self.integer_producer(value)) is not None:
                yield f"{producer}.output", found
            else:
                reader = self.reader(value)
                yield f"{reader}.input" if reader else f"unnamed value {value}", found

    def integer_producer(self, value: int) -> str | None:
        """The operator between grids that made ``value``."""
        origin = self.origin(value)
        return self.operator(origin) if origin is not None and self.is_integer(origin) else None

    def origin(self, value: int) -> pte.Node | None:
        """The node that made ``value``, seen through a change of type, of layout, or a ReLU."""
        node = self.producers.get(value)
        return self.origin(node.inputs[0]) if node is not None and is_passing(node) else node

    def operator(self, node: pte.Node | None) -> str | None:
        """Its name: its own, or for an addition that of the branch that it adds."""
        if node is None or node in self.names:
            return None if node is None else self.names[node]
        branches = [self.origin(value) for value in reversed(node.inputs)] if node.kind == "XNNAdd" else []
        return next((f"{self.names[branch]}.residual" for branch in branches if branch and branch in self.names), None)

    def reader(self, value: int) -> str | None:
        """The first operator that reads ``value``."""
        for node in self.graph.nodes:
            if value in node.inputs:
                name = self.reader(node.outputs[0]) if is_passing(node) else self.operator(node)
                if name is not None:
                    return name
        return None

    def is_integer(self, node: pte.Node) -> bool:
        return all(value in self.graph.grids for value in node.inputs + node.outputs)


def is_passing(node: pte.Node) -> bool:
    return node.kind in ("XNNConvert", "XNNClamp") or (node.kind == "XNNStaticTranspose" and node.inserted)
