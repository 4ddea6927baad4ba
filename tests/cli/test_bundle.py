"""``edgevit bundle``."""

import json
import shutil
from pathlib import Path

import pytest

from edgevit.bundle.contract import BUNDLE
from tests.bundle.small_apps import write_apps
from tests.cli.conftest import Edgevit
from tests.conftest import Exported


def test_writes_an_app_and_says_what_is_next(
    exported: Exported, edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps = write_apps(tmp_path / "apps")
    monkeypatch.setattr("edgevit.bundle.apps.apps", lambda: apps)
    folder = shutil.copytree(exported.folder, tmp_path / "x")
    ended = edgevit("bundle", folder, "--app", "runner")
    assert (ended.code, (tmp_path / "x-runner" / "main.cpp").is_file()) == (0, True), ended.err
    assert "onnx: " in ended.out
    assert f"wrote {tmp_path / 'x-runner'}: build it as its README says" in ended.out.replace("\n", "")
    again = edgevit("bundle", folder, "--app", "runner", "--json")
    assert (again.code, "exists: choose another --out" in again.err) == (2, True)
    again = edgevit("bundle", folder, "--app", "runner", "--json", "--force")
    assert json.loads(again.out) == json.loads((tmp_path / "x-runner" / "bundle" / BUNDLE).read_text())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    ended = edgevit("bundle", folder, "--app", "web", "--out", tmp_path / "mine", "--force")
    assert (ended.code, "is not an edgevit app" in ended.err) == (2, True)
    ended = edgevit("bundle", folder, "--app", "web", "--target", "executorch", "--out", tmp_path / "y")
    assert (ended.code, "the web app runs no executorch: choose from onnx" in ended.err) == (2, True)
    assert edgevit("bundle", tmp_path / "mine", "--app", "web").code == 2


def test_an_app_that_did_not_come_with_edgevit(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edgevit: Edgevit
) -> None:
    monkeypatch.setattr("edgevit.bundle.apps.apps", lambda: tmp_path)
    ended = edgevit("bundle", exported.folder, "--app", "web", "--out", tmp_path / "out")
    assert (ended.code, "did not come with edgevit: pip install --force-reinstall" in ended.err) == (3, True)
