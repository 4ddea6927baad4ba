from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest
from onnx import NodeProto, helper

from convert.qdq.convolve_slices import convolve_slices
from tests.convert.qdq.models import model, node, op_types, run, weight, weight_constants

INPUTS, OUTPUTS, SIDE = 5, 12, 6
LAST = np.iinfo(np.int64).max
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, INPUTS, SIDE, SIDE)).astype(np.float32)


def sliced(slices: Sequence[tuple[int, int]], bias: bool = True, axis: int = 1, step: int = 1) -> ir.Model:
    """A convolution and slices of its channels; the first outputs of the model are the slices."""
    constants: dict[str, np.ndarray] = {
        "w": RANDOM.normal(size=(OUTPUTS, INPUTS, 3, 3)).astype(np.float32),
        "axis": np.array([axis]),
        "step": np.array([step]),
    }
    if bias:
        constants["b"] = RANDOM.normal(size=OUTPUTS).astype(np.float32)
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    nodes = [helper.make_node("Conv", inputs, ["y"], name="conv", pads=[1, 0, 1, 2], strides=[2, 1])]
    for index, (start, end) in enumerate(slices):
        constants |= {f"s{index}": np.array([start]), f"e{index}": np.array([end])}
        nodes.append(helper.make_node("Slice", ["y", f"s{index}", f"e{index}", "axis", "step"], [f"y{index}"]))
    return model(nodes, constants, {"x": X.shape}, [f"y{index}" for index in range(len(slices))])


@pytest.mark.parametrize("bias", [True, False])
def test_every_slice_is_a_convolution_of_its_own(bias: bool) -> None:
    made = sliced([(0, 4), (4, 8), (8, LAST), (-2, LAST), (2, 6)], bias)
    before = run(made, x=X)
    assert convolve_slices(made) == 1
    assert op_types(made) == ["Conv"] * 5
    assert node(made, "conv.4").inputs[0].name == "x"
    assert [value.name for value in made.graph.outputs] == [f"y{index}" for index in range(5)]
    for given, wanted in zip(run(made, x=X), before, strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-6, atol=1e-6)
        assert given.shape == wanted.shape


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (sliced([(0, 3)], axis=2), "rows of the image"),
        (sliced([(0, 8)], step=2), "every other channel"),
    ],
)
def test_what_is_no_run_of_channels_is_left(made: ir.Model, why: str) -> None:
    assert convolve_slices(made) == 0, why


def test_a_convolution_that_is_read_whole_too_is_left() -> None:
    made = sliced([(0, 4)])
    whole = ir.node("Relu", [node(made, "conv").outputs[0]])
    made.graph.append(whole)
    assert convolve_slices(made) == 0


def test_groups_are_left() -> None:
    constants = {
        "w": RANDOM.normal(size=(4, 2, 1, 1)).astype(np.float32),
        "s": np.array([0]),
        "e": np.array([2]),
        "axis": np.array([1]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], group=2),
        helper.make_node("Slice", ["y", "s", "e", "axis"], ["part"]),
    ]
    assert convolve_slices(model(nodes, constants, {"x": (1, 4, 3, 3)}, ["part"])) == 0


def test_an_integer_convolution_keeps_its_weight_on_one_grid() -> None:
    nodes: list[NodeProto] = [
        weight("w"),
        helper.make_node("Conv", ["x", "w_dq"], ["y"]),
        helper.make_node("Slice", ["y", "s", "e", "axis"], ["part"]),
    ]
    constants = weight_constants("w", 4, 0) | {"s": np.array([0]), "e": np.array([2]), "axis": np.array([1])}
    assert convolve_slices(model(nodes, constants, {"x": (1, 4, 3, 3)}, ["part"])) == 0
