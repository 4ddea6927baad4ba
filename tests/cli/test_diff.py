"""``edgevit diff``: artifacts of one calibration are equal, and one changed scale is found and shown."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from convert import registry
from convert.registry import TARGETS, Entry
from convert.source import Source
from convert.target import target
from edgevit import artifact
from tests.calibrate.subjects import FLOAT_RESIDUAL, quantized_net
from tests.cli.conftest import Edgevit
from tests.conftest import Demo

TENSOR = "head.l.weight"
INSTALLED = [entry for entry in TARGETS.values() if entry.installed]


def found(out: str) -> dict[str, Any]:
    comparison: dict[str, Any] = json.loads(out)
    assert list(comparison) == ["equal", "compared", "differing", "only_a", "only_b"]
    return comparison


@pytest.fixture
def copied(demo: Demo, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo.folder, tmp_path / "export"))


@pytest.fixture
def tampered(copied: Path) -> Path:
    """An export whose model.onnx has the next float32 for the second scale of one weight."""
    path = copied / "onnx" / "model.onnx"
    model = onnx.load(path)
    (scale,) = (entry for entry in model.graph.initializer if entry.name == f"{TENSOR}.scale")
    values = numpy_helper.to_array(scale).copy()
    values[1] = np.nextafter(values[1], np.float32(1))
    scale.CopyFrom(numpy_helper.from_array(values, scale.name))
    onnx.save(model, path)
    return copied


@pytest.mark.parametrize("entry", INSTALLED, ids=lambda entry: entry.name)
def test_every_artifact_is_on_its_programs_grid(entry: Entry, demo: Demo, edgevit: Edgevit) -> None:
    stated = artifact.read_manifest(demo.folder)["targets"][entry.name]["grid"]
    expected = {"equal": True, "compared": stated["tensors_compared"], "differing": []}
    ended = edgevit("diff", demo.folder, demo.folder / entry.name, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert found(ended.out) == expected | {"only_a": stated["dropped"], "only_b": []}
    ended = edgevit("diff", demo.folder / entry.name / entry.file, demo.folder, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert found(ended.out) == expected | {"only_a": [], "only_b": stated["dropped"]}


def test_what_one_target_dropped_is_no_difference(demo: Demo, edgevit: Edgevit) -> None:
    grids = artifact.read_manifest(demo.folder)["targets"]
    dropped = {name: grids[name]["grid"]["dropped"] for name in ("onnx", "openvino")}
    only_onnx = sorted(set(dropped["openvino"]) - set(dropped["onnx"]))
    ended = edgevit("diff", demo.folder / "openvino", demo.folder / "onnx")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    compared = grids["openvino"]["grid"]["tensors_compared"]
    assert f"{compared} tensors in both: {compared} equal, 0 differ" in lines
    assert any(line.startswith(f"only in B: {len(only_onnx)} (") for line in lines)
    assert "only in A" not in ended.out


@pytest.mark.parametrize("other", ["", "openvino", "openvino/model.xml"])
def test_one_changed_scale_is_found_and_given_with_both_values(other: str, tampered: Path, edgevit: Edgevit) -> None:
    ended = edgevit("diff", tampered / other, tampered / "onnx", "--json")
    assert ended.code == 1
    comparison = found(ended.out)
    assert not comparison["equal"]
    (differing,) = comparison["differing"]
    a, b = np.float32(differing["a"]["scale"]), np.float32(differing["b"]["scale"])
    assert differing["tensor"] == TENSOR
    assert differing["a"]["axis"] == differing["b"]["axis"] == 0
    assert np.flatnonzero(a != b).tolist() == [1]
    assert b[1] == np.nextafter(a[1], np.float32(1))
    assert ended.err.startswith(f"edgevit: {tampered / other} and {tampered / 'onnx'} are not on one grid: of ")
    assert ended.err.endswith(f"tensors these differ: 1 ({TENSOR}); export both from one calibration\n")
    assert ended.err.count("\n") == 1


def test_the_table_shows_the_digits_that_differ(tampered: Path, edgevit: Edgevit) -> None:
    ended = edgevit("diff", tampered, tampered / "onnx" / "model.onnx")
    assert ended.code == 1
    (line,) = (line.split() for line in ended.out.splitlines() if TENSOR in line)
    assert line[0] == f"{TENSOR}[1]"
    assert line[1] != line[3]
    assert line[2] == line[4] == "0"


def test_nothing_in_common_is_not_equal(demo: Demo, edgevit: Edgevit, tmp_path: Path) -> None:
    target("onnx").lower(Source(quantized_net(FLOAT_RESIDUAL), "int8"), tmp_path, {})
    ended = edgevit("diff", demo.folder / "onnx", tmp_path, "--json")
    assert ended.code == 1
    comparison = found(ended.out)
    assert (comparison["equal"], comparison["compared"], comparison["differing"]) == (False, 0, [])
    assert comparison["only_a"]
    assert comparison["only_b"]
    assert "they have no tensor in common, so there is nothing to compare" in ended.err


def test_a_program_that_lacks_a_tensor_of_the_artifact(copied: Path, edgevit: Edgevit) -> None:
    manifest = artifact.read_manifest(copied)
    del manifest["quant"]["tensors"][TENSOR]
    artifact.write_json(copied / artifact.MANIFEST, manifest)
    ended = edgevit("diff", copied, copied / "onnx", "--json")
    assert ended.code == 1
    assert found(ended.out)["only_b"] == [TENSOR]
    assert f"an export's program has no grid for 1 ({TENSOR})" in ended.err


def test_wrong_and_damaged_input_is_one_sentence(
    copied: Path, edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    good, cut = copied / "onnx", copied / "openvino" / "model.bin"
    cut.write_bytes(cut.read_bytes()[:1000])
    for first, second, code, reason in (
        (tmp_path / "missing", good, 2, "there is nothing at"),
        (good, empty, 2, "is no export and no artifact"),
        (good, copied / "images.json", 2, "is no export and no artifact"),
        (good, copied / "openvino" / "model.bin", 2, "is no export and no artifact"),
        (good, copied / "openvino", 1, "model.xml is missing or damaged, or a file beside it is: export it again"),
        (good, "a\nb", 2, "there is nothing at a b: name an export"),
    ):
        for order in ((first, second), (second, first)):
            ended = edgevit("diff", *order)
            assert (ended.code, ended.out) == (code, "")
            assert reason in ended.err
            assert ended.err.count("\n") == 1
    monkeypatch.setattr(registry, "find_spec", lambda package: None if package == "onnxruntime" else find_spec(package))
    ended = edgevit("diff", copied, good)
    assert (ended.code, ended.out) == (3, "")
    assert "target onnx needs onnxruntime, which is not installed: pip install" in ended.err


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b", "c"]])
def test_two_artifacts_are_asked_for(arguments: list[str], edgevit: Edgevit) -> None:
    ended = edgevit("diff", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.endswith("; see edgevit diff --help\n")
