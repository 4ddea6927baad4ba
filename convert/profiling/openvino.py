"""OpenVINO's performance counters: one for every node of the CPU plugin's execution graph.

Each adds up whole microseconds, cut off run by run, and gives their mean over all runs, cut off again: a node that
takes less than one counts as nothing. A mean also holds the first, slow runs and whatever disturbed a run. The first
are taken out again, and the rest is a median over several compilations, because counters cannot be set back.
"""

import time
from collections.abc import Sequence
from itertools import compress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.openvino import FILE, KINDS, NOT_OPERATORS, compiled, core
from convert.profiling.near import placed
from convert.profiling.profiler import FLOAT, INT8, LAYOUT, QUANTIZE, WARM, Operator, Profiled, differing
from convert.target import readable

BLOCKS = 5  # compilations
WORDS = {**KINDS, "Reorder": LAYOUT, "FakeQuantize": QUANTIZE}
PRECISIONS = {"u8": INT8, "i8": INT8, "f32": FLOAT, "f16": FLOAT, "bf16": FLOAT}
CLOCK = (
    "OpenVINO counts whole microseconds and cuts off the rest, of each run and of their mean: up to 2 µs of each of "
    "its {} operators are missing"
)


def profile(folder: Path, x: NDArray[np.float32], threads: int, runs: int) -> Profiled:
    """See ``convert.profiling.profiler``."""
    with readable(folder / FILE):
        blocks, calls = [], []
        for _ in range(BLOCKS):
            program = compiled(folder, threads, counting=True)
            request = program.create_infer_request()
            first, _ = mean_us(request, x, WARM)
            whole, took = mean_us(request, x, -(-runs // BLOCKS))
            graph = Graph(program.get_runtime_model())
            calls += took
            every = WARM + len(took)
            blocks.append(
                [(every * whole[n] - WARM * first[n]) / len(took) if n in whole else None for n in graph.names]
            )
        if len({tuple(us is None for us in block) for block in blocks}) != 1:
            raise differing("OpenVINO")
        described = describe(graph, Model(core().read_model(folder / FILE)))
    counted = [us is not None for us in blocks[0]]
    times = np.median([[us for us in block if us is not None] for block in blocks], axis=0)
    operators = tuple(
        Operator(**fields, us=max(0.0, float(us)))
        for fields, us in zip(compress(described, counted), times, strict=True)
    )
    return Profiled(operators, np.array(calls), CLOCK.format(len(operators)), uncounted=graph.uncounted(counted))


def mean_us(request: Any, x: NDArray[np.float32], runs: int) -> tuple[dict[str, int], list[float]]:
    """Node → its mean over all runs so far, after ``runs`` more; and what each of these took, in ms."""
    took = []
    for _ in range(runs):
        started = time.perf_counter_ns()
        request.infer({0: x})
        took.append((time.perf_counter_ns() - started) / 1e6)
    counters = {info.node_name: round(info.real_time.total_seconds() * 1e6) for info in request.get_profiling_info()}
    return counters, took


class Graph:
    """The execution graph: its nodes in the order in which they run, without constants and the program's ends.

    Names of what the plugin inserts are numbered otherwise in each compilation; the order is the same.
    """

    def __init__(self, model: Any) -> None:
        infos = {node: {key: v.astype(str) for key, v in node.get_rt_info().items()} for node in model.get_ops()}
        inner = {node: info for node, info in infos.items() if info["layerType"] not in NOT_OPERATORS}
        self.nodes = sorted(inner, key=lambda node: int(inner[node]["execOrder"]))
        self.names = [node.get_friendly_name() for node in self.nodes]
        self.infos = [inner[node] for node in self.nodes]
        self.reads = [
            {port.get_source_output().get_node().get_friendly_name() for port in node.inputs()} for node in self.nodes
        ]
        self.constants = {node.get_friendly_name() for node, info in infos.items() if info["layerType"] == "Const"}

    def uncounted(self, counted: Sequence[bool]) -> tuple[str, ...]:
        """Those without a counter; one that reads constants alone has none, as it was computed in advance."""
        constants, missing = set(self.constants), []
        for name, reads, has in zip(self.names, self.reads, counted, strict=True):
            if not has and reads <= constants:
                constants.add(name)
            elif not has:
                missing.append(name)
        return tuple(missing)


class Model:
    """The artifact as it was written: where what the plugin made of it comes from, and its work."""

    def __init__(self, model: Any) -> None:
        operators = {node.get_friendly_name(): node for node in model.get_ops()}
        self.kinds = {name: kind(node) for name, node in operators.items()}
        self.work = {name: macs(node) for name, node in operators.items()}

    def kind(self, layer: str, origins: Sequence[str]) -> str:
        """A "Subgraph" is a kernel made of several operators: those, as far as the artifact has them."""
        fused = dict.fromkeys(self.kinds[name] for name in origins if name in self.kinds)
        return "+".join(fused) if layer == "Subgraph" and fused else WORDS.get(layer, layer.lower())

    def macs(self, node: Any, kind: str, origins: Sequence[str]) -> int:
        """Of all that was fused into ``node``; a layer that lost its name is known by its own shapes."""
        known = sum(self.work.get(name, 0) for name in origins)
        return prod(shape(node.output(0))) * shape(node.input(1))[-1] if kind == "linear" and not known else known


def kind(node: Any) -> str:
    """Of an operator of the artifact, which puts a tensor on its grid by a FakeQuantize and a Convert."""
    name = str(node.get_type_name())
    if name == "Convert" and node.input_value(0).get_node().get_type_name() == "FakeQuantize":
        return QUANTIZE
    return WORDS.get(name, name.lower())


def macs(node: Any) -> int:
    """Multiply-accumulates, from shapes that are all static."""
    match node.get_type_name():
        case "Convolution":
            return prod(shape(node.output(0))) * prod(shape(node.input(1))[1:])
        case "GroupConvolution":  # its filters start with groups and outputs
            return prod(shape(node.output(0))) * prod(shape(node.input(1))[2:])
        case "MatMul":
            return (
                prod(shape(node.output(0))) * shape(node.input(0))[-2 if node.get_attributes()["transpose_a"] else -1]
            )
    return 0


def shape(port: Any) -> tuple[int, ...]:
    return tuple(port.get_shape())


def describe(graph: Graph, model: Model) -> list[dict[str, Any]]:
    """All of each node's Operator but the time."""
    origins = [[name for name in info["originalLayersNames"].split(",") if name] for info in graph.infos]
    kinds = [model.kind(info["layerType"], names) for info, names in zip(graph.infos, origins, strict=True)]
    modules = [module(kind, names) for kind, names in zip(kinds, origins, strict=True)]
    places = placed(modules, graph.reads, [{name} for name in graph.names])
    return [
        {
            "name": place,
            "node": node.get_friendly_name(),
            "kind": kind,
            "precision": PRECISIONS.get(info["runtimePrecision"], info["runtimePrecision"]),
            "macs": model.macs(node, kind, names),
        }
        for node, info, kind, names, place in zip(graph.nodes, graph.infos, kinds, origins, places, strict=True)
    ]


def module(kind: str, origins: Sequence[str]) -> str | None:
    """Of a layer, or of a residual addition; where both were fused, of the layer, which comes first."""
    names = (name.removesuffix("/WithoutBiases").removesuffix(".bias_addition") for name in origins)
    layer = kind in ("conv", "linear")
    return next((n for n in names if n.endswith(".residual") or (layer and not n.startswith("node_"))), None)
