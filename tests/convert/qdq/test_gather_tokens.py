import numpy as np
import onnx_ir as ir
import pytest
from onnx import NodeProto, TensorProto, helper

from convert.qdq.gather_tokens import gather_tokens
from tests.convert.qdq.models import model, node, op_types, run

N, K, C = 7, 3, 4


def picking(images: int, axis: int = 1, unsqueezed: int = -1) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """The K best of N tokens by their scores, picked as torch exports it."""
    shape = [images, K, C] if axis == 1 else [K, N, C]
    nodes: list[NodeProto] = [
        helper.make_node("TopK", ["scores", "k"], ["values", "ids"], axis=-1, largest=1, sorted=1),
        helper.make_node("Unsqueeze", ["ids", "axes"], ["unsqueezed"]),
        helper.make_node("Expand", ["unsqueezed", "shape"], ["index"]),
        helper.make_node("GatherElements", ["x", "index"], ["picked"], name="pick", axis=axis),
        helper.make_node("Relu", ["picked"], ["y"]),
    ]
    constants = {"k": np.array([K]), "axes": np.array([unsqueezed]), "shape": np.array(shape)}
    random = np.random.default_rng(0)
    feeds = {
        "x": random.normal(size=(images, N, C)).astype(np.float32),
        "scores": random.normal(size=(images, N)).astype(np.float32),
    }
    return model(nodes, constants, {name: value.shape for name, value in feeds.items()}, ["y"]), feeds


def test_whole_tokens_are_picked_and_nothing_changes() -> None:
    made, feeds = picking(1)
    (before,) = run(made, **feeds)
    assert gather_tokens(made) == 1
    assert op_types(made) == ["TopK", "Squeeze", "Gather", "Relu"]
    assert node(made, "pick").outputs[0].name == "picked"
    (after,) = run(made, **feeds)
    assert after.tobytes() == before.tobytes()
    assert np.unique(after).size > C  # several tokens


def test_the_other_way_to_name_the_last_dimension() -> None:
    made, feeds = picking(1, unsqueezed=2)
    (before,) = run(made, **feeds)
    assert gather_tokens(made) == 1
    assert run(made, **feeds)[0].tobytes() == before.tobytes()


def test_several_images_pick_each_their_own() -> None:
    made, feeds = picking(2)
    (before,) = run(made, **feeds)
    assert gather_tokens(made) == 0
    assert run(made, **feeds)[0].tobytes() == before.tobytes()


def test_an_index_that_differs_between_channels_is_left() -> None:
    index = np.random.default_rng(0).integers(0, N, (1, K, C))
    made = model(
        [helper.make_node("GatherElements", ["x", "index"], ["y"], axis=1)], {"index": index}, {"x": (1, N, C)}, ["y"]
    )
    assert gather_tokens(made) == 0


def test_channels_that_are_picked_are_left() -> None:
    nodes = [
        helper.make_node("Cast", ["wanted"], ["ids"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["ids", "axes"], ["unsqueezed"]),
        helper.make_node("Expand", ["unsqueezed", "shape"], ["index"]),
        helper.make_node("GatherElements", ["x", "index"], ["y"], axis=2),
    ]
    constants = {"axes": np.array([2]), "shape": np.array([1, N, C])}
    made = model(nodes, constants, {"x": (1, N, C), "wanted": (1, N)}, ["y"])
    assert gather_tokens(made) == 0


@pytest.mark.parametrize("axes", [[1], [0]])
def test_an_index_that_was_spread_otherwise_is_left(axes: list[int]) -> None:
    nodes = [
        helper.make_node("Cast", ["wanted"], ["ids"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["ids", "axes"], ["unsqueezed"]),
        helper.make_node("Expand", ["unsqueezed", "shape"], ["index"]),
        helper.make_node("GatherElements", ["x", "index"], ["y"], axis=1),
    ]
    constants = {"axes": np.array(axes), "shape": np.array([1, K, C])}
    made = model(nodes, constants, {"x": (1, N, C), "wanted": (1, C)}, ["y"])
    assert gather_tokens(made) == 0
