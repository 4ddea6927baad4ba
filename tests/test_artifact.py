"""A folder that appears whole or not at all, and the manifest in it."""

import json
import shutil
import signal
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevit import artifact
from edgevit.errors import ClaimError, InputError

# ruff: noqa: PT012 - what is raised leaves a context manager, which is what is tested

Usage = namedtuple("Usage", "total used free")


def make_export(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    artifact.write_json(folder / artifact.MANIFEST, {"schema": artifact.SCHEMA, "content": content})
    return folder


def test_a_staged_folder_takes_its_place_when_whole(tmp_path: Path) -> None:
    out = tmp_path / "new" / "parents" / "export"
    with artifact.staged(out) as folder:
        (folder / "model").write_text("whole")
        assert not out.exists()
    assert (out / "model").read_text() == "whole"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_staged_folder_that_fails_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), artifact.staged(tmp_path / "new" / "parents" / "export") as folder:
        (folder / "model").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_was_there_or_got_other_files_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="x"), artifact.staged(tmp_path / "there" / "made" / "export"):
        (tmp_path / "there" / "made" / "other").write_text("of someone else")
        raise ValueError("x")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["made", "other", "there"]


def test_an_export_is_replaced_whole_and_stays_until_then(tmp_path: Path) -> None:
    out = make_export(tmp_path / "export", "old")
    (out / "only-in-the-old").write_text("")
    with artifact.staged(out) as folder:
        artifact.write_json(folder / artifact.MANIFEST, {"schema": artifact.SCHEMA, "content": "new"})
        assert artifact.read_manifest(out)["content"] == "old"
    assert artifact.read_manifest(out)["content"] == "new"
    assert [path.name for path in out.iterdir()] == [artifact.MANIFEST]
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("error", [ClaimError, KeyboardInterrupt])
def test_an_export_is_intact_when_its_successor_fails(error: type[BaseException], tmp_path: Path) -> None:
    out = make_export(tmp_path / "export", "old")
    with pytest.raises(error), artifact.staged(out):
        raise error
    assert artifact.read_manifest(out)["content"] == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_an_export_is_put_back_when_the_last_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rename = make_export(tmp_path / "export", "old"), Path.rename

    def failing(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"), artifact.staged(out):
        pass
    assert artifact.read_manifest(out)["content"] == "old"
    assert list(tmp_path.iterdir()) == [out]


@pytest.fixture
def _heeded() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where a shell that ignores it started the tests in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeded")
def test_a_signal_waits_for_the_cleaning_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rmtree = shutil.rmtree

    def interrupted(path: Path, ignore_errors: bool) -> None:
        signal.raise_signal(signal.SIGINT)
        rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), artifact.staged(tmp_path / "new" / "export") as folder:
        (folder / "model").write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_heeded")
def test_a_signal_is_only_put_off() -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt), artifact.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        seen.append("after the signal")
    assert seen == ["after the signal"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("error", [RuntimeError("what a library makes of it"), OSError(28, "No space left on device")])
def test_a_full_disk_is_named_whatever_met_it(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="is full: free space"), artifact.staged(tmp_path / "export"):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 100, 0))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_space_is_not_blamed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"), artifact.staged(tmp_path / "export"):
        raise RuntimeError("a bug")


def test_destinations(tmp_path: Path) -> None:
    export = make_export(tmp_path / "export", "old")
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to(export)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "things").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    for name, force, reason in (
        ("export", False, "exists: choose another --out, or replace it with --force"),
        ("empty", False, "exists"),
        ("file", False, "is not a folder"),
        ("file", True, "is not a folder"),
        ("dangling", True, "is not a folder"),
        ("link", True, "is not a folder"),
        ("other", True, "is not an edgevit export, so --force does not replace it"),
        ("file/x/y", False, "cannot be written to"),
    ):
        with pytest.raises(InputError, match=reason):
            artifact.check_destination(tmp_path / name, force)
    for name, force in (("export", True), ("empty", True), ("new/x", False), ("new/x", True)):
        artifact.check_destination(tmp_path / name, force)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_destination_is_tried_not_asked_about() -> None:
    """Permission bits do not bind root, and a read-only file system has them all the same."""
    with pytest.raises(InputError, match="/proc cannot be written to"):
        artifact.check_destination(Path("/proc/edgevit/export"), force=False)


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        ("{", ClaimError, "cannot be read as JSON"),
        ("\udce4".encode("utf-8", "surrogateescape"), ClaimError, "cannot be read as JSON"),
        ("[]", InputError, "is not of schema 1"),
        ('{"schema": 2}', InputError, "is not of schema 1"),
        ("null", InputError, "is not of schema 1"),
        (None, InputError, "holds no manifest.json"),
    ],
)
def test_no_manifest(content: str | bytes | None, error: type[Exception], reason: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / artifact.MANIFEST).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=reason):
        artifact.read_manifest(tmp_path)


def test_json_is_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        artifact.write_json(tmp_path / "x.json", {"sqnr": float("nan")})
    artifact.write_json(tmp_path / "x.json", {"name": "Blüte"})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"name": "Blüte"}


def test_files_are_described_by_relative_path_and_digest(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"")
    assert artifact.describe_files(tmp_path) == {
        "bytes": 3,
        "files": {
            "b": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sub/a": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        },
    }
