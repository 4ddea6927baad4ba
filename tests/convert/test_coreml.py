import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from calibrate.program import weighted_operators
from calibrate.ptq import calibrate
from calibrate.recipe import Recipe, Rule
from convert import coreml as coreml_target
from convert.mil import evaluator
from convert.mil.package import read
from convert.mil.quiet import coremltools
from convert.source import Precision, Source
from edgevit.errors import ClaimError
from edgevit.metrics import sqnr_db
from tests.calibrate.subjects import INT8_RESIDUAL, SIDE, images, quantized_net, quantized_vit, vit
from tests.convert.conftest import METADATA, Lowered, source

Lower = Callable[[str, Precision], Lowered]
X = images(4, 9, SIDE)
NAMES = [f"class {i}" for i in range(10)]
PREPROCESS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}
DRESSED = {"class_names": json.dumps(NAMES), "preprocess": json.dumps(PREPROCESS), "licence": "MIT", "model": "narrow"}


def spec(folder: Path) -> Any:
    model = coremltools().proto.Model_pb2.Model()
    model.ParseFromString((folder / "model.mlpackage/Data/com.apple.CoreML/model.mlmodel").read_bytes())
    return model


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_package_says_what_it_is(precision: Precision, lowered: Lower) -> None:
    folder = lowered("coreml", precision).folder
    found = coreml_target.metadata(folder)
    program = torch.export.export(vit(), (images(1, 0, SIDE),))
    assert json.loads(found.pop("operators")) == list(weighted_operators(program).values())
    assert found == METADATA
    (image,), (logits,) = spec(folder).description.input, spec(folder).description.output
    assert (image.name, logits.name) == ("image", "logits")
    assert image.type.multiArrayType.dataType == logits.type.multiArrayType.dataType  # float32, as all targets take it
    assert tuple(image.type.multiArrayType.shape) == (1, 3, SIDE, SIDE)


@pytest.fixture(scope="module")
def dressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INT8, an image in, a label out, for iOS 18."""
    folder = tmp_path_factory.mktemp("dressed")
    coreml_target.lower(source("int8"), folder, DRESSED, ios=18, image_input=True, classifier=True)
    return folder


def test_fields_that_xcode_shows_are_filled(dressed: Path) -> None:
    found = spec(dressed).description.metadata
    assert (found.author, found.license, found.shortDescription) == ("exported by edgevit", "MIT", "narrow")


@pytest.mark.parametrize(("ios", "version"), [(17, 8), (18, 9), (26, 10)])
def test_the_oldest_ios_decides_the_format(ios: int, version: int, tmp_path: Path) -> None:
    quantized = quantized_net(INT8_RESIDUAL)
    coreml_target.lower(Source(quantized, "int8"), tmp_path, {}, ios=ios)
    assert spec(tmp_path).specificationVersion == version
    assert coreml_target.grid(tmp_path) == quantized.tensors
    assert coreml_target.census(tmp_path, quantized.asked).missing == ()


def test_residual_additions_keep_their_three_grids(tmp_path: Path) -> None:
    """Which the converter would otherwise rewrite into others of its own."""
    quantized = quantized_net(INT8_RESIDUAL)
    coreml_target.lower(Source(quantized, "int8"), tmp_path, {})
    census = coreml_target.census(tmp_path, quantized.asked)
    assert census.int8 == {"conv": 3, "add": 1, "linear": 1}
    assert coreml_target.grid(tmp_path) == quantized.tensors


def test_nothing_of_the_superset_is_dropped(lowered: Lower) -> None:
    entry = lowered("coreml", "int8")
    assert entry.dropped == ()
    assert coreml_target.grid(entry.folder) == quantized_vit().tensors


def test_one_program_gives_one_folder_of_bytes(lowered: Lower, tmp_path: Path) -> None:
    coreml_target.lower(source("int8"), tmp_path, METADATA)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (lowered("coreml", "int8").folder, tmp_path)
    )
    assert first == second


def test_a_dressed_package_is_the_same_program(dressed: Path, lowered: Lower) -> None:
    """Both give logits for normalised images: pixels and probabilities are undone."""
    mean, std = (torch.tensor(PREPROCESS[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    x = ((torch.rand(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) - mean) / std).numpy()
    plain = coreml_target.load(lowered("coreml", "int8").folder)(x)
    assert sqnr_db(plain, coreml_target.load(dressed)(x)) > 20
    assert coreml_target.grid(dressed) == quantized_vit().tensors


def test_a_dressed_package_takes_pixels_and_gives_label_and_probabilities(dressed: Path) -> None:
    package = read(dressed / "model.mlpackage")
    assert [(value.name, value.colour) for value in package.inputs] == [("image", "RGB")]
    pixels = torch.randint(0, 256, (1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)).float()
    outputs = evaluator.load(dressed / "model.mlpackage").run({"image": pixels})
    probabilities = outputs["label_probs"]
    assert list(probabilities) == NAMES
    assert sum(probabilities.values()) == pytest.approx(1, abs=2e-3)
    assert outputs["label"] == max(probabilities, key=lambda name: probabilities[name])


def test_reading_writes_nothing(lowered: Lower, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lowered("coreml", "int8").folder, tmp_path / "coreml"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    coreml_target.load(folder)
    coreml_target.census(folder, {})
    coreml_target.grid(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_any_number_of_images_runs_at_once(lowered: Lower) -> None:
    run = coreml_target.load(lowered("coreml", "fp32").folder)
    one_by_one = np.concatenate([run(x[None].numpy()) for x in X])
    assert sqnr_db(one_by_one, run(X.numpy())) > 80


def altered(lowered: Lower, folder: Path, change: Callable[[bytes], bytes]) -> Path:
    copy = Path(shutil.copytree(lowered("coreml", "int8").folder, folder / "coreml"))
    (weights,) = copy.rglob("weight.bin")
    data = weights.read_bytes()
    weights.write_bytes(change(data))
    assert weights.read_bytes() != data
    return copy


def test_an_altered_scale_in_the_blob_is_seen(lowered: Lower, tmp_path: Path) -> None:
    tensors = quantized_vit().tensors
    scales = np.array(tensors["blocks2.1.conv1.c.weight"].scale, np.float16)
    other = scales.copy()
    other[5] = np.nextafter(other[5], np.float16(1))
    copy = altered(lowered, tmp_path, lambda data: data.replace(scales.tobytes(), other.tobytes()))
    found = coreml_target.grid(copy)
    assert {name for name in found if found[name] != tensors[name]} == {"blocks2.1.conv1.c.weight"}


def test_a_dequantize_off_the_grid_of_its_quantize_is_refused(lowered: Lower, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(lowered("coreml", "int8").folder, tmp_path / "coreml"))
    path = copy / "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    model = spec(copy)
    (function,) = model.mlProgram.functions.values()
    operations = function.block_specializations[function.opset].operations
    read_by = next(entry for entry in operations if entry.type == "dequantize").inputs["scale"].arguments[0].name
    constant = next(entry for entry in operations if entry.outputs[0].name == read_by)
    value = constant.attributes["val"].immediateValue.tensor.bytes
    scale = np.frombuffer(value.values, np.float16)
    value.values = (scale * np.float16(1.01)).tobytes()
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ClaimError, match=r"model\.mlpackage holds .* on two grids: export it again$"):
        coreml_target.grid(copy)


class FakeCoreML:
    """What coremltools' MLModel does on a Mac, computed by the evaluator."""

    def __init__(self, path: str) -> None:
        self.program = evaluator.load(Path(path))
        self.spec = spec(Path(path).parent)

    def get_spec(self) -> Any:
        return self.spec

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        value = inputs["image"]
        if isinstance(value, Image.Image):
            value = np.asarray(value, np.float32).transpose(2, 0, 1)[None]
        outputs = self.program.run({"image": torch.from_numpy(value)})
        return {name: v.numpy() if isinstance(v, torch.Tensor) else v for name, v in outputs.items()}


