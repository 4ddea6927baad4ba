"""Tables on a terminal of 80 columns: every number whole, every claim on a line."""

import io
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console, RenderableType

from edgevit.report import terminal
from edgevit.verify.claims import Check


def shown(report: RenderableType, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(report)
    return file.getvalue()


def link(from_: str, to: str) -> dict[str, Any]:
    return {
        "from": from_,
        "to": to,
        "sqnr_db": 123.456,
        "self_noise_db": 122.2,
        "top1_agreement": 1.0,
        "top1_from": 100.0,
        "top1_to": 99.5,
        "top1_drop": -10.5,
        "top1_drop_ci95": [-11.23, -10.77],
    }


@pytest.fixture
def manifest() -> dict[str, Any]:
    target = {
        "bytes": 3_456_789,
        "float_bytes": 8_765_432,
        "census": {
            "int8_delivered": 63,
            "int8_asked": 64,
            "int8": {"add": 9, "conv": 62, "transpose": 3},
            "float": {"conv": 53, "softmax": 24},
        },
        "grid": {"matches": True, "tensors_compared": 152, "differing": []},
        "export_seconds": 19.35,
        "peak_rss_mb": 1586,
    }
    latency = {"p50_ms": 12.345, "float_p50_ms": 23.456, "speedup": 1.9, "speedup_ci95": [1.85, 1.95]}
    return {
        "options": {"batch": 1},
        "model": {
            "name": "efficientvit_m0",
            "image_size": 224,
            "classes": 10,
            "params": 2_157_694,
            "macs": 79_000_000,
            "weights": {"source": "bundled"},
        },
        "fold": [{"count": 112, "max_abs_error": 1.2e-5}, {"count": 1, "max_abs_error": 0.0}],
        "quant": {"mode": "int8", "calibration": {"images": 300, "observer": "minmax"}},
        "parity": {
            "images": 1000,
            "labels": True,
            "links": [link("original", "folded"), link("quantised program", "openvino")],
        },
        "targets": {"onnx": target, "openvino": target | {"grid": {"matches": False, "differing": ["a", "b"]}}},
        "latency": {"onnx": latency, "openvino": latency},
        "failures": ["parity original → folded: 7.0 dB SQNR, less than 80"],
    }


def test_numbers_are_whole_on_80_columns(manifest: Mapping[str, Any]) -> None:
    text = shown(terminal.export_report(manifest))
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    row = next(line for line in lines if "quantised → openvino" in line)
    assert row.split()[3:] == ["123.5", "122.2", "100.0%", "100.0", "→", "99.5", "-10.5", "(-11.2..-10.8)"]
    row = next(line for line in lines if "times as fast" in line)
    assert row.count("1.90 (1.85 to 1.95)") == 2


def test_the_report_says_what_the_manifest_says(manifest: Mapping[str, Any]) -> None:
    text = shown(terminal.export_report(manifest), width=200)
    for part in (
        "efficientvit_m0 at 224 px, 10 classes, int8, bundled weights: 2,157,694 parameters, 79.0 M MACs",
        "113 folds, largest error 1e-05; calibrated on 300 images (minmax)",
        "Parity on 1000 images",
        "63 of 64",
        "152 equal",
        "2 differ",
        "3.5",
        "8.8",
        "1586",
        "failed: parity original → folded: 7.0 dB SQNR, less than 80",
    ):
        assert part in text


def test_unlabelled_images_and_float_artifacts_have_fewer_columns(manifest: dict[str, Any]) -> None:
    manifest["parity"]["labels"] = False
    manifest["quant"] = {"mode": "fp32"}
    for entry in manifest["parity"]["links"]:
        for key in [key for key in entry if key.startswith("top1_") and key != "top1_agreement"]:
            del entry[key]
    for entry in manifest["targets"].values():
        entry.pop("grid", None)
    text = shown(terminal.export_report(manifest))
    assert "top-1 %" not in text
    assert "calibrated" not in text
    assert "tensors on the program's grid" in text


def test_a_target_that_delegates_and_one_that_is_not_timed(manifest: dict[str, Any]) -> None:
    """Four columns on 80 characters: cells wrap, and none is cut."""
    onnx = manifest["targets"]["onnx"]
    delegating = onnx | {"census": onnx["census"] | {"partitions": 2, "portable": {"aten::cumsum.out": 3}, "int8": {}}}
    manifest["targets"] |= {"executorch": delegating, "coreml": onnx}
    manifest["latency"]["executorch"] = manifest["latency"]["onnx"]
    lines = shown(terminal.export_report(manifest), width=200).splitlines()
    cells = {line[:34].strip(): line[34:].split("  ") for line in lines}
    rows = {title: [cell.strip() for cell in row if cell.strip()] for title, row in cells.items()}
    assert rows["INT8 by kind"] == ["62 conv, 9 add", "62 conv, 9 add", "none", "62 conv, 9 add"]
    assert rows["float by kind"] == ["53 conv"] * 4
    assert rows["partitions, portable kernels"] == ["-", "-", "2, 3", "-"]
    assert rows["p50, ms"] == ["12.35", "12.35", "12.35", "-"]
    narrow = shown(terminal.export_report(manifest)).splitlines()
    assert all(len(line) <= 80 and "…" not in line for line in narrow)


def pruned(manifest: dict[str, Any]) -> None:
    """As if the model dropped tokens at three sites, and one runtime were slower for it."""
    manifest["model"]["keep_ratio"] = 0.7
    sites = [{"kept": kept, "of": of} for kept, of in ((137, 196), (96, 137), (67, 96))]
    for entry in manifest["parity"]["links"]:
        entry["kept_token_overlap"] = [1.0, 0.99876, 0.5]
        entry["tokens"] = {
            "sites": sites,
            "images_that_differ": 17,
            "each_its_own": {"sqnr_db": 12.34, "top1_agreement": 0.875},
        }
    unpruned = {
        "pruned_p50_ms": 43.21,
        "unpruned_p50_ms": 34.567,
        "pruning_speedup": 0.8,
        "pruning_speedup_ci95": [0.75, 0.85],
    }
    manifest["latency"] = {name: entry | unpruned for name, entry in manifest["latency"].items()}


def test_a_model_that_prunes_has_a_table_of_its_tokens(manifest: dict[str, Any]) -> None:
    assert "Tokens kept" not in shown(terminal.export_report(manifest))
    pruned(manifest)
    text = shown(terminal.export_report(manifest))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "10 classes, keep ratio 0.7, int8" in text
    tokens = text[text.index("Tokens kept") :]
    assert "137 of 196  96 of 137  67 of 96" in tokens
    row = next(line for line in tokens.splitlines() if "quantised → openvino" in line)
    assert row.split()[3:] == ["100.0%", "99.9%", "50.0%", "17", "12.3", "87.5%"]


def test_what_pruning_is_worth(manifest: dict[str, Any]) -> None:
    pruned(manifest)
    del manifest["latency"]["openvino"]
    lines = shown(terminal.export_report(manifest), width=200).splitlines()
    rows = {line[:36].strip(): line[36:].split("  ") for line in lines}
    cells = {title: [cell.strip() for cell in row if cell.strip()] for title, row in rows.items()}
    assert cells["p50, unpruned → pruned, ms"] == ["34.57 → 43.21", "-"]
    assert cells["times as fast as unpruned (95 %)"] == ["0.80 (0.75 to 0.85)", "-"]


def test_a_claim_is_a_line() -> None:
    checks = [Check("onnx: files"), Check("onnx: grid", "2 tensors differ [from] the manifest: a, b")]
    assert shown(terminal.verify_report(checks)).splitlines() == [
        "holds  onnx: files",
        "FAILS  onnx: grid: 2 tensors differ [from] the manifest: a, b",
    ]
