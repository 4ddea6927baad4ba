"""``edgevit models``."""

import json
from pathlib import Path

import pytest

from edgevit.cli import models
from edgevit.models import registry, weights
from tests.cli.conftest import Edgevit


def test_json_is_the_registry(edgevit: Edgevit) -> None:
    listed = json.loads(edgevit("models", "--json").out)
    assert [entry["name"] for entry in listed] == list(registry.ENTRIES)
    first = dict(listed[0])
    assert {"official", "random"} <= set(first.pop("weights"))
    expected = registry.entry("efficientvit_m0")
    assert first == {key: getattr(expected, key) for key in first}
    assert (first["params"], first["macs"], first["image_size"], first["top1"]) == (2_349_436, 79_193_600, 224, 63.2)
    assert {"classes", "top1_source", "licence", "official_url"} < first.keys()


def test_table_fits_80_columns_and_names_its_sources(edgevit: Edgevit) -> None:
    lines = edgevit("models").out.splitlines()
    table, notes = lines[:7], lines[7:]
    assert max(map(len, table)) <= 80
    assert table[1].split()[:5] == ["efficientvit_m0", "2,349,436", "224", "79.2", "63.2"]
    assert table[6].split()[:5] == ["efficientvit_m5", "12,473,772", "224", "521.6", "77.1"]
    assert all("official" in line for line in table[1:])
    assert registry.CREAM in notes[0]
    assert f"{registry.MODEL_ZOO}/MODEL.pth" in notes[1]
    assert "--weights PATH" in notes[2]


def test_bundled_weights_are_listed_where_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [models.bundled(name) for name in registry.ENTRIES] == [
        weights.bundled_available(name) for name in registry.ENTRIES
    ]
    assets = tmp_path / "assets"
    assets.mkdir()
    monkeypatch.setattr(models.resources, "files", lambda package: tmp_path)
    assert not models.bundled("efficientvit_m1")
    (assets / weights.bundled_file("efficientvit_m1").name).touch()
    assert models.weights_of(registry.entry("efficientvit_m1")) == ["bundled", "official", "random"]
    assert not models.bundled("efficientvit_m2")
