import numpy as np
import onnx_ir as ir
import pytest
from onnx import NodeProto, helper

from convert.qdq.integer_bias import integer_bias
from convert.qdq.linear_as_gemm import linear_as_gemm
from convert.qdq.name_operators import name_operators
from tests.convert.qdq.models import Array, input_names, linear, model, node, op_types, pair, run, weight

N, C, D = 5, 4, 6
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, N, C)).astype(np.float32)
CONSTANTS = {"s": np.float32(0.05), "z": np.uint8(120), "bias": RANDOM.normal(size=D).astype(np.float32)}
WEIGHT = {
    "fc.weight": RANDOM.integers(-127, 128, (D, C), np.int8),
    "fc.weight_scale": RANDOM.uniform(0.01, 0.02, D).astype(np.float32),
    "fc.weight_zero_point": np.zeros(D, np.int8),
}


def layer(bias: bool) -> list[NodeProto]:
    """Tokens → grid → linear layer as it is exported, and its bias where it has one."""
    nodes = [*pair("x", "a", "s", "z"), weight("fc.weight"), *linear("a_dq", "fc.weight_dq", "y")]
    return [*nodes, helper.make_node("Add", ["y", "bias"], ["sum"], name="node_add")] if bias else nodes


def made(nodes: list[NodeProto], outputs: list[str], x: Array = X) -> ir.Model:
    found = model(nodes, CONSTANTS | WEIGHT, {"x": x.shape}, outputs)
    name_operators(found)
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, N, C), (2, 3, N, C)])
def test_the_values_and_the_operators_name_stay(
    shape: tuple[int, ...], bias: bool, random: np.random.Generator
) -> None:
    x = random.normal(size=shape).astype(np.float32)
    m = made(layer(bias), ["sum" if bias else "y"], x)
    before = run(m, x=x)[0]
    assert linear_as_gemm(m) == 1
    assert [v.name for v in m.graph.outputs] == ["sum" if bias else "y"]
    after = run(m, x=x)[0]
    assert after.shape == before.shape == (*shape[:-1], D)
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)
    types = ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Reshape", "Gemm", "Reshape"]
    assert op_types(m) == types
    operands = ["fc.rows", "fc.weight_dq"] + ["bias"] * bias
    assert input_names(m, "fc") == operands
    assert node(m, "fc").op_type == "Gemm"


def test_the_bias_may_be_the_first_summand() -> None:
    nodes = [*layer(False), helper.make_node("Add", ["bias", "y"], ["sum"], name="node_add")]
    m = made(nodes, ["sum"])
    before = run(m, x=X)[0]
    linear_as_gemm(m)
    assert input_names(m, "fc") == ["fc.rows", "fc.weight_dq", "bias"]
    np.testing.assert_allclose(run(m, x=X)[0], before, rtol=1e-6, atol=1e-6)


def test_its_bias_then_goes_onto_the_accumulators_grid() -> None:
    m = made(layer(True), ["sum"])
    before = run(m, x=X)[0]
    linear_as_gemm(m)
    assert integer_bias(m) == 1
    integers, scale, _ = (value.const_value.numpy() for value in node(m, "fc.bias.dequantize").inputs)
    step = CONSTANTS["s"] * WEIGHT["fc.weight_scale"]
    assert np.array_equal(scale, step)
    assert np.array_equal(integers, np.round(CONSTANTS["bias"].astype(np.float64) / step))
    assert (np.abs(run(m, x=X)[0] - before) <= step / 2 + 1e-6).all()


def test_an_addition_that_is_no_bias_stays_behind_the_gemm(random: np.random.Generator) -> None:
    for summand in ("x2", "bias3"):
        constants = CONSTANTS | WEIGHT | {"bias3": random.normal(size=(1, N, D)).astype(np.float32)}
        nodes = [*layer(False), helper.make_node("Add", ["y", summand], ["sum"], name="node_add")]
        m = model(nodes, constants, {"x": X.shape, "x2": (2, N, D)}, ["sum"])
        name_operators(m)
        inputs = {"x": X, "x2": np.ones((2, N, D), np.float32)}
        before = run(m, **inputs)[0]
        assert linear_as_gemm(m) == 1
        assert op_types(m)[-3:] == ["Gemm", "Reshape", "Add"]
        assert len(node(m, "fc").inputs) == 2
        np.testing.assert_allclose(run(m, **inputs)[0], before, rtol=1e-6, atol=1e-6)


def test_a_product_that_is_also_read_without_its_bias_keeps_it_apart() -> None:
    nodes = [*layer(True), helper.make_node("Relu", ["y"], ["r"])]
    m = made(nodes, ["sum", "r"])
    before = run(m, x=X)
    linear_as_gemm(m)
    assert len(node(m, "fc").inputs) == 2
    for a, b in zip(run(m, x=X), before, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_product_that_is_an_output_keeps_its_bias_apart() -> None:
    m = made(layer(True), ["y", "sum"])
    before = run(m, x=X)
    linear_as_gemm(m)
    assert len(node(m, "fc").inputs) == 2
    for a, b in zip(run(m, x=X), before, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_two_layers_on_the_same_tokens() -> None:
    second = {name.replace("fc", "second"): value for name, value in WEIGHT.items()}
    nodes = [*layer(True), weight("second.weight"), *linear("a_dq", "second.weight_dq", "u")]
    m = model(nodes, CONSTANTS | WEIGHT | second, {"x": X.shape}, ["sum", "u"])
    name_operators(m)
    before = run(m, x=X)
    assert linear_as_gemm(m) == 2
    assert op_types(m).count("QuantizeLinear") == 1
    for a, b in zip(run(m, x=X), before, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tokens", ["x", "a_dq"])
def test_products_that_are_not_integer_layers_stay(tokens: str) -> None:
    """Float tokens on an int8 weight; tokens on a grid times other tokens on it, transposed."""
    other = "fc.weight_dq" if tokens == "x" else "a_dq"
    transposed = helper.make_node("Transpose", [other], ["t"], perm=[1, 0] if tokens == "x" else [0, 2, 1])
    nodes = [
        *pair("x", "a", "s", "z"),
        weight("fc.weight"),
        transposed,
        helper.make_node("MatMul", [tokens, "t"], ["y"]),
    ]
    m = made(nodes, ["y"])
    before = op_types(m)
    assert linear_as_gemm(m) == 0
    assert op_types(m) == before
