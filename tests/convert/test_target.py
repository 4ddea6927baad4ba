"""What every target promises, on all of them."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert import registry
from convert.registry import TARGETS
from convert.source import Precision
from convert.target import target
from edgevit.errors import ClaimError, InputError, MissingError
from edgevit.metrics import sqnr_db, top1_agreement
from tests.calibrate.subjects import SIDE, images, quantized_vit, vit
from tests.convert.conftest import Lowered

Lower = Callable[[str, Precision], Lowered]
PROGRAM = "model.mlpackage/Data/com.apple.CoreML"
FILES = {
    "onnx": {"model.onnx"},
    "openvino": {"model.xml", "model.bin"},
    "executorch": {"model.pte"},
    "coreml": {"model.mlpackage/Manifest.json", f"{PROGRAM}/model.mlmodel", f"{PROGRAM}/weights/weight.bin"},
}
X = images(64, 9, SIDE)
every = pytest.mark.parametrize("name", TARGETS)


def logits(entry: Lowered) -> np.ndarray[Any, Any]:
    run = entry.target.load(entry.folder)
    return np.concatenate([run(x[None].numpy()) for x in X])


@every
@pytest.mark.parametrize(("precision", "decibel"), [("fp32", 100), ("fp16", 40)])
def test_a_float_artifact_is_the_model(name: str, precision: Precision, decibel: float, lowered: Lower) -> None:
    with torch.no_grad():
        expected = vit()(X).numpy()
    found = sqnr_db(expected, logits(lowered(name, precision)))
    assert found >= decibel
    assert precision == "fp32" or found < 100


@every
def test_an_int8_artifact_is_the_quantised_program(name: str, lowered: Lower) -> None:
    expected, found = quantized_vit().run(X).numpy(), logits(lowered(name, "int8"))
    assert sqnr_db(expected, found) >= 25
    assert top1_agreement(expected, found) >= 0.9


@every
def test_results_stay_what_they_were_when_the_next_one_is_computed(name: str, lowered: Lower) -> None:
    entry = lowered(name, "fp32")
    run = entry.target.load(entry.folder)
    first = run(X[:1].numpy())
    kept = first.copy()
    run(X[1:2].numpy())
    assert np.array_equal(first, kept)


@every
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_lower_leaves_its_files_and_nothing_else(name: str, precision: Precision, lowered: Lower) -> None:
    folder = lowered(name, precision).folder
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == FILES[name]


@every
def test_fp16_and_int8_are_smaller(name: str, lowered: Lower) -> None:
    def size(precision: Precision) -> int:
        folder = lowered(name, precision).folder
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".xml")

    if name != "executorch":  # whose XNNPACK files keep a convolution's weights in float32
        assert size("fp16") < 0.65 * size("fp32")
    assert size("int8") < 0.65 * size("fp32")


@every
def test_census_int8_asked_is_int8_delivered(name: str, lowered: Lower) -> None:
    entry, asked = lowered(name, "int8"), quantized_vit().asked
    census = entry.target.census(entry.folder, asked)
    assert census.asked == tuple(asked)
    assert census.missing == ()
    assert census.int8["conv"] == sum(kind != "linear" for kind in asked.values())
    assert census.int8["linear"] == 1
    # The first stem layer, qkvs and dws of 6 heads, 4 of squeeze-excite; the ONNX form convolves q, k and v apart.
    assert census.float["conv"] == (29 if name in ("onnx", "openvino") else 17)
    assert "linear" not in census.float


@every
@pytest.mark.parametrize("asked", ["patch_embed.0.c", "blocks2.3.mixer.m.attn.qkvs.1.c", "no.such.operator"])
def test_census_names_what_was_asked_and_runs_in_float(name: str, asked: str, lowered: Lower) -> None:
    entry = lowered(name, "int8")
    assert entry.target.census(entry.folder, {asked: "convolution", "head.l": "linear"}).missing == (asked,)


@every
def test_census_of_a_float_artifact(name: str, lowered: Lower) -> None:
    entry, asked = lowered(name, "fp32"), quantized_vit().asked
    census = entry.target.census(entry.folder, asked)
    assert census.int8 == {}
    assert census.missing == tuple(asked)


@every
def test_the_grid_is_the_programs_but_for_what_was_dropped(name: str, lowered: Lower) -> None:
    entry, tensors = lowered(name, "int8"), quantized_vit().tensors
    expected = {tensor: grid for tensor, grid in tensors.items() if tensor not in entry.dropped}
    assert entry.target.grid(entry.folder) == expected
    assert set(entry.dropped) < set(tensors)
    assert all(tensor.endswith(".output") for tensor in entry.dropped)


@every
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_float_artifact_has_no_grid(name: str, precision: Precision, lowered: Lower) -> None:
    entry = lowered(name, precision)
    assert entry.dropped == ()
    assert entry.target.grid(entry.folder) == {}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in TARGETS for file in sorted(FILES[name])])
@pytest.mark.parametrize("damage", [cut, Path.unlink, lambda path: path.write_bytes(b"")], ids=["cut", "gone", "empty"])
def test_a_damaged_file_is_one_sentence_that_names_it(
    name: str, file: str, damage: Callable[[Path], None], lowered: Lower, tmp_path: Path
) -> None:
    entry = lowered(name, "int8")
    folder = Path(shutil.copytree(entry.folder, tmp_path / name))
    damage(folder / file)
    reads = (entry.target.load, entry.target.grid, lambda folder: entry.target.census(folder, {}))
    for read in reads:
        with pytest.raises(
            ClaimError, match=r"model\.(onnx|xml|pte|mlpackage).* (damaged|missing|holds nothing).*: export it again$"
        ):
            read(folder)


def test_an_unknown_target_is_wrong_input_with_the_choices() -> None:
    with pytest.raises(InputError, match="no target 'tflite': choose from onnx, openvino, executorch, coreml, all"):
        target("tflite")


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("onnx", "onnxruntime"),
        ("openvino", "openvino"),
        ("executorch", "executorch"),
        ("coreml", "coremltools"),
    ],
)
def test_a_missing_runtime_is_named_with_the_command_that_installs_it(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(wanted: str) -> object:
        return None if wanted == package else importlib.util.find_spec(wanted)

    monkeypatch.setattr(registry, "find_spec", find)
    assert [entry.name for entry in TARGETS.values() if not entry.installed] == [name]
    with pytest.raises(MissingError, match=rf"{name} needs {package}.*: pip install 'edgevit\[{name}\]'$") as caught:
        target(name)
    assert caught.value.exit_code == 3


SCRIPT = """
import os, pathlib, sys
import numpy as np
from convert.target import target
for name, folder in zip(("onnx", "openvino", "executorch", "coreml"), map(pathlib.Path, sys.argv[1:]), strict=True):
    module = target(name)
    module.load(folder)(np.zeros((1, 3, 96, 96), np.float32))
    module.census(folder, {})
    module.grid(folder)
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
print([module for module in sys.modules if module.startswith("openvino_telemetry.")])
"""


def test_the_runtimes_write_nothing_under_home_and_phone_nobody(lowered: Lower, tmp_path: Path) -> None:
    folders = [str(lowered(name, "int8").folder) for name in TARGETS]
    off = ("ORT_DISABLE_TELEMETRY", "CI", "TF_BUILD", "JENKINS_URL")  # each would hide that nothing was switched off
    environment = {key: value for key, value in os.environ.items() if key not in off}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *folders],
        env=environment | home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    assert list(tmp_path.rglob("*")) == []
