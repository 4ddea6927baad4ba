"""``name_tensors`` and ``name_operators``."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from convert.qdq.graph import quantize_nodes
from convert.qdq.name_operators import FOLDED, name_operators
from convert.qdq.name_tensors import name_tensors
from tests.convert.qdq.models import convolution, input_names, linear, model, node, pair, run, weight, weight_constants

X = np.random.default_rng(0).normal(size=(1, 4, 3, 3)).astype(np.float32)
GRID = {"s": np.float32(0.05), "z": np.int8(3)}
KERNEL = np.random.default_rng(1).normal(size=(4, 4, 1, 1)).astype(np.float32)
ONE = weight_constants("one.weight", 4, 0)
TENSORS = {"a_q": "stem.output", "b_q": "head.input"}


def shared_constants() -> ir.Model:
    """Two tensors with one pair of constants, the second read by two DequantizeLinear nodes; an int8 weight."""
    nodes = [
        *pair("x", "a", "s", "z"),
        helper.make_node("Relu", ["a_dq"], ["r"]),
        *pair("r", "b", "s", "z"),
        helper.make_node("DequantizeLinear", ["b_q", "s", "z"], ["again"], name="dequantize_again"),
        weight("head.weight"),
        convolution(["b_dq", "head.weight_dq"], "y"),
        helper.make_node("Add", ["again", "y"], ["sum"], name="node_sum"),
    ]
    return model(nodes, GRID | weight_constants("head.weight", 4, 0), {"x": X.shape}, ["sum"])


def test_every_grid_gets_constants_of_its_own_under_the_tensors_name() -> None:
    made = shared_constants()
    before = run(made, x=X)[0]
    name_tensors(made, TENSORS)
    for name in TENSORS.values():
        grid = [f"{name}.scale", f"{name}.zero_point"]
        (quantize,) = (n for n in quantize_nodes(made) if n.outputs[0].name == f"{name}.quantized")
        assert [value.name for value in quantize.inputs[1:]] == grid
        assert input_names(made, name) == [f"{name}.quantized", *grid]
        assert made.graph.initializers[grid[0]].const_value.numpy() == GRID["s"]
    assert np.array_equal(run(made, x=X)[0], before)


def test_further_readings_of_a_tensor_are_numbered() -> None:
    made = shared_constants()
    name_tensors(made, TENSORS)
    assert input_names(made, "head.input.1") == input_names(made, "head.input")
    assert sorted([*input_names(made, "node_y"), *input_names(made, "node_sum")]) == sorted(
        ["head.input", "head.weight_dq", "head.input.1", "y"]
    )


def test_a_weights_grid_is_named_after_the_weight() -> None:
    made = shared_constants()
    name_tensors(made, TENSORS)
    expected = ["head.weight", "head.weight.scale", "head.weight.zero_point"]
    assert input_names(made, "head.weight.dequantize") == expected


def test_a_tensor_that_the_program_does_not_know_is_an_error() -> None:
    with pytest.raises(KeyError, match="b_q"):
        name_tensors(shared_constants(), {"a_q": "stem.output"})


def branches() -> ir.Model:
    """conv + x, conv + conv, a product plus its bias, a classifier: all float."""
    nodes = [
        convolution(["x", "one.weight"], "one"),
        helper.make_node("Add", ["one", "x"], ["sum"], name="node_residual"),
        convolution(["sum", "two.weight"], "two"),
        convolution(["sum", "three.weight"], "three"),
        helper.make_node("Add", ["two", "three"], ["both"], name="node_both"),
        helper.make_node("ReduceMean", ["both", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "four.weight"], ["product"], name="node_product"),
        helper.make_node("Add", ["product", "four.bias"], ["tokens"], name="node_bias"),
        helper.make_node("Gemm", ["tokens", "five.weight", "four.bias"], ["y"], name="node_y"),
        helper.make_node("MatMul", ["tokens", "y_t"], ["z"], name="node_attention"),
        helper.make_node("Transpose", ["y"], ["y_t"]),
    ]
    nodes[-1], nodes[-2] = nodes[-2], nodes[-1]
    constants = {f"{name}.weight": KERNEL for name in ("one", "two", "three")}
    constants |= {"four.weight": KERNEL[..., 0, 0], "five.weight": KERNEL[..., 0, 0], "four.bias": KERNEL[0, :, 0, 0]}
    return model(nodes, constants | {"axes": np.array([2, 3])}, {"x": X.shape}, ["z"])


def test_weighted_nodes_are_named_after_their_weight_and_additions_after_their_branch() -> None:
    made = branches()
    name_operators(made)
    names = {value.name: n.name for n in made.graph for value in n.outputs}
    assert names["one"] == "one"
    assert names["sum"] == "one.residual"
    assert (names["two"], names["three"], names["both"]) == ("two", "three", "three.residual")
    assert (names["product"], names["tokens"]) == ("four", "four.bias_addition")
    assert (names["y"], names["z"]) == ("five", "node_attention")


def layers() -> ir.Model:
    """Tokens through a layer on a grid and a float one, transposed by the exporter: the second is a residual branch."""
    wide = KERNEL[..., 0, 0]
    nodes = [
        *pair("x", "a", "s", "z"),
        weight("one.weight"),
        *linear("a_dq", "one.weight_dq", "product"),
        helper.make_node("Add", ["product", "one.bias"], ["tokens"], name="node_one"),
        helper.make_node("MatMul", ["tokens", "val_1"], ["second"], name="node_MatMul"),
        helper.make_node("Add", ["two.bias", "second"], ["branch"], name="node_two"),
        helper.make_node("Add", ["x", "branch"], ["sum"], name="node_sum"),
        *linear("sum", "three.weight", "y"),
    ]
    constants = {"one.bias": wide[0], "two.bias": wide[1], "val_1": wide.T, "three.weight": wide}
    integers = {name: value.reshape(4, 4) if name == "one.weight" else value for name, value in ONE.items()}
    made = model(nodes, GRID | constants | integers, {"x": (1, 5, 4)}, ["y"])
    made.graph.initializers["val_1"].metadata_props[FOLDED] = "['two.weight']"
    return made


def test_linear_layers_of_tokens_are_named_after_their_weight_and_their_sums_after_them() -> None:
    made = layers()
    name_operators(made)
    names = {value.name: n.name for n in made.graph for value in n.outputs}
    assert (names["product"], names["tokens"]) == ("one", "one.bias_addition")
    assert (names["second"], names["branch"]) == ("two", "two.bias_addition")
    assert (names["sum"], names["y"]) == ("two.residual", "three")


def test_a_constant_that_was_folded_from_several_has_its_own_name() -> None:
    made = layers()
    made.graph.initializers["val_1"].metadata_props[FOLDED] = "['two.weight', 'scale']"
    name_operators(made)
    assert node(made, "val_1").op_type == "MatMul"


def test_names_see_through_the_grid_of_weights_and_branches() -> None:
    nodes = [
        *pair("x", "a", "s", "z"),
        weight("one.weight"),
        convolution(["a_dq", "one.weight_dq"], "c"),
        *pair("c", "b", "s", "z"),
        helper.make_node("Add", ["b_dq", "a_dq"], ["sum"], name="node_sum"),
    ]
    made = model(nodes, GRID | weight_constants("one.weight", 4, 0), {"x": X.shape}, ["sum"])
    name_operators(made)
    assert node(made, "one").op_type == "Conv"
    assert input_names(made, "one.residual") == ["b_dq", "a_dq"]
