"""The peak is that of a linear layer that really runs in the precision that is asked."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from convert import openvino
from convert.target import Census
from edgevit.bench import peak as bench
from edgevit.bench.peak import peak
from edgevit.errors import ClaimError


def test_int8_multiplies_faster_than_float_where_it_has_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROWS", 32)
    monkeypatch.setattr(bench, "WIDTH", 128)
    for precision in ("fp32", "int8"):
        found = peak("openvino", openvino, precision, 1)  # type: ignore[arg-type]
        assert (found.rows, found.inputs, found.outputs) == (32, 128, 128)
        assert 0.01 < found.gmacs < 100_000


def test_a_layer_that_stays_in_float_has_no_int8_peak() -> None:
    def census(folder: Path, asked: object) -> Census:
        return Census({}, {"linear": 1}, ("0",), ("0",))

    module: Any = SimpleNamespace(lower=lambda *ignored: (), census=census)
    with pytest.raises(ClaimError, match="openvino has no INT8 kernel for a linear layer here: edgevit doctor"):
        peak("openvino", module, "int8", 1)
