"""ONNX Runtime's own profiler: an event for every operator of every run.

Its clock counts whole microseconds, and what it writes down of an operator, it writes down while that clock runs: about
two microseconds, as much as many an operator takes. So this is measured beside, with operators that do next to
nothing, and taken off. What cannot be taken off is that the profiler leaves the caches cold for the next operator:
the sum of the operators is therefore more than what a run takes without it.
"""

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper

from convert.onnx import FILE, FLOAT_KINDS, INTEGER_KINDS, profiled_session, session
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
from convert.qdq.graph import WEIGHTED, operand
from convert.source import INPUT
from convert.target import readable

KINDS = {
    **INTEGER_KINDS,
    **FLOAT_KINDS,
    "ReorderInput": LAYOUT,
    "ReorderOutput": LAYOUT,
    "QuantizeLinear": QUANTIZE,
    "DequantizeLinear": DEQUANTIZE,
}
LAYERS = ("conv", "linear")
NAMED, MULTIPLYING = (*LAYERS, "add"), (*LAYERS, "matmul")  # a cast may have the name of what it casts
# What its optimiser makes of a name.
MADE = re.compile(r"^InsertedPrecisionFreeCast_|(_token_\d+|_pre_q|_nchwc|/\w*)+$")
BLOCK = 10  # runs a session: it keeps all their events in memory, and what is new there is slow
CHAIN = 100
CLOCK = "ONNX Runtime's profiler counts whole microseconds, and leaves the caches cold for the next operator"


@dataclass(frozen=True)
class Run:
    """One profiled run: operators in the order in which they ended, and the time of each in whole microseconds."""

    names: tuple[str, ...]
    inputs: tuple[int, ...]  # how many each operator reads
    types: tuple[str, ...]  # the type of the first of them: "uint8"
    times: tuple[int, ...]


def profile(folder: Path, x: NDArray[np.float32], threads: int, runs: int) -> Profiled:
    """See ``convert.profiling.profiler``."""
    with tempfile.TemporaryDirectory(prefix="edgevit-") as scratch, readable(folder / FILE):
        optimised = Path(scratch) / "optimised.onnx"
        session(folder / FILE, threads, optimised)
        nodes = named_nodes(optimised)
        found, calls = profiled_runs(optimised, {INPUT: x}, threads, runs, Path(scratch))
        base, each = event_cost(threads, Path(scratch))
        described = describe(nodes, Model(folder / FILE))
    run, raw = found[0], typical([run.times for run in found])
    net = np.maximum(raw - base - each * np.array(run.inputs), 0)
    operators = (
        Operator(**described[name], precision=precision(nodes[name], read), us=float(us))
        for name, read, us in zip(run.names, run.types, net, strict=True)
    )
    uncounted = tuple(name for name in nodes if name not in run.names)
    return Profiled(tuple(operators), calls, CLOCK, float(np.sum(raw - net)), uncounted)


def named_nodes(path: Path) -> dict[str, ir.Node]:
    """The nodes of the model in ``path``, where those get a name that have none: of an operator that was inlined."""
    model = ir.load(path)
    for index, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type}, inlined {index}"
    ir.save(model, path)
    return {str(node.name): node for node in model.graph}


