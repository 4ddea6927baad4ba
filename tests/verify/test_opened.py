"""Grids are read from an export, a target's folder and an artifact alike; anything else is refused by name."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from calibrate.program import TensorGrid
from convert import registry
from convert.registry import TARGETS, Entry
from convert.source import Source
from convert.target import target
from edgevit import artifact
from edgevit.errors import ClaimError, InputError, MissingError
from edgevit.verify import opened as opening
from edgevit.verify.opened import opened
from tests.calibrate.subjects import FLOAT_RESIDUAL, images, net, quantized_net

INSTALLED = [entry for entry in TARGETS.values() if entry.installed]
every = pytest.mark.parametrize("entry", INSTALLED, ids=lambda entry: entry.name)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT8 artifact of every target beside what a manifest says of the program."""
    folder = tmp_path_factory.mktemp("opened") / "export"
    quantized = quantized_net(FLOAT_RESIDUAL)
    for entry in INSTALLED:
        (folder / entry.name).mkdir(parents=True)
        target(entry.name).lower(Source(quantized, "int8"), folder / entry.name, {})
    tensors = {name: grid.manifest() for name, grid in quantized.tensors.items()}
    write_manifest(folder, {"mode": "int8", "tensors": tensors})
    return folder


@pytest.fixture(scope="module")
def float_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("float")
    target("onnx").lower(Source(torch.export.export(net(), (images(1, 0, 16),)), "fp32"), folder, {})
    return folder


@pytest.fixture
def copied(export: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(export, tmp_path / "export"))


def write_manifest(folder: Path, quant: Any) -> Path:
    folder.mkdir(exist_ok=True)
    artifact.write_json(folder / artifact.MANIFEST, {"schema": artifact.SCHEMA, "quant": quant})
    return folder


def test_an_export_is_its_program(export: Path) -> None:
    found = opened(export)
    assert found.program
    assert found.tensors == quantized_net(FLOAT_RESIDUAL).tensors


@every
def test_an_artifact_and_its_folder_are_the_same(entry: Entry, export: Path) -> None:
    folder, program = export / entry.name, quantized_net(FLOAT_RESIDUAL).tensors
    found = opened(folder)
    assert not found.program
    assert found.tensors
    assert found.tensors.items() <= program.items()
    assert opened(folder / entry.file) == found


