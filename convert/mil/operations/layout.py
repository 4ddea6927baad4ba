"""Operations that only move values: their outputs' values are their inputs'."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from convert.mil.operations.registry import operation


@operation("reshape")
def reshape(x: Tensor, shape: list[int]) -> Tensor:
    """0 keeps the dimension that is as far from the last one in ``x``, or is 1 where ``x`` has none (iOS 17).

    iOS 15 and 16 define it for equal ranks only, where this is the same.
    """
    surplus = len(shape) - x.ndim
    kept = [1 if i < surplus else x.shape[i - surplus] for i in range(len(shape))]
    return x.reshape([size or keep for size, keep in zip(shape, kept, strict=True)])


@operation("transpose")
def transpose(x: Tensor, perm: list[int]) -> Tensor:
    return x.permute(perm)


@operation("squeeze")
def squeeze(x: Tensor, axes: list[int] | None = None) -> Tensor:
    """Dimensions of ``axes`` that are not 1 stay."""
    return x.squeeze() if axes is None else x.squeeze(axes)


@operation("expand_dims")
def expand_dims(x: Tensor, axes: list[int]) -> Tensor:
    """``axes`` count in the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operation("tile")
def tile(x: Tensor, reps: list[int]) -> Tensor:
    return x.repeat(reps)


@operation("concat")
def concat(values: Sequence[Tensor], axis: int, interleave: bool = False) -> Tensor:
    if not interleave:
        return torch.cat(tuple(values), axis)
    axis %= values[0].ndim
    return torch.stack(tuple(values), axis + 1).flatten(axis, axis + 1)


@operation("stack")
def stack(values: Sequence[Tensor], axis: int) -> Tensor:
    return torch.stack(tuple(values), axis)


@operation("split")
def split(x: Tensor, axis: int, num_splits: int = 1, split_sizes: list[int] | None = None) -> tuple[Tensor, ...]:
    """``split_sizes`` goes before ``num_splits`` equal parts."""
    if split_sizes is not None:
        return torch.split(x, split_sizes, axis)
    return x.tensor_split(num_splits, axis)


@operation("slice_by_index")
def slice_by_index(
    x: Tensor,
    begin: list[int],
    end: list[int],
    stride: list[int] | None = None,
    begin_mask: list[bool] | None = None,
    end_mask: list[bool] | None = None,
    squeeze_mask: list[bool] | None = None,
) -> Tensor:
    """As numpy slices. A masked begin or end is the tensor's own; a squeezed dimension is indexed at its begin."""
    unmasked = [False] * x.ndim
    stride = stride or [1] * x.ndim
    begins = [None if masked else i for i, masked in zip(begin, begin_mask or unmasked, strict=True)]
    ends = [None if masked else i for i, masked in zip(end, end_mask or unmasked, strict=True)]
    for axis in reversed(range(x.ndim)):
        if (squeeze_mask or unmasked)[axis]:
            x = x.select(axis, begins[axis] or 0)
        else:
            x = sliced(x, axis, slice(begins[axis], ends[axis], stride[axis]))
    return x


def sliced(x: Tensor, axis: int, indices: slice) -> Tensor:
    """torch has no negative steps."""
    taken = range(*indices.indices(x.shape[axis]))
    if taken.step < 0:
        return x.index_select(axis, torch.tensor(taken))
    return x[(slice(None),) * axis + (slice(taken.start, taken.stop, taken.step),)]


@operation("slice_by_size")
def slice_by_size(x: Tensor, begin: list[int], size: list[int]) -> Tensor:
    """A size of -1 takes the rest."""
    for axis, (start, length) in enumerate(zip(begin, size, strict=True)):
        x = x.narrow(axis, start, x.shape[axis] - start if length == -1 else length)
    return x


@operation("pad")
def pad(x: Tensor, pad: list[int], mode: Literal["constant"] = "constant", constant_val: float = 0) -> Tensor:
    """``pad`` is before and after each of the last dimensions, in their order; torch begins with the last one."""
    return F.pad(x, [n for i in reversed(range(0, len(pad), 2)) for n in pad[i : i + 2]], value=constant_val)


@operation("gather")
def gather(x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Slices of ``x``: shape ``x.shape[:axis] + indices.shape[batch_dims:] + x.shape[axis + 1:]``.

    A negative index counts from the end, as in iOS 15 and 16; iOS 17 leaves it undefined.
    """
    axis %= x.ndim
    batch, before, after = x.shape[:batch_dims], x.shape[batch_dims:axis], x.shape[axis + 1 :]
    slices = x.reshape(batch.numel(), before.numel(), x.shape[axis], after.numel())
    index = positive(indices, x.shape[axis]).reshape(batch.numel(), 1, -1, 1)
    taken = slices.gather(2, index.expand(-1, before.numel(), -1, after.numel()))
    return taken.reshape(*batch, *before, *indices.shape[batch_dims:], *after)


@operation("gather_along_axis")
def gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False) -> Tensor:
    """Of ``indices``' shape. A negative index: see ``gather``."""
    return x.gather(axis, positive(indices, x.shape[axis]))


def positive(indices: Tensor, size: int) -> Tensor:
    """``indices`` as torch wants them: int64, counted from the front."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


@operation("topk")
def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: Literal["int32", "uint16"] = "int32",
) -> tuple[Tensor, ...]:
    """Sorted also where ``sort`` asks for no order; of equals the first one is taken, where MIL promises nothing.

    A k of -1 is all.
    """
    values, indices = x.sort(dim=axis, descending=not ascending, stable=True)
    count = x.shape[axis] if k == -1 else k
    both = values.narrow(axis, 0, count), indices.narrow(axis, 0, count)
    return both if return_indices else both[:1]


@operation("classify")
def classify(probabilities: Tensor, classes: list[str] | list[int]) -> tuple[str | int, dict[str | int, float]]:
    """The likeliest class, the first of equals, and every class's probability."""
    values = probabilities.flatten().tolist()
    by_class: dict[str | int, float] = dict(zip(classes, values, strict=True))
    return classes[values.index(max(values))], by_class
