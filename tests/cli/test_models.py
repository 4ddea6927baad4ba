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
    end = len(registry.ENTRIES) + 1
    table, notes = lines[:end], lines[end:]
    assert max(map(len, table)) <= 80
    assert table[1].split()[:5] == ["efficientvit_m0", "2,349,436", "224", "79.2", "63.2"]
    assert table[6].split()[:5] == ["efficientvit_m5", "12,473,772", "224", "521.6", "77.1"]
    assert table[8].split() == ["sepvit_tiny", "31,182,856", "224", "4,519.0", "82.7"]
    assert table[11].split()[:4] == ["dynamicvit_deit_tiny", "5,899,582", "224", "801.2"]
    for line, entry in zip(table[1:], registry.ENTRIES.values(), strict=True):
        assert ("official" in line) == (entry.official_url is not None)
    sources = (registry.CREAM, registry.SEPVIT, registry.DYNAMICVIT)
    assert all(source in note for source, note in zip(sources, notes[:3], strict=True))
    assert f"{registry.MODEL_ZOO} " in notes[3]
    assert f"{registry.DEIT} " in notes[4]
    assert "--predictors" in notes[5]
    assert "--weights PATH" in notes[6]


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
