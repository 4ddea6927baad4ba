"""``edgevit bench`` on a small export, and what it says where a run is worth nothing."""

import json
import shutil

import pytest

from edgevit import artifact
from edgevit.bench import session
from edgevit.cli import main
from edgevit.errors import ClaimError
from tests.conftest import Exported

QUICK = ("--runs", "20", "--seconds", "0.1")


@pytest.fixture
def export(exported: Exported, tmp_path):
    """A copy, which may be written to."""
    return shutil.copytree(exported.folder, tmp_path / "m0")


def bench(*args: object) -> tuple[int, str]:
    """Exit code, and the message if there was one."""
    try:
        return main.run(["bench", *map(str, args)]), ""
    except Exception as error:
        return main.explain(error)[::-1]


def test_two_exports_are_timed_against_each_other(export, tmp_path, capsys):
    other = shutil.copytree(export, tmp_path / "same")
    code, message = bench(export, other, "--target", "onnx", "--pin", 0, *QUICK, "--json")
    printed = json.loads(capsys.readouterr().out)
    assert code == 0 or "too noisy for a conclusion" in message
    first, second = (artifact.read_json(folder / session.FILE) for folder in (export, other))
    assert printed == {str(export): first, str(other): second}
    assert (first["against"], second["against"]) == (None, "m0")
    assert first["ratios"] == {}
    low, high = second["ratios"]["onnx"]["ci95"]
    assert low <= second["ratios"]["onnx"]["median"] <= high
    assert second["protocol"]["pinned"] == [0]
    assert list(first["programs"]) == ["onnx"]
    timing = first["programs"]["onnx"]
    assert 0 < timing["min_ms"] <= timing["p50_ms"] <= timing["p90_ms"] <= timing["p99_ms"]
    assert timing["cold_start_ms"] > timing["min_ms"]
    assert 0 < timing["peak_rss_mb"] < 300
    assert timing["bytes"] == artifact.read_manifest(export)["targets"]["onnx"]["bytes"]
    assert sorted(path.name for path in export.iterdir()) == sorted(
        ["bench.json", "images.json", "manifest.json", "onnx", "openvino"]
    )


def test_a_runtime_that_crashes_leaves_the_others(export, monkeypatch, capsys):
    real = session.ask

    def ask(module, question, doing):
        if question["target"] == "onnx":
            raise ClaimError(f"{doing} ended the process (SIGSEGV)")
        return real(module, question, doing)

    monkeypatch.setattr(session, "ask", ask)
    code, message = bench(export, *QUICK)
    assert (code, message.split(" (and")[0]) == (1, "timing onnx ended the process (SIGSEGV)")
    described = artifact.read_json(export / session.FILE)
    assert list(described["programs"]) == ["openvino"]
    assert "openvino" in capsys.readouterr().out


def test_a_run_that_was_too_noisy_fails_and_says_so(export, monkeypatch, capsys):
    settled = {"times": [[[1.0]] * 20], "reference": [1.0] * 10 + [1.1] * 10, "steady": False}
    answers = {session.timed.MODULE: settled, session.cold.MODULE: {"load_ms": 1, "first_ms": 2, "memory_mb": None}}
    monkeypatch.setattr(session, "ask", lambda module, question, doing: answers[module])
    code, message = bench(export, "--target", "onnx")
    assert code == 1
    assert message.startswith("onnx was too noisy for a conclusion: the warm-up ended before the programs were steady")
    printed = capsys.readouterr().out
    assert "spread by 10.0% and drifted by +10.0%" in printed
    assert artifact.read_json(export / session.FILE)["programs"]["onnx"]["cold_start_ms"] == 3


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--target", "tflite"], 2, "there is no target 'tflite': choose from onnx, openvino, executorch, coreml"),
        (["--target", "executorch"], 2, "m0 has no executorch: export it, or leave the target out"),
        (["--target", "coreml"], 2, "coreml cannot be timed here: an evaluator stands in for its runtime"),
        (["--pin", "0,x"], 2, "0,x is not a list of cores such as 0 or 0,1"),
        (["--pin", "9999"], 2, "there is no core 9999 here: take some of"),
        (["--runs", "19"], 2, "19 is not in the range x>=20"),
        (["--minutes", "1"], 2, "1.0 is not in the range 2<=x<=600"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_timed(export, args, code, message):
    found = bench(export, *args)
    assert found[0] == code
    assert message in found[1]
    assert not (export / session.FILE).exists()


def test_an_export_is_not_compared_with_itself(export):
    assert bench(export, export / ".." / "m0") == (2, "an export is named twice: give different ones")


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    assert bench(tmp_path)[0] == 2


def test_an_artifact_that_was_changed_is_not_timed(export):
    file = export / "onnx" / "model.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    code, message = bench(export, "--target", "onnx")
    assert code == 1
    assert message.endswith("m0/onnx is not what its manifest describes: export it again")
