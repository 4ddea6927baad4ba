import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from convert.qdq.drop_pairs import drop_pairs
from convert.qdq.graph import is_integer_weighted
from tests.convert.qdq.models import convolution, input_names, model, op_types, pair, run, weight, weight_constants

X = np.random.default_rng(0).normal(size=(1, 4, 3, 3)).astype(np.float32)
GRID = {"s": np.float32(0.05), "z": np.uint8(120)}
WEIGHT = weight_constants("w", 4, 0)
ADD = helper.make_node("Add", ["a_dq", "c"], ["y"], name="node_add")


def fork() -> ir.Model:
    """One dequantised tensor feeds an integer convolution and a float addition."""
    nodes = [*pair("x", "a", "s", "z"), weight("w"), convolution(["a_dq", "w_dq"], "c"), ADD]
    return model(nodes, GRID | WEIGHT, {"x": X.shape}, ["y"])


def named(made: ir.Model) -> ir.Model:
    """Quantised values called as ``name_tensors`` leaves them."""
    for node in made.graph:
        if node.op_type == "QuantizeLinear":
            value = node.outputs[0]
            value.name = f"{str(value.name).removesuffix('_q')}.quantized"
    return made


def test_keeps_the_edge_to_the_integer_convolution_and_drops_the_one_to_the_float_addition() -> None:
    made = named(fork())
    before = run(made, x=X)[0]
    assert drop_pairs(made, lambda quantize, reader: is_integer_weighted(reader)) == []
    assert input_names(made, "node_c") == ["a_dq", "w_dq"]
    assert input_names(made, "node_add") == ["x", "c"]
    on_grid = np.clip(np.round(X / np.float32(0.05)) + 120, 0, 255).astype(np.float32)
    moved = X - (on_grid - 120) * np.float32(0.05)
    np.testing.assert_allclose(run(made, x=X)[0], before + moved, atol=1e-6)
    assert np.abs(moved).max() > 1e-3


def test_a_tensor_that_lost_every_edge_is_named_and_its_nodes_go() -> None:
    made = named(fork())
    assert drop_pairs(made, lambda quantize, reader: False) == ["a"]
    assert op_types(made) == ["DequantizeLinear", "Conv", "Add"]
    assert input_names(made, "node_c") == ["x", "w_dq"]


def test_keeping_everything_changes_nothing() -> None:
    made = named(fork())
    before = run(made, x=X)[0]
    assert drop_pairs(made, lambda quantize, reader: True) == []
    assert np.array_equal(run(made, x=X)[0], before)
    assert op_types(made) == op_types(fork())


def test_asks_with_the_quantize_node_and_the_reader_of_each_edge() -> None:
    asked = []
    drop_pairs(named(fork()), lambda quantize, reader: bool(asked.append((quantize.name, reader.name))))
    assert sorted(asked) == [("quantize_a", "node_add"), ("quantize_a", "node_c")]


@pytest.mark.parametrize("also_read", [False, True])
def test_an_output_of_the_graph_keeps_its_name(also_read: bool) -> None:
    """The last pair's result is the output; with ``also_read`` an integer convolution reads it as well."""
    nodes = [helper.make_node("Relu", ["x"], ["r"]), *pair("r", "a", "s", "z")]
    outputs = ["a_dq"]
    if also_read:
        nodes += [weight("w"), convolution(["a_dq", "w_dq"], "c")]
        outputs.append("c")
    made = named(model(nodes, GRID | (WEIGHT if also_read else {}), {"x": X.shape}, outputs))
    before = run(made, x=X)
    dropped = drop_pairs(made, lambda quantize, reader: is_integer_weighted(reader))
    assert dropped == ([] if also_read else ["a"])
    assert [value.name for value in made.graph.outputs] == outputs
    after = run(made, x=X)
    assert np.array_equal(after[0], np.maximum(X, 0))
    assert not np.array_equal(after[0], before[0])
    assert all(np.array_equal(a, b) for a, b in zip(after[1:], before[1:], strict=True))


def chain() -> ir.Model:
    """A pair behind a pair, then an integer convolution."""
    nodes = [*pair("x", "a", "s", "z"), *pair("a_dq", "b", "t", "z"), weight("w"), convolution(["b_dq", "w_dq"], "y")]
    return named(model(nodes, GRID | WEIGHT | {"t": np.float32(0.2)}, {"x": X.shape}, ["y"]))


def test_in_a_chain_each_pair_is_dropped_for_itself() -> None:
    made = chain()
    assert drop_pairs(made, lambda quantize, reader: is_integer_weighted(reader)) == ["a"]
    assert input_names(made, "quantize_b")[0] == "x"
    assert input_names(made, "node_y")[0] == "b_dq"


def test_a_whole_chain_can_go_and_is_named_in_its_order() -> None:
    made = chain()
    assert drop_pairs(made, lambda quantize, reader: False) == ["a", "b"]
    assert input_names(made, "node_y")[0] == "x"
    run(made, x=X)
