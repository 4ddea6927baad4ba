"""What a ``.pte`` file holds: the portable kernels that it calls, and the XNNPACK graphs that it delegates to.

The container and the graphs are flatbuffers. ExecuTorch's own reader opens the first, and its ``flatc`` turns the
graphs into JSON; but that prints six digits of a float, so scales are read from the bytes themselves. Sources:
``exir/_serialize/program.fbs`` and ``backends/xnnpack/serialization/schema.fbs`` of executorch 1.5.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader, _get_schema_bytes
from executorch.exir._serialize._flatbuffer import _flatc_decompile
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.schema import DelegateCall, KernelCall
from flatbuffers import number_types
from flatbuffers.encode import Get
from flatbuffers.table import Table

from calibrate.program import TensorGrid

METHOD = "forward"
NO_HANDLE = 65535  # the debug handle of a node that a pass of the lowering inserted
QUANTISED = {"xnn_datatype_qint8", "xnn_datatype_qcint8"}
# Positions in their tables of what is read from the bytes; a union takes two, its type and its value.
XVALUES, XVALUE, QUANT_PARAMS, SCALE = 2, 1, 2, 0


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of an XNNPACK graph. Its values have numbers; a bias, which has no grid of its own, is left out."""

    kind: str  # "XNNConv2d"
    inputs: tuple[int, ...]  # the filter is the second
    outputs: tuple[int, ...]
    handle: int  # the lowering numbers the program's nodes in their order, and what comes of one keeps its number

    @property
    def inserted(self) -> bool:
        """Whether it is a pass of the lowering that made it: nothing in the program stands for it."""
        return self.handle == NO_HANDLE


@dataclass(frozen=True, eq=False)
class Graph:
    """One partition: its nodes in execution order, and of its values, by their number, shape and int8 grid."""

    nodes: tuple[Node, ...]
    grids: Mapping[int, TensorGrid]
    shapes: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class Program:
    graphs: tuple[Graph, ...]
    calls: tuple[
        Graph | str | None, ...
    ]  # by instruction: a graph, a kernel outside of them as "aten::mean.out", or else

    @property
    def portable(self) -> Counter[str]:
        """Calls of each kernel outside the graphs."""
        return Counter(call for call in self.calls if isinstance(call, str))


def read(path: Path) -> Program:
    """Parse ``path``. Raises whatever its parsers raise for a file that is missing, cut short or garbled."""
    file = deserialize_pte_binary(path.read_bytes())
    plan = next(plan for plan in file.program.execution_plan if plan.name == METHOD)
    constants = {} if file.named_data is None else named_constants(file.named_data)
    payloads = [file.program.backend_delegate_data[delegate.processed.index].data for delegate in plan.delegates]
    graphs = tuple(read_graph(payload, constants) for payload in payloads)
    (chain,) = plan.chains

    def called(call: Any) -> Graph | str | None:
        if isinstance(call, DelegateCall):
            graph: Graph = graphs[call.delegate_index]
            return graph
        if not isinstance(call, KernelCall):
            return None
        operator = plan.operators[call.op_index]
        return f"{operator.name}.{operator.overload}" if operator.overload else str(operator.name)

    return Program(graphs, tuple(called(instruction.instr_args) for instruction in chain.instructions))


def named_constants(store: Any) -> dict[str, bytes]:
    return {key: store.buffers[entry.buffer_index] for key, entry in store.pte_data.items()}


def read_graph(payload: bytes, constants: Mapping[str, bytes]) -> Graph:
    header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
    buffer = bytes(payload[header.flatbuffer_offset :][: header.flatbuffer_size])
    described = decompiled(buffer)
    keys = [entry["named_key"] for entry in described["constant_data"]]
    grids, shapes = {}, {}
    for index, value in enumerate(described["xvalues"]):
        fields = value["xvalue_union"]
        tensor = fields.get("tensor_value", fields)
        shapes[tensor["id_out"]] = tuple(tensor["dims"])
        if value["xvalue_union_type"] == "XNNQuantizedTensorValue" and tensor["datatype"] in QUANTISED:
            grids[tensor["id_out"]] = read_grid(fields["quant_params"], buffer, index, keys, constants)
    nodes = (read_node(node) for node in described["xnodes"])
    return Graph(tuple(nodes), grids, shapes)


def decompiled(buffer: bytes) -> dict[str, Any]:
    """The JSON form of an XNNPACK graph, with every field that it leaves at its default."""
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        schema, binary = Path(folder) / "schema.fbs", Path(folder) / "graph.bin"
        schema.write_bytes(_get_schema_bytes())
        binary.write_bytes(buffer)
        _flatc_decompile(folder, str(schema), str(binary), ["--raw-binary"])
        text = binary.with_suffix(".json").read_text()
    described: dict[str, Any] = json.loads(re.sub(r": (-?)inf\b", r": \1Infinity", text))
    return described


def read_node(node: Mapping[str, Any]) -> Node:
    fields = node["xnode_union"]
    inputs = [*sorted(name for name in fields if re.fullmatch(r"input\d*_id", name)), "filter_id"]
    outputs = sorted(name for name in fields if re.fullmatch(r"output\d*_id", name))
    return Node(
        node["xnode_union_type"],
        tuple(fields[name] for name in inputs if name in fields),
        tuple(fields[name] for name in outputs),
        node["debug_handle"],
    )


def read_grid(
    params: Mapping[str, Any], buffer: bytes, index: int, keys: list[str], constants: Mapping[str, bytes]
) -> TensorGrid:
    """Per channel, the scales are a named constant of the file and the zero points are 0; per tensor, both are here.

    Channels are a filter's outputs, which the program has first, wherever XNNPACK's layout puts them.
    """
    if "channel_dim" in params:
        scales = np.frombuffer(constants[keys[params["scale_buffer_idx"]]], np.float32)[: params["num_scales"]]
        return TensorGrid(tuple(scales.tolist()), (0,) * len(scales), axis=0)
    return TensorGrid((tensor_scale(buffer, index),), (params["zero_point"],))


def tensor_scale(buffer: bytes, index: int) -> float:
    """Of the ``index``-th value of a graph, as the float32 that stands in the file."""
    root = Table(buffer, Get(number_types.UOffsetTFlags.packer_type, buffer, 0))
    vector = root.Vector(offset(root, XVALUES))
    value = Table(buffer, root.Indirect(vector + 4 * index))
    for field in (XVALUE, QUANT_PARAMS):
        inner = Table(buffer, 0)
        value.Union(inner, offset(value, field))
        value = inner
    position = value.Pos + offset(value, SCALE)
    scale: float = value.Get(number_types.Float32Flags, position)
    return scale


def offset(table: Table, field: int) -> int:
    """Where the ``field``-th field of a table lies in it. Raises ValueError for a field that is left out."""
    found: int = table.Offset(4 + 2 * field)
    if not found:
        raise ValueError(f"field {field} is missing")
    return found