@every
@pytest.mark.parametrize("here", ["folder", "file"])
def test_relative_paths(entry: Entry, here: str, export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(export / entry.name)
    path = Path() if here == "folder" else Path(entry.file)
    assert opened(path) == opened(export / entry.name)


@pytest.fixture(scope="module")
def place(export: Path, float_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that are no INT8 artifact."""
    root = tmp_path_factory.mktemp("place")
    (root / "empty").mkdir()
    (root / "text").write_text("text")
    (root / "dangling").symlink_to("nowhere")
    shutil.copytree(float_folder, root / "float")
    both = Path(shutil.copytree(export / "onnx", root / "both"))
    (both / "model.xml").write_text("")
    shutil.copy(export / "onnx" / "model.onnx", root / "renamed.onnx")
    write_manifest(root / "fp32", {"mode": "fp32"})
    write_manifest(root / "none", {"mode": "int8", "tensors": {}})
    artifact.write_json(write_manifest(root / "schema", {}) / artifact.MANIFEST, {"schema": 99})
    return root


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "there is nothing at {path}: name an export, a target's folder in one or an artifact"),
        ("dangling", "there is nothing at {path}: name"),
        ("text/model.onnx", "there is nothing at {path}: name"),
        ("empty", "{path} is no export and no artifact: name a folder that edgevit wrote, or model.onnx or model.xml"),
        ("text", "{path} is no export and no artifact: "),
        ("renamed.onnx", "{path} is no export and no artifact: "),
        ("both", "{path} holds model.onnx and model.xml: name one of them"),
        ("float", "{path}/model.onnx is a float artifact, which has no grid: name one exported with --quant int8"),
        ("float/model.onnx", "{path} is a float artifact, which has no grid: name one exported with --quant int8"),
        ("fp32", "{path} is an export in fp32, which has no grid: name one made with --quant int8"),
        ("none", "{path} is an export in int8, which has no grid: "),
        ("schema", "{path}/manifest.json is not of schema 1: "),
    ],
)
def test_what_has_no_grid_is_wrong_input(name: str, reason: str, place: Path) -> None:
    with pytest.raises(InputError) as caught:
        opened(place / name)
    assert str(caught.value).startswith(reason.format(path=place / name))


def test_one_of_two_artifacts_in_a_folder_can_be_named(place: Path, export: Path) -> None:
    assert opened(place / "both" / "model.onnx") == opened(export / "onnx")


def test_an_artifact_whose_runtime_is_missing_is_known_all_the_same(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda package: None if package == "openvino" else find_spec(package))
    alone = Path(shutil.copytree(copied / "openvino", tmp_path / "alone"))
    for path in (alone, alone / "model.xml", copied / "openvino"):
        with pytest.raises(MissingError, match="openvino, which is not installed: pip install"):
            opened(path)
    assert opened(copied / "onnx").tensors


@every
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b""], ids=["cut", "empty"])
def test_a_damaged_artifact(entry: Entry, damage: Callable[[bytes], bytes], copied: Path, tmp_path: Path) -> None:
    path = copied / entry.name / entry.file
    for file in [path] if path.is_file() else artifact.files_in(path):
        file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ClaimError, match="export it again"):
        opened(path)


def broken(change: Callable[[dict[str, Any]], object]) -> Any:
    quant: dict[str, Any] = {"mode": "int8", "tensors": {"a.weight": {"scale": [0.5, 1], "zero_point": [0, 0]}}}
    replaced = change(quant)
    return replaced if isinstance(replaced, list) else quant


@pytest.mark.parametrize(
    "change",
    [
        lambda quant: quant.pop("mode"),
        lambda quant: [quant],
        lambda quant: quant.update(tensors=["a.weight"]),
        lambda quant: quant["tensors"].update({"a.weight": None}),
        lambda quant: quant["tensors"]["a.weight"].pop("scale"),
        lambda quant: quant["tensors"]["a.weight"].update(scale=0.5),
        lambda quant: quant["tensors"]["a.weight"].update(scale=[0.5, None]),
        lambda quant: quant["tensors"]["a.weight"].update(scale=["a", "b"]),
        lambda quant: quant["tensors"]["a.weight"].update(scale=[0.5]),
        lambda quant: quant["tensors"]["a.weight"].update(zero_point=[0, 0.5]),
        lambda quant: quant["tensors"]["a.weight"].update(zero_point=[], scale=[]),
    ],
)
def test_a_damaged_manifest(change: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    assert len(opened(write_manifest(tmp_path, broken(lambda quant: None))).tensors) == 1
    with pytest.raises(ClaimError, match=r"manifest\.json is missing or damaged.*: export it again"):
        opened(write_manifest(tmp_path, broken(change)))


@pytest.mark.parametrize("text", ["", "{", "\udcff"])
def test_a_manifest_that_is_no_json(text: str, tmp_path: Path) -> None:
    (tmp_path / artifact.MANIFEST).write_text(text, errors="surrogateescape")
    with pytest.raises(ClaimError, match="cannot be read as JSON"):
        opened(tmp_path)


def serve(monkeypatch: pytest.MonkeyPatch, grid: Callable[[Path], object]) -> None:
    """Let ``grid`` read ``model.package`` as the only target's."""
    entry = Entry("other", "convert.other", "other", "model.package")
    monkeypatch.setattr(opening, "TARGETS", {"other": entry})
    monkeypatch.setattr(opening, "target", lambda name: {"other": SimpleNamespace(grid=grid)}[name])


def test_an_artifact_that_is_a_folder_with_a_manifest_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a .mlpackage is, where a file system does not tell Manifest.json from manifest.json."""
    tensors = {"a.weight": TensorGrid((0.5,), (0,), axis=0)}
    serve(monkeypatch, lambda folder: tensors if folder == tmp_path else {})
    (tmp_path / "model.package").mkdir()
    (tmp_path / "model.package" / artifact.MANIFEST).write_text("{}")
    for path in (tmp_path, tmp_path / "model.package"):
        assert opened(path) == opening.Opened(tensors, program=False)


def test_an_artifact_with_grids_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, lambda folder: {"a.weight": TensorGrid((0.5, 0.5), (0,))})
    (tmp_path / "model.package").touch()
    with pytest.raises(ClaimError, match=r"model\.package is missing or damaged"):
        opened(tmp_path)