def profiled_runs(
    path: Path, feed: Mapping[str, Any], threads: int, runs: int, scratch: Path
) -> tuple[list[Run], NDArray[np.float64]]:
    """At least ``runs`` of the graph in ``path`` as it is, in sessions of BLOCK; and what every call took, in ms.

    The first session warms up. An optimisation would name what it inserts otherwise in each session.
    """
    found, calls = [], []
    for index in range(1 + -(-runs // BLOCK)):
        profiled = profiled_session(path, threads, scratch / "events")
        times = []
        for _ in range(WARM + BLOCK):
            started = time.perf_counter_ns()
            profiled.run(None, feed)
            times.append((time.perf_counter_ns() - started) / 1e6)
        events = Path(profiled.end_profiling())
        if index > 0:
            found += list(read_runs(events))[WARM:]
            calls += times[WARM:]
        events.unlink()
    if len({run.names for run in found}) != 1:
        raise differing("ONNX Runtime")
    return found, np.array(calls)


def read_runs(events: Path) -> Iterator[Run]:
    """The runs in a profile, where a run's event follows those of its operators."""
    nodes: list[Mapping[str, Any]] = []
    for event in json.loads(events.read_bytes()):
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            nodes.append(event)
        elif event["name"] == "model_run":
            names = (str(node["name"]).removesuffix("_kernel_time") for node in nodes)
            inputs = [node["args"]["input_type_shape"] for node in nodes]
            types = (next(iter(values[0])) if values else "" for values in inputs)
            yield Run(tuple(names), tuple(map(len, inputs)), tuple(types), tuple(int(node["dur"]) for node in nodes))
            nodes = []


def event_cost(threads: int, scratch: Path) -> tuple[float, float]:
    """What the profiler adds to an operator's time, in microseconds: for itself, and for each of its inputs.

    From chains of sums of single numbers: what a sum takes in the profiler, less what it takes without.
    """
    found, counts = [], (2, 8)
    for inputs in counts:
        chains = [
            write_chain(scratch / f"chain-{inputs}-{length}.onnx", inputs, length) for length in (CHAIN, 2 * CHAIN)
        ]
        feed = {INPUT: np.zeros(1, np.float32)}
        short, long = (call_us(session(path, threads), feed) for path in chains)
        runs, _ = profiled_runs(chains[0], feed, threads, 4 * BLOCK, scratch)
        if len(runs[0].times) != CHAIN:
            raise differing("ONNX Runtime")
        found.append(float(np.median(np.mean([run.times for run in runs], axis=1))) - (long - short) / CHAIN)
    each, base = np.polyfit(counts, found, 1)
    return float(base), float(each)


def write_chain(path: Path, inputs: int, length: int) -> Path:
    """A model of ``length`` sums, one after the other."""
    names = [INPUT, *(f"sum_{index}" for index in range(length))]
    nodes = [
        helper.make_node("Sum", [before] + [INPUT] * (inputs - 1), [name], name=name)
        for before, name in pairwise(names)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (INPUT, names[-1])]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def call_us(runtime: Any, feed: Mapping[str, Any]) -> float:
    times = []
    for _ in range(300):
        started = time.perf_counter_ns()
        runtime.run(None, feed)
        times.append((time.perf_counter_ns() - started) / 1e3)
    return float(np.median(times))


class Model:
    """The artifact as it was written: where what the optimiser made of it comes from, and its work."""

    def __init__(self, path: Path) -> None:
        graph = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load(path))).graph
        self.nodes = {str(node.name): node for node in graph}
        self.producers = {str(value.name): node for node in graph for value in node.outputs}

    def origin(self, name: str, weighted: bool) -> ir.Node | None:
        """What an optimised node was; of a ``weighted`` one the layer, also where a later activation named it."""
        base = MADE.sub("", name)
        node = self.nodes.get(base) or self.producers.get(base)
        while weighted and node is not None and node.op_type not in WEIGHTED:
            node = operand(node, 0).producer()
        return node

    def macs(self, node: ir.Node | None) -> int:
        """Multiply-accumulates, from shapes that are all static. Raises ValueError for one that is not."""
        if node is None or node.op_type not in WEIGHTED:
            return 0
        left, right, out = (size(value) for value in (operand(node, 0), operand(node, 1), node.outputs[0]))
        if node.op_type == "Conv":
            return prod(out) * prod(right[1:])
        return prod(out) * left[0 if node.attributes.get_int("transA", 0) else -1]


def size(value: ir.Value) -> tuple[int, ...]:
    if value.shape is None or not all(isinstance(side, int) for side in value.shape):
        raise ValueError(f"{value.name} has no static shape")
    return tuple(int(side) for side in value.shape)  # type: ignore[arg-type]


def describe(nodes: Mapping[str, ir.Node], model: Model) -> dict[str, dict[str, Any]]:
    """Name → all of its Operator but precision and time, of every optimised node."""
    kinds = {name: KINDS.get(node.op_type, node.op_type.lower()) for name, node in nodes.items()}
    origins = {name: model.origin(name, kinds[name] in LAYERS) for name in nodes}
    places = placed(
        [module(origin) if kinds[name] in NAMED else None for name, origin in origins.items()],
        [{str(value.name) for value in node.inputs if value is not None} for node in nodes.values()],
        [{str(value.name) for value in node.outputs} for node in nodes.values()],
    )
    return {
        name: {
            "name": place,
            "node": name,
            "kind": LAYOUT if kinds[name] == "transpose" and origins[name] is None else kinds[name],
            "macs": model.macs(origins[name]) if kinds[name] in MULTIPLYING else 0,
        }
        for name, place in zip(nodes, places, strict=True)
    }


def module(origin: ir.Node | None) -> str | None:
    """Of a layer, of a residual addition and of a bias; torch's exporter numbers everything else, as "node_bmm_1"."""
    name = "" if origin is None else str(origin.name)
    named = origin is not None and origin.op_type in WEIGHTED and not name.startswith("node_")
    return name if named or name.endswith((".residual", ".bias_addition")) else None


def precision(node: ir.Node, read: str) -> str:
    """Of the kernel, else of the data that it moves."""
    if node.op_type in INTEGER_KINDS or read in ("uint8", "int8"):
        return INT8
    return FLOAT if read in ("float", "float16", "") else read
