import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from convert.qdq.relabel_uint8 import relabel_uint8
from tests.convert.qdq.models import model, node, pair, run, weight, weight_constants

X = np.concatenate([np.linspace(-9, 9, 4 * 36 - 4), [0, -1e9, 1e9, 0.05]]).astype(np.float32).reshape(1, 4, 6, 6)


def two_readers(zero_point: int) -> ir.Model:
    """One quantised tensor that two DequantizeLinear nodes read, and an int8 weight."""
    nodes = [
        *pair("x", "a", "s", "z"),
        helper.make_node("DequantizeLinear", ["a_q", "s", "z"], ["again"], name="dequantize_again"),
        weight("w"),
        helper.make_node("Conv", ["a_dq", "w_dq"], ["y"], name="conv"),
    ]
    constants = {"s": np.float32(0.05), "z": np.int8(zero_point), **weight_constants("w", 4, 0)}
    return model(nodes, constants, {"x": X.shape}, ["y", "again"])


@pytest.mark.parametrize("zero_point", [-128, -7, 0, 127])
def test_is_bit_exact_where_values_round_and_saturate_too(zero_point: int) -> None:
    made = two_readers(zero_point)
    before = run(made, x=X)
    assert relabel_uint8(made) == 1
    after = run(made, x=X)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert len(np.unique(after[1])) > 50


def test_relabels_the_activation_and_leaves_the_weight() -> None:
    made = two_readers(-7)
    relabel_uint8(made)
    zero_points = {name: node(made, f"dequantize_{name}").inputs[2] for name in ("a", "again", "w")}
    assert zero_points["a"] is zero_points["again"] is node(made, "quantize_a").inputs[2]
    assert zero_points["a"].const_value.numpy() == np.uint8(121)
    assert zero_points["w"].const_value.numpy().dtype == np.int8
    assert node(made, "quantize_a").outputs[0].dtype == ir.DataType.UINT8


def test_an_explicit_output_type_goes() -> None:
    made = two_readers(-7)
    before = run(made, x=X)
    node(made, "quantize_a").attributes.add(ir.AttrInt64("output_dtype", ir.DataType.INT8))
    relabel_uint8(made)
    assert np.array_equal(run(made, x=X)[0], before[0])


def test_a_second_time_changes_nothing() -> None:
    made = two_readers(-7)
    relabel_uint8(made)
    before = run(made, x=X)
    assert relabel_uint8(made) == 0
    assert np.array_equal(run(made, x=X)[0], before[0])
