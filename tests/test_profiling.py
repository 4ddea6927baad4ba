"""A profile in a process of its own: its answer, its errors, and a crash that costs the others nothing."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit import artifact, pipeline
from edgevit.errors import ClaimError, InputError, MissingError
from edgevit.profiling import Request, profile, requests
from tests.conftest import Exported

Manifest = dict[str, Any]
STATED: Manifest = {
    "schema": 1,
    "model": {"name": "efficientvit_m0", "image_size": 64, "macs": 7},
    "options": {"batch": 3},
    "quant": {"mode": "int8", "operators": {"head.l": "linear"}},
    "targets": {"openvino": {}, "coreml": {}, "onnx": {}},
}


@pytest.fixture
def stated(tmp_path: Path) -> Callable[..., Path]:
    """An export that is a manifest alone, with some of it replaced."""

    def write(**changed: object) -> Path:
        artifact.write_json(tmp_path / artifact.MANIFEST, STATED | changed)
        return tmp_path

    return write


def test_all_targets_that_can_be_timed_are_profiled_and_in_the_registrys_order(stated: Callable[..., Path]) -> None:
    folder = stated()
    assert requests(folder, (), 2, 40) == [
        Request(name, str(folder / name), {"head.l": "linear"}, 64, 3, 21, 2, 40) for name in ("onnx", "openvino")
    ]
    assert [request.name for request in requests(folder, ("openvino", "openvino"), 1, 20)] == ["openvino"]


def test_a_float_export_asked_nothing_of_int8(stated: Callable[..., Path]) -> None:
    assert requests(stated(quant={"mode": "fp32"}), ("onnx",), 1, 20)[0].asked == {}


@pytest.mark.parametrize(
    ("names", "kind", "said"),
    [
        (("tflite",), InputError, "there is no target 'tflite': choose from onnx, openvino, coreml"),
        (("executorch",), InputError, "has no artifact of target executorch: choose from onnx, openvino, coreml"),
        (("onnx", "coreml"), MissingError, "coreml is timed on a device and not here"),
    ],
)
def test_a_target_that_cannot_be_profiled_is_said_before_any_is(
    stated: Callable[..., Path], names: tuple[str, ...], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        requests(stated(), names, 1, 20)


def test_an_export_for_devices_alone_is_said(stated: Callable[..., Path]) -> None:
    with pytest.raises(MissingError, match="coreml is timed on a device"):
        requests(stated(targets={"coreml": {}}), (), 1, 20)


@pytest.mark.parametrize("damage", [{"model": {}}, {"quant": None}, {"targets": 3}, {"model": {"image_size": "x"}}])
def test_a_damaged_manifest_is_said(stated: Callable[..., Path], damage: Manifest) -> None:
    with pytest.raises(ClaimError, match=r"manifest\.json is missing or damaged"):
        requests(stated(**damage), (), 1, 20)


def request(folder: Path) -> Request:
    return Request("onnx", str(folder), {}, 64, 1, 7, 1, 20)


def test_an_error_comes_back_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match=r"is missing or damaged, or a file beside it is: export it again$"):
        profile(request(tmp_path))


def test_a_runtime_that_crashes_costs_the_others_nothing(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nasked=$(cat)\ncase $asked in *\'"name": "onnx"\'*) kill -SEGV $$;; esac\n'
        f'printf %s "$asked" | {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    described = pipeline.profile(exported.folder, runs=20)
    assert list(described["targets"]) == ["openvino"]
    assert described["targets"]["openvino"]["failures"] == []
    (failure,) = described["failures"]
    assert failure == "profiling onnx ended the process (SIGSEGV)"
    assert list(temporary.iterdir()) == []
    assert os.environ.get("TMPDIR") != str(temporary)
