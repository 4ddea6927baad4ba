from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.convert.mil.programs import Case, Cases, by_opset, check

X = torch.arange(24.0).reshape(2, 3, 4)
ROW = torch.tensor([[3.0, -1.0, 3.0, 8.0, 0.5], [0.25, 2.0, -7.0, 2.0, 2.0]])
INDICES = torch.tensor([[2, 0], [1, 1]], dtype=torch.int32)
IMAGE = torch.arange(48.0).reshape(2, 3, 2, 4)


def numpy_case(kind: str, expected: Any, x: Tensor = X, opset: str = "iOS17", **constants: Any) -> Case:
    return Case(kind, {"x": x}, constants, lambda x: torch.tensor(np.array(expected(x.numpy()))), opset)


def sliced(expected: Any, begin: list[int], end: list[int], x: Tensor = X, **constants: Any) -> Case:
    return numpy_case("slice_by_index", expected, x, begin=begin, end=end, **constants)


def joined(kind: str, expected: Any, **constants: Any) -> Case:
    def values(a: Any, b: Any) -> dict[str, Any]:
        return {"values": (a, b)}

    return Case(kind, {"a": X, "b": -X}, constants, expected, arguments=values)


def gather(expected: Any, indices: Tensor, x: Tensor = X, opset: str = "iOS17", **constants: Any) -> Case:
    def wanted(x: Tensor, indices: Tensor) -> Tensor:
        return torch.from_numpy(expected(x.numpy(), indices.numpy()))

    return Case("gather", {"x": x, "indices": indices}, constants, wanted, opset)


def along(axis: int, indices: Tensor, opset: str = "iOS17", **constants: Any) -> Case:
    def wanted(x: Tensor, indices: Tensor) -> Tensor:
        return torch.from_numpy(np.take_along_axis(x.numpy(), indices.numpy(), axis))

    inputs = {"x": ROW, "indices": indices.reshape(2, -1)}
    return Case("gather_along_axis", inputs, {"axis": axis, **constants}, wanted, opset)


def topk(*rows: list[tuple[float, int]], opset: str = "iOS17", **constants: Any) -> Case:
    """``rows``: values with their indices, in order."""
    table = torch.tensor(rows)
    return Case("topk", {"x": ROW}, constants, lambda x: (table[..., 0], table[..., 1].int()), opset)


