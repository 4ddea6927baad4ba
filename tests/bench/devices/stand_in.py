"""Stand-ins for what is on a device: a result, an export, and a program that gives the one for the other."""

import json
from pathlib import Path
from typing import Any

from edgevit import artifact
from tests.report import subjects

RESULT: dict[str, Any] = {
    "schema": 1,
    "edgevit": "0.1.0",
    "export_sha256": "0" * 64,
    "model": "efficientvit_m0",
    "quant": "int8",
    "created": "2026-11-22T12:00:00Z",
    "app": "runner",
    "device": {"name": "Board 5", "os": "Linux 6.6", "soc": None, "arch": "aarch64", "cores": 4, "emulated": None},
    "runtime": {"name": "onnxruntime", "version": "1.31.1", "delegate": "CPU"},
    "threads": 1,
    "parity": {"sqnr_db": 48.5, "min_sqnr_db": 22.25, "top1_matches": True, "holds": True},
    "latency": {
        "runs": 480,
        "p50_ms": 12.5,
        "p90_ms": 13.25,
        "p99_ms": 15.75,
        "min_ms": 12.0,
        "spread": 0.0625,
        "steady": True,
    },
    "start": {"load_ms": 40.5, "first_ms": 20.5},
    "memory_mb": 31.5,
    "sustained": {"minutes": 2.0, "calls": 9000, "first_minute_p50_ms": 12.625, "last_minute_p50_ms": 16.375},
    "thermal": {"before": {"celsius": 41.5}, "after": {"celsius": 63.0}},
}
# It answers as RESULT does, of the bundle that it was given; the rest of its lines are a test's.
PROGRAM = """#!/bin/sh
sum=$(sed -n 's/.*"export_sha256": "\\([0-9a-f]*\\)".*/\\1/p' "$1/bundle.json")
{before}
sed "s/{zeros}/$sum/" "$(dirname "$0")/answer.json"
exit {code}
"""


def export(folder: Path) -> Path:
    """Looks like an export for ONNX Runtime and ExecuTorch."""
    manifest = subjects.manifest()
    manifest["targets"] = {name: subjects.target() | {"path": name} for name in ("onnx", "executorch")}
    return subjects.write(folder, manifest=manifest)


def bundle_of(folder: Path, out: Path) -> dict[str, Any]:
    """As much of a bundle as the program reads."""
    found = {"export_sha256": artifact.sha256_of(folder / artifact.MANIFEST)}
    artifact.write_json(out / "bundle.json", found)
    (out / "a model.onnx").write_bytes(b"\0model")
    return found


def built(folder: Path, before: str = "", code: int = 0, result: Any = RESULT) -> Path:
    """Looks like what ``cmake --install`` left: a program for ONNX Runtime, which runs ``before`` first."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "edgevit-runner-onnx"
    program.write_text(PROGRAM.format(before=before, zeros="0" * 64, code=code))
    program.chmod(0o755)
    (folder / "bin" / "answer.json").write_text(json.dumps(result))
    return folder
