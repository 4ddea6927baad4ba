"""``edgevit profile``: what it prints and writes of a small export, and what it says of bad input."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from convert import registry
from edgevit import artifact, pipeline, profiling
from edgevit.cli import main
from edgevit.errors import ClaimError
from tests.cli.conftest import Edgevit
from tests.conftest import Exported


@pytest.fixture(scope="module")
def profiled(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profiles") / "new" / "out"
    code = main.run(["profile", str(exported.folder), "--runs", "20", "--json", "--out", str(out)])
    assert code == 0
    return out


def test_writes_all_that_it_measured_and_a_chart(profiled: Path, exported: Exported) -> None:
    assert sorted(path.name for path in profiled.iterdir()) == ["profile.json", "profile.svg"]
    described = json.loads((profiled / "profile.json").read_text())
    assert list(described) == ["schema", "export", "targets", "environment", "failures"]
    assert described["failures"] == []
    assert list(described["targets"]) == ["onnx", "openvino"]
    manifest = artifact.read_manifest(exported.folder)
    for profile in described["targets"].values():
        for rows in (profile["operators"], profile["kinds"]):
            assert sum(row["share"] for row in rows) == pytest.approx(1)
            assert [row["us"] for row in rows] == sorted((row["us"] for row in rows), reverse=True)
        assert sum(operator["macs"] for operator in profile["operators"]) == manifest["model"]["macs"]
        assert profile["bound"]["of_model_macs"] == 1
        assert set(profile["bound"]["peaks"]) == {"int8", "float"}
        integer = {operator["name"] for operator in profile["operators"] if operator["precision"] == "int8"}
        assert set(manifest["quant"]["operators"]) <= integer
    ElementTree.fromstring((profiled / "profile.svg").read_text())


def test_prints_tables_and_replaces_only_what_it_wrote(
    profiled: Path, exported: Exported, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stated = json.loads((profiled / "profile.json").read_text())["targets"]
    monkeypatch.setattr(profiling, "profile", lambda request: stated[request.name])
    out = shutil.copytree(profiled, tmp_path / "out")
    ended = edgevit("profile", exported.folder, "--target", "openvino", "--out", out)
    assert (ended.code, "exists: choose another --out, or replace it with --force" in ended.err) == (2, True)
    ended = edgevit("profile", exported.folder, "--target", "openvino", "--out", out, "--force")
    assert (ended.code, ended.err) == (0, f"wrote {out}\n")
    assert "openvino, 1 thread: " in ended.out
    assert "at the measured peak" in ended.out
    dearest = stated["openvino"]["operators"][0]
    assert (dearest["name"] or dearest["node"])[:6] in ended.out  # a narrow column may cut it
    ended = edgevit("profile", exported.folder, "--out", exported.folder, "--force")
    assert (ended.code, "is not an edgevit profile, so --force does not replace it" in ended.err) == (2, True)


def test_a_profile_that_lacks_operators_ends_with_one(
    profiled: Path, exported: Exported, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = json.loads((profiled / "profile.json").read_text())["targets"]
    lacking = "onnx: the profile has 0 of the 1 linear in int8"
    monkeypatch.setattr(profiling, "profile", lambda request: stated[request.name] | {"failures": [lacking]})
    ended = edgevit("profile", exported.folder, "--target", "onnx")
    assert (ended.code, ended.err) == (1, f"edgevit: {lacking}\n")
    assert f"failed: {lacking}" in ended.out


def test_where_no_target_can_be_profiled_nothing_is_printed_or_written(
    exported: Exported, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(request: profiling.Request) -> None:
        raise ClaimError(f"{request.name}: it crashed")

    monkeypatch.setattr(profiling, "profile", fail)
    ended = edgevit("profile", exported.folder, "--out", tmp_path / "out", "--json")
    assert (ended.code, ended.out, ended.err) == (1, "", "edgevit: onnx: it crashed; openvino: it crashed\n")
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_one_sentence(
    exported: Exported, edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(request: profiling.Request) -> None:
        raise AssertionError("nothing is measured with bad input")

    monkeypatch.setattr(profiling, "profile", measured)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{")
    for arguments, code, reason in (
        ((), 2, "Missing argument 'DIR'; see edgevit profile --help"),
        ((tmp_path / "no",), 2, "holds no manifest.json: name a folder that edgevit export wrote"),
        ((damaged,), 1, "cannot be read as JSON"),
        ((exported.folder, "--target", "tflite"), 2, "there is no target 'tflite': choose from onnx, openvino"),
        ((exported.folder, "--target", "coreml"), 2, "has no artifact of target coreml: choose from onnx, openvino"),
        ((exported.folder, "--runs", 19), 2, "19 is not in the range x>=20"),
        ((exported.folder, "--threads", 0), 2, "0 is not in the range x>=1"),
        ((exported.folder, "--force"), 2, "--force is about --out: name a folder"),
        ((exported.folder, "--out", "/proc/out"), 2, "/proc cannot be written to"),
        ((exported.folder, "--out", damaged / "manifest.json"), 2, "is not a folder: choose another --out"),
    ):
        ended = edgevit("profile", *arguments)
        assert (ended.code, ended.out, reason in ended.err) == (code, "", True), ended.err
        assert ended.err.count("\n") == 1
    monkeypatch.setattr(registry, "find_spec", lambda package: None if package == "openvino" else find_spec(package))
    ended = edgevit("profile", exported.folder)
    assert (ended.code, ended.out) == (3, "")
    assert "target openvino needs openvino, which is not installed: pip install" in ended.err


def test_a_damaged_artifact_leaves_the_other_one(
    exported: Exported, edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = shutil.copytree(exported.folder, tmp_path / "export")
    (copied / "openvino" / "model.bin").write_bytes(b"")
    described = pipeline.profile
    monkeypatch.setattr(pipeline, "profile", lambda *args, **kwargs: described(*args, **kwargs | {"runs": 20}))
    ended = edgevit("profile", copied, "--json")
    assert ended.code == 1
    assert list(json.loads(ended.out)["targets"]) == ["onnx"]
    assert "model.xml is missing or damaged, or a file beside it is: export it again" in ended.err
    assert ended.err.count("\n") == 1