CASES = [
    numpy_case("reshape", lambda x: x.reshape(4, 6), shape=[4, 6]),
    numpy_case("reshape", lambda x: x.reshape(6, 4), shape=[-1, 4]),
    numpy_case("reshape", lambda x: x.reshape(2, 12, 1), shape=[0, 12, 1], opset="iOS15"),
    numpy_case("reshape", lambda x: x.reshape(2, 2, 3, 2), shape=[2, 0, -1, 2], opset="iOS17"),
    numpy_case("reshape", lambda x: x.reshape(1, 2, 3, 4), shape=[0, -1, 0, 0], opset="iOS17"),
    numpy_case("reshape", lambda x: x.reshape(8, 3, 1), x=X, shape=[8, 0, -1], opset="iOS16"),
    numpy_case("transpose", lambda x: x.transpose(2, 0, 1), perm=[2, 0, 1]),
    numpy_case("transpose", lambda x: x.transpose(0, 2, 1), perm=[0, -1, -2]),
    numpy_case("squeeze", lambda x: x[:, 0, :, 0], X.reshape(4, 1, 6, 1), axes=[-1, 1]),
    numpy_case("squeeze", lambda x: x[:, 0], X.reshape(4, 1, 6, 1), axes=[0, 1]),
    numpy_case("squeeze", lambda x: x[:, 0, :, 0], X.reshape(4, 1, 6, 1)),
    numpy_case("expand_dims", lambda x: x[:, None, :, :, None], axes=[1, -1]),
    numpy_case("expand_dims", lambda x: x[:, :, None, None], axes=[-2, -3]),
    numpy_case("tile", lambda x: np.tile(x, (2, 1, 3)), reps=[2, 1, 3]),
    joined("concat", lambda a, b: torch.cat((a, b), 1), axis=1),
    joined("concat", lambda a, b: torch.cat((a, b), 2), axis=-1),
    joined("concat", lambda a, b: torch.from_numpy(zipped(a.numpy(), b.numpy())), axis=1, interleave=True),
    joined("concat", lambda a, b: torch.from_numpy(zipped(a.numpy(), b.numpy())), axis=-2, interleave=True),
    joined("stack", lambda a, b: torch.stack((a, b), 1), axis=1),
    joined("stack", lambda a, b: torch.stack((a, b), 3), axis=-1),
    Case("concat", {"a": X}, {"axis": 0}, lambda a: a, arguments=lambda a: {"values": (a,)}),
    Case(
        "concat",
        {"a": X},
        {"axis": 0},
        lambda a: torch.cat((torch.ones(1, 3, 4), a)),
        arguments=lambda a: {"values": (np.ones((1, 3, 4), np.float32), a)},
    ),
    Case("split", {"x": X}, {"num_splits": 2, "axis": -1}, lambda x: (x[..., :2], x[..., 2:])),
    Case("split", {"x": X}, {"split_sizes": [1, 2], "axis": 1}, lambda x: (x[:, :1], x[:, 1:])),
    Case("split", {"x": X}, {"split_sizes": [3, 1], "num_splits": 2, "axis": 2}, lambda x: (x[..., :3], x[..., 3:])),
    sliced(lambda x: x[0:1, 1:3, 0:2], [0, 1, 0], [1, 3, 2]),
    sliced(lambda x: x[:, :2, 1:], [1, 1, 1], [0, -1, 0], begin_mask=[True, True, False], end_mask=[True, False, True]),
    sliced(lambda x: x[-1:, -2:3, -3:-1], [-1, -2, -3], [2, 3, -1]),
    sliced(lambda x: x[:, ::2, 1:4:2], [0, 0, 1], [2, 3, 4], stride=[1, 2, 2]),
    sliced(
        lambda x: x[::-1, 2:0:-1, -1:-4:-2],
        [0, 2, -1],
        [0, 0, -4],
        stride=[-1, -1, -2],
        begin_mask=[True, False, False],
        end_mask=[True, False, False],
    ),
    sliced(lambda x: x[1, :, -1], [1, 0, -1], [0, 3, 0], squeeze_mask=[True, False, True]),
    sliced(
        lambda x: x[0, 1:2], [1, 1, 0], [0, 2, 4], begin_mask=[True, False, False], squeeze_mask=[True, False, False]
    ),
    sliced(lambda x: x[1, 2, 3], [1, 2, 3], [0, 0, 0], squeeze_mask=[True] * 3),
    numpy_case("slice_by_size", lambda x: x[1:2, 0:2, 1:4], begin=[1, 0, 1], size=[1, 2, 3]),
    numpy_case("slice_by_size", lambda x: x[:, 2:3, 1:], begin=[0, -1, 1], size=[2, 1, -1]),
    numpy_case("pad", lambda x: np.pad(x, ((0, 0), (1, 0), (2, 3))), pad=[1, 0, 2, 3]),
    numpy_case(
        "pad",
        lambda x: np.pad(x, ((1, 2), (0, 0), (0, 1)), constant_values=-1.5),
        pad=[1, 2, 0, 0, 0, 1],
        mode="constant",
        constant_val=-1.5,
    ),
    gather(lambda x, i: x.take(i, 1), INDICES, axis=1),
    gather(lambda x, i: x.take(i, -1), INDICES, axis=-1, validate_indices=True),
    gather(lambda x, i: x.take(i, 0), INDICES % 2),
    gather(lambda x, i: x.take(i, 1), -INDICES, opset="iOS15", axis=1),
    numpy_case("gather", lambda x: x[..., 2], indices=np.int32(2), axis=2),
    gather(lambda x, i: np.stack([x[0].take(i[0], 0), x[1].take(i[1], 0)]), INDICES, axis=1, batch_dims=1),
    gather(
        lambda x, i: np.stack([x[0].take(i[0], 1), x[1].take(i[1], 1)]), INDICES, axis=2, batch_dims=1, opset="iOS16"
    ),
    gather(lambda x, i: np.stack([x[0].take(i[0], 2), x[1].take(i[1], 2)]), INDICES, IMAGE, axis=-1, batch_dims=1),
    gather(lambda x, i: x.take(i, 0), INDICES % 2, X.int()),
    gather(lambda x, i: x.take(i, 1), INDICES.to(torch.uint8), axis=1),
    along(1, torch.tensor([[4, 4, 0], [1, 3, 2]], dtype=torch.int32)),
    along(-1, torch.tensor([[4, 0], [1, 2]], dtype=torch.int32), validate_indices=True),
    along(1, torch.tensor([[-5, -1], [-2, 2]], dtype=torch.int32), opset="iOS15"),
    along(0, torch.tensor([[1, 0, 1, 0, 0]] * 2, dtype=torch.int32)),
]
TOPK = [
    topk([(8, 3), (3, 0)], [(2, 1), (2, 3)], k=2, axis=1),
    topk([(8, 3)], [(2, 1)]),
    topk([(-1, 1), (0.5, 4), (3, 0)], [(-7, 2), (0.25, 0), (2, 1)], k=3, ascending=True),
    topk([(8, 3), (3, 0), (3, 2)], [(2, 1), (2, 3), (2, 4)], k=3, sort=False, opset="iOS16"),
    topk([(8, 3), (3, 0)], [(2, 1), (2, 3)], k=2, axis=-1, output_indices_dtype="uint16"),
    topk([(8, 3), (3, 0), (3, 2), (0.5, 4), (-1, 1)], [(2, 1), (2, 3), (2, 4), (0.25, 0), (-7, 2)], k=5),
    topk([(3, 0), (2, 1), (3, 0), (8, 0), (2, 1)], k=1, axis=0),
    Case("topk", {"x": torch.ones(1, 5000)}, {"k": 3}, lambda x: (torch.ones(1, 3), torch.tensor([[0, 1, 2]]))),
]
"""Among equals the first."""


def zipped(a: Any, b: Any) -> Any:
    """Along axis 1, one of each by turns."""
    return np.stack([part[:, i] for i in range(a.shape[1]) for part in (a, b)], 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cases]:
    return by_opset(tmp_path_factory.mktemp("layout"), CASES + TOPK)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation(case: Case, saved: dict[str, Cases]) -> None:
    check(saved, case)


@pytest.mark.parametrize("case", TOPK, ids=str)
def test_topk(case: Case, saved: dict[str, Cases]) -> None:
    check(saved, case)
