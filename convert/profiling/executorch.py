"""ExecuTorch's event tracer, which the wheel has, with XNNPACK's own profile of each partition.

XNNPACK counts whole microseconds and cuts off the rest, operator by operator: of the many that take one or two, half
of one is lost each. What a partition takes as a whole is known to the nanosecond; the difference is said, and not
shared out. XNNPACK says what kind of kernel ran and not for which module: the layers are told by their order, which it
keeps, and everything else by where it stands between them.
"""

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.devtools.etdump.serialize import _convert_from_flatcc
from executorch.extension.pybindings import portable_lib
from numpy.typing import NDArray

from convert import pte
from convert.executorch import FILE, KINDS, OTHER_KINDS, View, read, set_threads
from convert.native_output import held_back
from convert.profiling.near import placed
from convert.profiling.profiler import (
    DEQUANTIZE,
    FLOAT,
    INT8,
    LAYOUT,
    QUANTIZE,
    WARM,
    Operator,
    Profiled,
    differing,
    typical,
)
from convert.target import readable
from edgevit.errors import MissingError

# What XNNPACK calls its kernels, up to the bracket, and the kind of the nodes that they compute.
KERNELS = {
    "Add": "XNNAdd",
    "Batch Matrix Multiply": "XNNBatchMatrixMultiply",
    "Convert": "XNNConvert",
    "GELU": "XNNGelu",
    "Transpose": "XNNStaticTranspose",
}
LAYERS = ("Convolution", "Fully Connected")  # a pointwise convolution is a "Fully Connected" to it
PARTITION, OUTSIDE = "DELEGATE_CALL", "OPERATOR_CALL"  # events of a whole partition, and of a kernel that is in none
TABLE = "Invalid Unary Op"  # a function of one int8, as a table of 256: it has no name for that
CLOCK = (
    "XNNPACK counts whole microseconds and cuts off the rest of each: what {} partitions took is {:.2f} ms more than "
    "what their {} operators did, profiling included"
)


@dataclass(frozen=True)
class Event:
    """One timed operator of a run."""

    instruction: int
    kernel: str  # XNNPACK's "Convolution (NHWC, QC8) IGEMM", or that of a kernel outside, "aten::mean.out"
    us: float


def profile(folder: Path, x: NDArray[np.float32], threads: int, runs: int) -> Profiled:
    """See ``convert.profiling.profiler``."""
    with readable(folder / FILE):
        program, names = read(folder)
        data = (folder / FILE).read_bytes()  # read on by the module, which does not hold it
        with held_back():
            set_threads(threads)
            module = portable_lib._load_for_executorch_from_buffer(data, enable_etdump=True)
    if not module.has_etdump():
        raise MissingError("this executorch has no event tracer: the one of pip install 'edgevit[executorch]' does")
    with readable(folder / FILE):
        inputs, calls = (torch.from_numpy(x),), []
        for _ in range(WARM + runs):
            started = time.perf_counter_ns()
            module.run_method(pte.METHOD, inputs)
            calls.append((time.perf_counter_ns() - started) / 1e6)
        dumps = dumped(module)[WARM:]
        found = [list(events(run, program)) for run in dumps]
        if len({tuple((event.instruction, event.kernel) for event in run) for run in found}) != 1:
            raise differing("ExecuTorch")
        described = describe(found[0], program, names)
    times = typical([[event.us for event in run] for run in found])
    operators = tuple(Operator(**fields, us=float(us)) for fields, us in zip(described, times, strict=True))
    lost_us, inside = typical([[lost(run)] for run in dumps])[0], sum("::" not in o.node for o in operators)
    clock = CLOCK.format(len(program.graphs), lost_us / 1e3, inside)
    return Profiled(operators, np.array(calls[WARM:]), clock)


def dumped(module: Any) -> list[list[Mapping[str, Any]]]:
    """The profile events of every run so far."""
    with tempfile.TemporaryDirectory(prefix="edgevit-") as scratch:
        dump = Path(scratch) / "dump"
        module.write_etdump_result_to_file(str(dump), str(Path(scratch) / "values"))
        runs = json.loads(_convert_from_flatcc(dump.read_bytes()))["run_data"]
    return [
        [event["profile_event"] for event in run["events"] if "profile_event" in event]
        for run in runs
        if run["name"] == "Execute"
    ]


def events(run: Sequence[Mapping[str, Any]], program: pte.Program) -> Iterator[Event]:
    """Those of operators: the others are about what contains them."""
    for event in run:
        instruction, us = event["instruction_id"], duration(event)
        if "delegate_debug_id_str" in event:
            yield Event(instruction, re.sub(r" #\d+$", "", event["delegate_debug_id_str"]), us)
        elif event["name"] == OUTSIDE:
            yield Event(instruction, str(program.calls[instruction]), us)


def lost(run: Sequence[Mapping[str, Any]]) -> float:
    """What the partitions of a run took, less what their operators did, in µs."""
    whole = sum(duration(event) for event in run if event.get("name") == PARTITION)
    return whole - sum(duration(event) for event in run if "delegate_debug_id_str" in event)


