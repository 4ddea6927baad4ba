"""``edgevit report``: what it writes, what it refuses to write over, and what it says of wrong input."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgevit import artifact
from edgevit.report import compose
from tests.cli.conftest import Edgevit
from tests.conftest import ROOT, Exported
from tests.report import subjects


@pytest.fixture
def m0(tmp_path: Path) -> Path:
    return subjects.write(tmp_path / "m0", manifest=subjects.manifest())


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of --out is in the working folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_a_page_and_the_same_tables(m0: Path, edgevit: Edgevit) -> None:
    ended = edgevit("report", m0)
    assert (ended.code, ended.err) == (0, "wrote report.html\n")
    assert "1.75 (1.62 to 1.88)" in ended.out
    assert "1.75 (1.62 to 1.88)" in Path("report.html").read_text(encoding="utf-8")
    ended = edgevit("report", m0, "--json", "--out", "other.html")
    assert json.loads(ended.out) == compose.report([m0]).manifest()
    assert Path("other.html").read_bytes() == Path("report.html").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == ["other.html", "report.html"]


def test_a_real_export_is_read_and_stays_as_it_is(exported: Exported, edgevit: Edgevit) -> None:
    before = artifact.describe_files(exported.folder)
    ended = edgevit("report", exported.folder, "--json")
    assert ended.code == 0
    assert artifact.describe_files(exported.folder) == before
    found, manifest = json.loads(ended.out), json.loads(exported.out)
    assert [failure["failure"] for failure in found["failures"]] == manifest["failures"]
    for entry in found["tables"]["results"]:
        assert entry["bytes"] == manifest["targets"][entry["target"]]["bytes"]
        assert entry["speedup"] == manifest["latency"][entry["target"]]["speedup"]
    steps = [(entry["sqnr_db"], entry["top1_agreement"]) for entry in found["tables"]["parity"]]
    assert steps == [(link["sqnr_db"], link["top1_agreement"]) for link in manifest["parity"]["links"]]


def test_a_failed_export_is_shown_and_fails_no_report(tmp_path: Path, edgevit: Edgevit) -> None:
    manifest = subjects.manifest()
    manifest["failures"] = ["parity folded → quantised program: 5.0 dB SQNR, less than 15"]
    ended = edgevit("report", subjects.write(tmp_path / "m0", manifest=manifest))
    assert ended.code == 0
    assert "failed: m0: parity folded → quantised program: 5.0 dB SQNR" in ended.out


def test_a_folder_named_twice_is_said(m0: Path, edgevit: Edgevit) -> None:
    ended = edgevit("report", m0, f"{m0}/", "--json")
    assert ended.err == f"{m0} is named more than once: shown once\nwrote report.html\n"
    assert len(json.loads(ended.out)["results"]) == 1


def test_only_a_report_is_written_over(m0: Path, edgevit: Edgevit) -> None:
    page = Path("report.html")
    assert edgevit("report", m0).code == 0
    assert edgevit("report", m0).code == 0
    page.write_text("of someone else")
    ended = edgevit("report", m0)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "edgevit: report.html was not written by edgevit: choose another --out, or replace it with --force\n"
    )
    assert page.read_text() == "of someone else"
    assert edgevit("report", m0, "--force").code == 0
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_missing_folders_are_made_and_wrong_places_refused(m0: Path, edgevit: Edgevit) -> None:
    assert edgevit("report", m0, "--out", "a/b/report.html").code == 0
    assert Path("a/b/report.html").is_file()
    Path("file").write_text("")
    for out, reason in (
        ("a", "a is not a file: choose another --out"),
        ("/dev/null", "/dev/null is not a file"),
        ("file/report.html", "file"),
        ("/proc/nowhere/report.html", "/proc cannot be written to"),
        (m0 / "report.html", "has to stay as it was written: choose another --out"),
    ):
        ended = edgevit("report", m0, "--out", out)
        assert (ended.code, ended.out) == (2, ""), out
        assert reason in ended.err
        assert ended.err.count("\n") == 1
    assert sorted(path.name for path in m0.iterdir()) == ["manifest.json"]


def test_a_full_disk_leaves_what_was_there(m0: Path, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert edgevit("report", m0).code == 0
    before = Path("report.html").read_bytes()
    written = Path.write_text

    def full(path: Path, text: str, **options: str) -> int:
        written(path, text[:100], **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    for out in ("report.html", "new/folder/report.html"):
        ended = edgevit("report", m0, "--out", out)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == "edgevit: the disk is full: free space or choose another --out\n"
    assert Path("report.html").read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["report.html"]


def test_wrong_input_is_one_sentence_and_writes_nothing(m0: Path, tmp_path: Path, edgevit: Edgevit) -> None:
    broken = subjects.write(tmp_path / "broken", manifest={**subjects.manifest(), "latency": {"executorch": {}}})
    for arguments, reason in (
        ((tmp_path / "here",), "holds no manifest.json and no calibration.json"),
        ((m0, tmp_path / "missing"), "holds no manifest.json and no calibration.json"),
        ((m0, broken), "broken/manifest.json: latency.executorch.steady is missing: export again"),
        ((), "Missing argument 'DIR...'"),
        ((m0, "--fix"), "No such option"),
    ):
        ended = edgevit("report", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert reason in ended.err
        assert ended.err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_it_loads_no_torch(m0: Path) -> None:
    out = Path("report.html").absolute()
    command = [sys.executable, "-X", "importtime", "-m", "edgevit", "report", str(m0), "--out", str(out)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[1].strip() for line in ended.stderr.splitlines() if "|" in line}
    assert "edgevit.report.compose" in imported
    assert not imported & {"torch", "onnx", "openvino"}
