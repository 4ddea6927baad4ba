"""Which folders a report takes, and what it calls them."""

from pathlib import Path

import pytest

from edgevit.errors import InputError
from edgevit.report import sources
from tests.report import subjects


def test_labels_tell_folders_of_one_name_apart() -> None:
    folders = [Path("/out/a/m0"), Path("/out/b/m0"), Path("/out/sepvit"), Path("/m0")]
    assert sources.labels(folders) == ["a/m0", "b/m0", "sepvit", "/m0"]
    assert sources.labels([Path("/x/\x1b[0m")]) == ["'\\x1b[0m'"]


def test_a_folder_that_is_named_twice_is_taken_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.symlink_to(one)
    assert sources.distinct([one, other, one]) == ([one], [other, one])


def test_folders_that_edgevit_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(InputError, match=r"holds no manifest\.json and no calibration\.json: name folders"):
            sources.opened([folder])


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("manifest", {}),
        ("calibration", {}),
        ("bench", {"manifest": subjects.manifest()}),
        ("devices/a", {"manifest": subjects.manifest()}),
    ],
)
def test_damaged_and_future_files_are_named(name: str, others: dict[str, object], tmp_path: Path) -> None:
    folder = subjects.write(tmp_path / "m0", **others)
    (folder / name).parent.mkdir(exist_ok=True)
    for damage in ("", "{", "[" * 100_000, "\udcff"):
        (folder / f"{name}.json").write_bytes(damage.encode("utf-8", "surrogateescape"))
        with pytest.raises(InputError, match=rf"{name}\.json is damaged: \w+ again"):
            sources.opened([folder])
    subjects.write(folder, **{name: []})
    with pytest.raises(InputError, match=rf"{name}\.json: it is \[\] where an object is needed"):
        sources.opened([folder])
    for schema in (2, None, "1"):
        subjects.write(folder, **{name: {"schema": schema}})
        with pytest.raises(
            InputError, match=rf"{name}\.json is not of schema 1: read it with the edgevit that wrote it"
        ):
            sources.opened([folder])


def test_a_page_may_not_lie_in_an_export(tmp_path: Path) -> None:
    sources.check_outside(tmp_path / "report.html", [tmp_path / "m0"])
    with pytest.raises(InputError, match="has to stay as it was written"):
        sources.check_outside(tmp_path / "m0" / "onnx" / "report.html", [tmp_path / "m0"])
