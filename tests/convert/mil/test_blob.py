import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.mil.blob import DTYPES, NUMPY, Blob
from convert.mil.quiet import coremltools
from edgevit.errors import ClaimError

VALUES = np.array([3, 250, 0, 7, 127, 1])
WRITERS = {"fp32": "float"}  # what coremltools' writer calls the other types is their name here


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """A file by coremltools' own writer with VALUES in every type, and where each one is."""
    coremltools()
    from coremltools.libmilstoragepython import _BlobStorageWriter

    path = tmp_path / "weight.bin"
    writer = _BlobStorageWriter(str(path))
    offsets = {}
    for dtype in DTYPES.values():
        array = VALUES.astype(NUMPY[dtype])
        raw = array.view(np.uint16) if dtype == "fp16" else array
        offsets[dtype] = getattr(writer, f"write_{WRITERS.get(dtype, dtype)}_data")(raw)
    return path, offsets


def patch(path: Path, offset: int, layout: str, *values: Any) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, offset, *values)
    path.write_bytes(data)


def test_reads_what_coremltools_writes(written: tuple[Path, dict[str, int]]) -> None:
    path, offsets = written
    blob = Blob(path)
    for dtype, offset in offsets.items():
        found = blob.array(offset, dtype, (3, 2))
        assert found.dtype == NUMPY[dtype]
        assert np.array_equal(found, VALUES.astype(NUMPY[dtype]).reshape(3, 2))
        assert not found.flags.writeable


@pytest.mark.parametrize("size", [0, 63])
def test_refuses_a_file_without_a_header(size: int, written: tuple[Path, dict[str, int]]) -> None:
    path, _ = written
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ClaimError, match=r"weight\.bin is damaged, it is shorter than its header: export it again"):
        Blob(path)


def test_refuses_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "weight.bin", tmp_path):
        with pytest.raises(ClaimError, match=f"{path.name} is missing or cannot be read: export it again"):
            Blob(path)


def test_refuses_another_version(written: tuple[Path, dict[str, int]]) -> None:
    path, _ = written
    patch(path, 4, "<I", 1)
    with pytest.raises(ClaimError, match=r"weight\.bin is damaged, it has version 1 where 2 is needed"):
        Blob(path)


@pytest.mark.parametrize(
    ("at", "layout", "value", "reason"),
    [
        (0, "<I", 0xDEADBEEE, "has no record at OFFSET"),
        (16, "<Q", 64, "has no record at OFFSET"),
        (16, "<Q", 2**40, "has no record at OFFSET"),
        (4, "<I", 2, "has fp32 at OFFSET where the program has int8"),
        (4, "<I", 11, "has type 11 at OFFSET where the program has int8"),
        (8, "<Q", 5, "has 5 bytes at OFFSET where the program has 6 of int8"),
        (8, "<Q", 7, "has 7 bytes at OFFSET where the program has 6 of int8"),
    ],
)
def test_refuses_a_garbled_record(
    at: int, layout: str, value: int, reason: str, written: tuple[Path, dict[str, int]]
) -> None:
    path, offsets = written
    patch(path, offsets["int8"] + at, layout, value)
    reason = reason.replace("OFFSET", str(offsets["int8"]))
    with pytest.raises(ClaimError, match=rf"weight\.bin is damaged, it {reason}: export it again"):
        Blob(path).array(offsets["int8"], "int8", (6,))
    assert Blob(path).array(offsets["fp16"], "fp16", (6,)).tolist() == VALUES.tolist()


@pytest.mark.parametrize(("dtype", "shape"), [("fp16", (5,)), ("fp16", (6, 2)), ("fp16", ()), ("int16", (6,))])
def test_refuses_another_type_or_shape_than_the_programs(
    dtype: str, shape: tuple[int, ...], written: tuple[Path, dict[str, int]]
) -> None:
    path, offsets = written
    with pytest.raises(ClaimError, match="where the program has"):
        Blob(path).array(offsets["fp16"], dtype, shape)


@pytest.mark.parametrize("cut", [1, 23, 24, 25, 87, 88, 89])
def test_refuses_a_record_that_reaches_beyond_the_file(cut: int, written: tuple[Path, dict[str, int]]) -> None:
    """The last record is 24 bytes of data after a head of 64."""
    path, offsets = written
    last = max(offsets, key=lambda dtype: offsets[dtype])
    assert path.stat().st_size == offsets[last] + 64 + 24
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ClaimError, match="reaches beyond its end" if cut <= 24 else "has no record"):
        Blob(path).array(offsets[last], last, (6,))


@pytest.mark.parametrize("offset", [0, 65, 10**6, 2**64 - 1])
def test_refuses_an_offset_without_a_record(offset: int, written: tuple[Path, dict[str, int]]) -> None:
    with pytest.raises(ClaimError, match=f"has no record at {offset}"):
        Blob(written[0]).array(offset, "fp32", (6,))