def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    models, proto = SimpleNamespace(MLModel=FakeCoreML), coremltools().proto
    monkeypatch.setattr(coreml_target, "coremltools", lambda: SimpleNamespace(models=models, proto=proto))


def test_predict_feeds_tensors_and_returns_logits(lowered: Lower, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lowered("coreml", "fp16").folder
    expected = coreml_target.load(folder)(X.numpy())
    on_a_mac(monkeypatch)
    assert sqnr_db(expected, coreml_target.predict(folder)(X.numpy())) > 60


def test_predict_feeds_8_bit_images_and_returns_probabilities(dressed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mean, std = (torch.tensor(PREPROCESS[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    pixels = torch.randint(0, 256, (3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(2))
    x = ((pixels / 255 - mean) / std).numpy()
    expected = torch.from_numpy(coreml_target.load(dressed)(x)).softmax(-1).numpy()
    on_a_mac(monkeypatch)
    found = coreml_target.predict(dressed)(x)
    assert found.shape == (3, 10)
    np.testing.assert_allclose(found.sum(1), 1, atol=2e-3)
    assert sqnr_db(expected, found) > 20


class Tokens(nn.Module):
    """A float convolution, then an integer one; between them its map is laid out as tokens, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.first(x).flatten(2).transpose(1, 2)
        return self.second(tokens.transpose(1, 2).reshape(x.shape[0], 4, 6, 6)).flatten(1)


def test_a_change_of_layout_that_is_undone_goes_and_the_grid_behind_it_keeps_its_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = images(4, 0, 6)
    quantized = calibrate(Tokens().eval(), Recipe((Rule("second", "int8", ""),), "minmax"), [x], x[:1])
    coreml_target.lower(Source(quantized, "int8"), tmp_path, {})
    package = read(tmp_path / "model.mlpackage")
    assert "transpose" not in {operation.kind for operation in package.operations}
    assert set(quantized.tensors) == {"second.input", "second.weight", "second.output"}
    assert coreml_target.grid(tmp_path) == quantized.tensors
