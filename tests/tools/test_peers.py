"""One small comparison from its images to its page, with the peers of one runtime."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.options import Options
from tests.conftest import ROOT
from tools import against_peers, peer_steps, peer_tables
from tools.peer_steps import Place, Program
from tools.peers import AUTHORS, PEERS, PLAIN

ASKED = Options(model="efficientvit_m0", image_size=64, calib_size=8, parity_images=15)
MADE = (0, 1, 3)  # of ONNX Runtime
RUNNING = [f"{PLAIN}, fp32", f"{AUTHORS}, fp32", "quantize_static, best operators, int8", "PyTorch, eager, fp32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("peers"))
    (place.folder / "options.json").write_text(json.dumps(asdict(ASKED)))
    assert peer_steps.write_images(place) == {"calibration": 8, "scored": 15}
    for index in MADE:
        took = peer_steps.make(place, index)
        assert min(took.values()) > 0
    return place


def test_only_efficientvit_has_an_authors_form() -> None:
    assert {peer.name for peer in PEERS} - {peer.name for peer in against_peers.peers_of("sepvit_lite")} == {AUTHORS}
    assert against_peers.peers_of("efficientvit_m5") == PEERS


@pytest.mark.parametrize(("name", "options"), against_peers.asked(None, None).items())
def test_each_model_takes_its_images(name: str, options: Options, tmp_path: Path) -> None:
    few = replace(options, calib_size=2, parity_images=5)
    (tmp_path / "options.json").write_text(json.dumps(asdict(few)))
    assert options.model == name
    assert peer_steps.write_images(Place(tmp_path)) == {"calibration": 2, "scored": 5}


def test_a_program_that_does_not_run_is_said_to(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(place: Place) -> None:
        raise RuntimeError("no\ncompiler")

    monkeypatch.setattr(peer_steps, "compiled", fail)
    assert [program.label for program in peer_steps.programs(place, "onnx")] == [*RUNNING, "PyTorch, compiled, fp32"]
    assert peer_steps.score(place, "onnx", "PyTorch, compiled, fp32") == {"error": "no compiler"}


def test_what_programs_keep(place: Place) -> None:
    plain, authors, quantized, eager = (peer_steps.score(place, "onnx", named) for named in RUNNING)
    for found in (plain, authors, eager):
        assert found["sqnr_db"] > 80
        assert found["top1_agreement"] == 1
    assert 0 < quantized["sqnr_db"] < 60
    sizes = {program.name: program.bytes for program in peer_steps.programs(place, "onnx")}
    assert sizes["quantize_static, best operators"] < sizes[PLAIN]
    assert sizes["PyTorch, eager"] is None


@pytest.mark.parametrize("value", [np.nan, 1e20])
def test_a_program_that_gives_noise_is_not_timed(place: Place, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    noise = peer_steps.Program("a quantiser", "int8", lambda: lambda x: np.full((len(x), 10), value, np.float32), 1)
    monkeypatch.setattr(peer_steps, "programs", lambda place, runtime: [noise])
    assert peer_steps.score(place, "onnx", "a quantiser, int8")["error"].startswith("its logits are noise (-")


def test_runs_in_processes_of_its_own(place: Place) -> None:
    labels = [f"{PLAIN}, fp32", f"{AUTHORS}, fp32"]
    question = {"runs": 20, "seconds": 0.1, "seed": 0}
    found = against_peers.step("time_programs", place, "onnx", labels, question)
    assert [len(times) > 0 for times in found["times"]] == [True, True]


def test_compares_with_the_fastest_plain_export(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    there = [(PLAIN, "fp32"), (AUTHORS, "fp32"), ("a quantiser", "int8"), ("another", "int8")]
    monkeypatch.setattr(against_peers, "programs", lambda place, runtime: [Program(*named, None, 1) for named in there])
    times = [[[3.0] * 4] * 20, [[2.0] * 4] * 20, [[1.0] * 4] * 20]
    answer = {"times": times, "reference": [0.1] * 20, "steady": True}
    asked = []

    def step(name: str, place: Place, *arguments: Any) -> Any:
        if name == "score" and arguments[1] == "another, int8":
            raise against_peers.ClaimError("score ended the process (SIGABRT)")
        if name == "score":
            return {"sqnr_db": 30.0, "top1_agreement": 1.0}
        asked.append(arguments)
        return json.loads(json.dumps(answer))

    monkeypatch.setattr(against_peers, "step", step)
    found, host = against_peers.timings(place, "onnx")
    assert asked[0][1] == [f"{PLAIN}, fp32", f"{AUTHORS}, fp32", "a quantiser, int8"]
    assert len({json.dumps(arguments[-1]) for arguments in asked}) == 3  # each has its own seed
    assert [row.get("ratio") and row["ratio"]["median"] for row in found] == [1.5, None, 0.5, None]
    assert found[3]["error"] == "score ended the process (SIGABRT)"
    assert [row["timing"]["p50_ms"] for row in found[:3]] == [3, 2, 1]
    assert host == {"spread": 0, "drift": 0}


def test_a_peer_that_crashes_is_one_failure(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(name: str, place: Place, *arguments: Any) -> Any:
        if name == "make" and arguments[0] == 2:
            raise against_peers.ClaimError("make ended the process (SIGSEGV)")
        return {"seconds": 1.0, "peak_mb": 2.0}

    monkeypatch.setattr(against_peers, "step", crash)
    monkeypatch.setattr(against_peers, "exports", lambda options, place: [(("onnx", "int8"), {"seconds": 3.0})])
    costs, failures = against_peers.made(ASKED, place)
    assert failures == ["onnx, quantize_static, defaults: make ended the process (SIGSEGV)"]
    assert len(costs) == len(PEERS)  # one less, and edgevit's
    assert costs["onnx", "edgevit", "int8"] == {"seconds": 3.0}


COMPARED: Mapping[str, Any] = {
    "model": "efficientvit_m0",
    "random_weights": False,
    "environment": {
        "cpu": "a CPU",
        "cores": 2,
        "os": "Linux",
        "python": "3.11",
        "packages": {"torch": "2", "nncf": None},
    },
    "images": {"calibration": 8, "scored": 15},
    "failures": ["openvino: it crashed"],
    "programs": [
        {
            "runtime": "onnx",
            "name": PLAIN,
            "precision": "fp32",
            "bytes": 4_000_000,
            "sqnr_db": 130.0,
            "top1_agreement": 1.0,
            "timing": {"p50_ms": 2.0, "p90_ms": 2.5},
            "ratio": None,
            "seconds": 4.0,
            "peak_mb": 600.0,
        },
        {
            "runtime": "onnx",
            "name": "edgevit",
            "precision": "int8",
            "bytes": 1_000_000,
            "sqnr_db": 30.0,
            "top1_agreement": 0.995,
            "timing": {"p50_ms": 1.0, "p90_ms": 1.5},
            "ratio": {"median": 0.5, "ci95": [0.4, 0.6], "conclusive": False},
        },
        {"runtime": "onnx", "name": "a peer", "precision": "int8", "bytes": 1, "error": "no kernel"},
    ],
}


def test_the_page_has_every_program(tmp_path: Path) -> None:
    (tmp_path / "efficientvit_m0.json").write_text(json.dumps(COMPARED))
    peer_tables.write(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| efficientvit_m0, int8 | 0.50 · 0.62 · - | - · 0.60 · - | - · 0.42 · - |" in page
    assert "| plain export | fp32 | 2.00 | 1 | 130.0 | 100.0% | 4.0 | 4 | 600 |" in page
    assert "| edgevit | int8 | 1.00 | 0.50 (0.40 to 0.60), noisy | 30.0 | 99.5% | 1.0 | - | - |" in page
    assert "| a peer | int8 | - | not timed: no kernel | - | - | 0.0 | - | - |" in page
    assert "- Failed: openvino: it crashed" in page
    drawn = (tmp_path / "efficientvit_m0-onnx.svg").read_text()
    assert "edgevit, int8: p50 1.00 ms, 30.0 dB" in drawn
    assert "a peer" not in drawn


def test_the_committed_page_is_that_of_the_committed_numbers(tmp_path: Path) -> None:
    committed = ROOT / "bench" / "results"
    for path in committed.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    peer_tables.write(tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (committed / path.name).read_bytes(), path.name
    assert {path.name for path in committed.iterdir()} == {path.name for path in tmp_path.iterdir()}


def test_the_readme_shows_what_was_committed() -> None:
    compared = {path.stem: json.loads(path.read_text()) for path in (ROOT / "bench" / "results").glob("*.json")}
    readme = (ROOT / "README.md").read_text()
    assert set(compared) <= {model for model, _ in peer_tables.AIMS}
    lines = peer_tables.summary(compared)
    assert len(lines) > 2
    assert "\n".join(lines) in readme


def test_the_tools_start_as_the_makefile_starts_them() -> None:
    for module in ("tools.against_peers", "tools.measure"):
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
