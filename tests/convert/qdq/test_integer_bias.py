import numpy as np
import onnx_ir as ir
import pytest
from onnx import NodeProto, helper

from convert.qdq.integer_bias import integer_bias
from edgevit.errors import ClaimError
from tests.convert.qdq.models import (
    Array,
    convolution,
    input_names,
    model,
    node,
    op_types,
    pair,
    run,
    weight,
    weight_constants,
)

X = np.random.default_rng(0).normal(size=(1, 4, 3, 3)).astype(np.float32)
BIAS = np.array([0.5, -0.25, 0, 3.3], np.float32)


def made(nodes: list[NodeProto], outputs: list[str], bias: Array = BIAS, scale: float = 0.05) -> ir.Model:
    """``nodes`` behind the activation ``a``, with the int8 weights ``w`` and ``v`` at hand."""
    constants = {"s": np.float32(scale), "z": np.uint8(120), "bias": bias}
    constants |= weight_constants("w", 4, 0) | weight_constants("v", 4, 1)
    return model([*pair("x", "a", "s", "z"), weight("w"), weight("v"), *nodes], constants, {"x": X.shape}, outputs)


def test_the_bias_is_rounded_on_the_accumulators_grid() -> None:
    m = made([convolution(["a_dq", "w_dq", "bias"], "y")], ["y"])
    before = run(m, x=X)[0]
    assert integer_bias(m) == 1
    integers, scale, zero_point = (value.const_value.numpy() for value in node(m, "node_y.bias.dequantize").inputs)
    step = np.float32(0.05) * weight_constants("w", 4, 0)["w_scale"]
    assert integers.dtype == zero_point.dtype == np.int32
    assert np.array_equal(scale, step)
    assert np.array_equal(integers, np.round(BIAS.astype(np.float64) / step))
    assert not zero_point.any()
    assert input_names(m, "node_y") == ["a_dq", "w_dq", "node_y.bias.dequantized"]
    error = np.abs(run(m, x=X)[0] - before).max((0, 2, 3))
    assert (error <= step / 2 + 1e-6).all()
    assert error.max() > 0


@pytest.mark.parametrize("sign", [1, -1])
def test_refuses_a_bias_that_int32_does_not_hold(sign: int) -> None:
    bias = np.array([0, 0, sign * 1e6, 0], np.float32)
    m = made([convolution(["a_dq", "w_dq", "bias"], "y")], ["y"], bias, scale=1e-5)
    with pytest.raises(ClaimError, match=r"node_y\.bias does not fit int32"):
        integer_bias(m)


def test_a_layer_without_a_bias_stays_so() -> None:
    m = made([convolution(["a_dq", "w_dq"], "y")], ["y"])
    assert integer_bias(m) == 0
    assert input_names(m, "node_y") == ["a_dq", "w_dq"]


@pytest.mark.parametrize("inputs", [["x", "w_dq", "bias"], ["a_dq", "f", "bias"]], ids=["activation", "weight"])
def test_a_layer_with_a_float_operand_keeps_its_float_bias(inputs: list[str]) -> None:
    nodes = [helper.make_node("Identity", ["v_dq"], ["f"]), convolution(inputs, "y")]
    m = made(nodes, ["y"])
    before = op_types(m)
    assert integer_bias(m) == 0
    assert op_types(m) == before


def test_a_bias_that_two_layers_share_is_rounded_for_each() -> None:
    m = made([convolution(["a_dq", w, "bias"], y) for w, y in (("w_dq", "y"), ("v_dq", "u"))], ["y", "u"])
    before = run(m, x=X)
    assert integer_bias(m) == 2
    for name, seed in (("y", 0), ("u", 1)):
        integers, scale, _ = (value.const_value.numpy() for value in node(m, f"node_{name}.bias.dequantize").inputs)
        step = np.float32(0.05) * weight_constants("_", 4, seed)["__scale"]
        assert np.array_equal(scale, step)
        np.testing.assert_allclose(integers * scale, BIAS, atol=float(step.max()) / 2)
    for a, b in zip(run(m, x=X), before, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_a_bias_that_is_computed_is_left_alone() -> None:
    nodes = [helper.make_node("Relu", ["bias"], ["computed"]), convolution(["a_dq", "w_dq", "computed"], "y")]
    assert integer_bias(made(nodes, ["y"])) == 0