def duration(event: Mapping[str, Any]) -> float:
    """In µs; the tracer's ticks are nanoseconds on every host that has this wheel."""
    return float(event["end_time"] - event["start_time"]) / 1e3


def describe(run: Sequence[Event], program: pte.Program, names: Mapping[pte.Node, str]) -> list[dict[str, Any]]:
    """All of each event's Operator but the time. One that is matched to no node is told by its kernel alone."""
    views = {graph: View(graph, names) for graph in program.graphs}
    matched: dict[int, tuple[View, pte.Node]] = {}
    for instruction in dict.fromkeys(event.instruction for event in run):
        graph = program.calls[instruction]
        if isinstance(graph, pte.Graph):
            inside = [index for index, event in enumerate(run) if event.instruction == instruction]
            found = matches([run[index].kernel for index in inside], graph)
            matched |= {inside[index]: (views[graph], node) for index, node in found.items()}
    modules = [matched[index][0].operator(matched[index][1]) if index in matched else None for index in range(len(run))]
    order = range(len(run))
    places = placed(modules, [{index - 1} for index in order], [{index} for index in order])
    return [
        {"name": place, "node": event.kernel, **fields(event.kernel, *matched.get(index, ()))}
        for index, (event, place) in enumerate(zip(run, places, strict=True))
    ]


def matches(kernels: Sequence[str], graph: pte.Graph) -> dict[int, pte.Node]:
    """Position of each kernel → the node that it computes, kind by kind in their order, where both are as many."""
    inside, tables = fused(graph)
    nodes = {
        kernel: [node for node in graph.nodes if node.kind == kind and node not in inside and node not in tables]
        for kernel, kind in KERNELS.items()
    }
    nodes |= {"layer": [node for node in graph.nodes if node.kind in KINDS], TABLE: tables}
    words = ["layer" if word(kernel) in LAYERS else word(kernel) for kernel in kernels]
    positions = {key: [index for index, found in enumerate(words) if found == key] for key in nodes}
    return {
        index: node
        for key, found in nodes.items()
        if len(found) == len(positions[key])
        for index, node in zip(positions[key], found, strict=True)
    }


def fused(graph: pte.Graph) -> tuple[set[pte.Node], list[pte.Node]]:
    """The nodes that XNNPACK computes inside of others, and the functions that it makes tables of.

    It transposes the second factor of a product as it reads it, and a function between two changes of type is a table.
    """
    readers = {value: node for node in graph.nodes for value in node.inputs}
    writers = {value: node for node in graph.nodes for value in node.outputs}
    inside: set[pte.Node] = set()
    tables = []
    for node in graph.nodes:
        if node.kind == "XNNBatchMatrixMultiply" and (factor := writers.get(node.inputs[1])) is not None:
            inside |= {factor} if factor.kind == "XNNStaticTranspose" else set()
        elif node.kind == "XNNGelu":
            ends = [writers.get(node.inputs[0]), readers.get(node.outputs[0])]
            converts = {end for end in ends if end is not None and end.kind == "XNNConvert"}
            if len(converts) == len(ends):
                inside |= converts
                tables.append(node)
    return inside, tables


def word(kernel: str) -> str:
    return kernel.split(" (")[0]


def fields(kernel: str, view: View | None = None, node: pte.Node | None = None) -> dict[str, Any]:
    """Kind, precision and work; ``node`` stands in the graph of ``view``."""
    if view is None or node is None:
        precision = INT8 if re.search(r"\b(X8|QC8|QS8|QU8)\b", kernel) else FLOAT
        outside = re.fullmatch(r"\w+::(\w+)(\.\w+)?", kernel)
        return {
            "kind": word(kernel).lower() if outside is None else f"portable {outside[1]}",
            "precision": precision,
            "macs": 0,
        }
    integer = view.is_integer(node) or word(kernel) == TABLE or kind(view.graph, node) == DEQUANTIZE
    return {"kind": kind(view.graph, node), "precision": INT8 if integer else FLOAT, "macs": macs(view.graph, node)}


def kind(graph: pte.Graph, node: pte.Node) -> str:
    if node.kind == "XNNConvert":
        return QUANTIZE if node.outputs[0] in graph.grids else DEQUANTIZE
    if node.kind == "XNNStaticTranspose":
        return LAYOUT if node.inserted else "transpose"
    return KINDS.get(node.kind) or OTHER_KINDS.get(node.kind) or node.kind.removeprefix("XNN").lower()


def macs(graph: pte.Graph, node: pte.Node) -> int:
    """Multiply-accumulates. Filters are ``[outputs, height, width, inputs]``, or ``[1, height, width, outputs]``."""
    if node.kind not in KINDS and node.kind != "XNNBatchMatrixMultiply":
        return 0
    out, (left, right) = prod(graph.shapes[node.outputs[0]]), (graph.shapes[value] for value in node.inputs)
    if node.kind == "XNNBatchMatrixMultiply":
        return out * left[-1]
    return out * prod(right[1:-1] if node.kind == "XNNDepthwiseConv2d" else right[1:])
