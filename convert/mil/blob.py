"""The weight file of a Core ML package: a 64-byte header, then records, each a 64-byte head and its data.

A program refers to a constant by the offset of its head, and its data come right after. All integers are little-endian.
Source: coremltools, ``mlmodel/src/MILBlob/Blob/StorageFormat.hpp`` and ``BlobDataType.hpp``.
"""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.errors import ClaimError

ALIGNMENT = 64  # of every head and all data
VERSION = 2
SENTINEL = 0xDEADBEEF
HEADER = struct.Struct("<II")  # number of records, version
HEAD = struct.Struct("<IIQQ")  # sentinel, data type, size in bytes, offset of the data
DTYPES = {1: "fp16", 2: "fp32", 3: "uint8", 4: "int8", 6: "int16", 7: "uint16", 14: "int32", 15: "uint32"}

NUMPY: dict[str, type[np.generic]] = {
    "bool": np.bool_,
    "string": np.str_,
    "fp16": np.float16,
    "fp32": np.float32,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
}


class Blob:
    """A weight file, read and checked as a whole."""

    def __init__(self, path: Path) -> None:
        """Raises ClaimError if the file is missing or is no weight file."""
        self.path = path
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise ClaimError(f"{path} is missing or cannot be read: export it again") from error
        if len(self.data) < ALIGNMENT:
            raise self.damaged("is shorter than its header")
        _, version = HEADER.unpack_from(self.data)
        if version != VERSION:
            raise self.damaged(f"has version {version} where {VERSION} is needed")

    def array(self, offset: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """The constant whose head is at ``offset``, read-only.

        Raises ClaimError unless a whole record of ``dtype`` (a key of NUMPY) is there that fills ``shape`` exactly.
        """
        whole = offset + ALIGNMENT <= len(self.data)
        sentinel, code, size, start = HEAD.unpack_from(self.data, offset) if whole else (0, 0, 0, 0)
        if sentinel != SENTINEL or start != offset + ALIGNMENT:
            raise self.damaged(f"has no record at {offset}")
        if DTYPES.get(code) != dtype:
            stored = DTYPES.get(code, f"type {code}")
            raise self.damaged(f"has {stored} at {offset} where the program has {dtype}")
        count = math.prod(shape)
        if size != count * np.dtype(NUMPY[dtype]).itemsize:
            raise self.damaged(f"has {size} bytes at {offset} where the program has {count} of {dtype}")
        if start + size > len(self.data):
            raise self.damaged(f"has a record at {offset} that reaches beyond its end")
        return np.frombuffer(self.data, NUMPY[dtype], count, start).reshape(shape)

    def damaged(self, reason: str) -> ClaimError:
        return ClaimError(f"{self.path} is damaged, it {reason}: export it again")
