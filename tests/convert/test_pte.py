import numpy as np
import pytest

from convert import pte
from tests.calibrate.subjects import quantized_vit
from tests.convert.test_executorch import Lower


@pytest.fixture(scope="module")
def program(lowered: Lower) -> pte.Program:
    return pte.read(lowered("executorch", "int8").folder / "model.pte")


def test_scales_are_the_float32_of_the_program_and_not_their_six_digits(program: pte.Program) -> None:
    (graph,) = program.graphs
    expected = {np.float32(s) for grid in quantized_vit().tensors.values() for s in grid.scale}
    found = {np.float32(s) for grid in graph.grids.values() for s in grid.scale}
    assert found == expected
    assert any(float(f"{scale:.6g}") != scale for scale in found)


def test_a_weighted_node_reads_its_input_and_then_its_filter(program: pte.Program) -> None:
    (graph,) = program.graphs
    weighted = [node for node in graph.nodes if node.kind in ("XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected")]
    assert all(len(node.inputs) == 2 and len(node.outputs) == 1 for node in weighted)
    filters = [graph.grids[node.inputs[1]] for node in weighted if node.inputs[1] in graph.grids]
    assert len(filters) == len(quantized_vit().asked)
    assert {grid.axis for grid in filters} == {0}
    assert all(len(grid.scale) > 1 and set(grid.zero_point) == {0} for grid in filters)


def test_layout_changes_are_told_from_the_programs_own_transpositions(program: pte.Program) -> None:
    (graph,) = program.graphs
    transposed = [node.inserted for node in graph.nodes if node.kind == "XNNStaticTranspose"]
    assert set(transposed) == {True, False}
    assert not any(node.inserted for node in graph.nodes if node.kind == "XNNConv2d")


def test_a_float_program_has_no_grid(lowered: Lower) -> None:
    program = pte.read(lowered("executorch", "fp32").folder / "model.pte")
    assert [dict(graph.grids) for graph in program.graphs] == [{}]
