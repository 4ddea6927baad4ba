"""Folders as edgevit export, calibrate and bench leave them, small and made up: enough to be reported on."""

import copy
import json
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "os": "Linux-6",
    "cpu": "Some CPU",
    "int8_flags": ["avx2"],
    "cores": 2,
    "memory_mb": 8000,
    "python": "3.11.7",
    "packages": {"torch": "2.13.0", "openvino": None},
}


def link(from_: str, to: str, sqnr: float = 31.5, labels: bool = True) -> dict[str, Any]:
    top1 = {"top1_from": 92.5, "top1_to": 92.0, "top1_drop": 0.5, "top1_drop_ci95": [-0.25, 1.25]}
    return {
        "from": from_,
        "to": to,
        "sqnr_db": sqnr,
        "cosine": 0.999,
        "top1_agreement": 0.985,
        "self_noise_db": 36.75,
        **(top1 if labels else {}),
        "limits": {"min_sqnr_db": 15, "min_agreement": 0.95, "max_drop": 1.0},
    }


def making(labels: bool = True, links: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """What exports and calibrations have in common."""
    return {
        "schema": 1,
        "edgevit": "0.1.0",
        "created": "2026-11-22T14:07:38Z",
        "seed": 0,
        "model": {
            "name": "efficientvit_m0",
            "image_size": 64,
            "classes": 2,
            "class_names": ["cat", "dog"],
            "params": 1_234_567,
            "macs": 79_000_000,
            "weights": {
                "source": "weights/m0.safetensors",
                "sha256": "ab" * 32,
                "licence": "Apache-2.0",
                "predictors_sha256": None,
                "notes": [],
            },
        },
        "preprocess": {"resize": 64, "crop": 64, "interpolation": "bicubic", "layout": "NCHW", "colour": "RGB"},
        "fold": [
            {"rule": "batchnorm_into_convolution", "count": 3, "max_abs_error": 4.6e-06, "skipped": {"grouped": 1}},
            {"rule": "attention_bias_table", "count": 0, "max_abs_error": 0.0, "skipped": {}},
        ],
        "images": {"data": "photos/set", "skipped": 1},
        "quant": {
            "mode": "int8",
            "method": "ptq",
            "calibration": {"images": 300, "sha256_of_list": "cd" * 32, "observer": "hessian"},
            "operators": {"head": "linear", "stem": "convolution"},
        },
        "parity": {
            "images": 1000,
            "labels": labels,
            "sha256_of_list": "ef" * 32,
            "links": links or [link("original", "folded", 120.5, labels)],
        },
        "environment": copy.deepcopy(ENVIRONMENT),
        "failures": [],
    }


def target(**census: Any) -> dict[str, Any]:
    return {
        "bytes": 3_456_789,
        "float_bytes": 8_765_432,
        "tool_version": "1.2.3",
        "export_seconds": 10.53,
        "peak_rss_mb": 739,
        "census": {
            "int8": {"conv": 62, "linear": 1},
            "float": {"conv": 53, "reshape": 7},
            "int8_asked": 64,
            "int8_delivered": 64,
            **census,
        },
        "grid": {"matches": True, "tensors_compared": 152, "differing": [], "dropped": ["head.output"]},
    }


def latency(p50: float = 1.5) -> dict[str, Any]:
    return {
        "device": "this host",
        "threads": 1,
        "batch": 1,
        "runs": 480,
        "p50_ms": p50,
        "p90_ms": 2.125,
        "p99_ms": 2.5,
        "float_p50_ms": 2.75,
        "float_p90_ms": 3.0,
        "float_p99_ms": 3.5,
        "speedup": 1.75,
        "speedup_ci95": [1.625, 1.875],
        "steady": True,
    }


def manifest(labels: bool = True) -> dict[str, Any]:
    """Of an export for a runtime that was timed and for one that was not."""
    chain = [link("original", "folded", 120.5, labels), link("folded", "quantised program", 31.5, labels)]
    names = ("executorch", "coreml")
    chain += [link("quantised program", name, 35.25, labels) for name in names]
    chain += [link("original", name, 30.75, labels) for name in names]
    return making(labels, chain) | {
        "targets": {"executorch": target(partitions=3, portable={"aten::topk": 4}), "coreml": target()},
        "latency": {"executorch": latency()},
        "export_seconds": 120.5,
    }


def pruned() -> dict[str, Any]:
    """Of an export of a model that prunes tokens."""
    found = manifest()
    found["model"]["keep_ratio"] = 0.7
    found["model"]["weights"]["predictors_sha256"] = "12" * 32
    tokens = {"images_that_differ": 17, "each_its_own": {"sqnr_db": 16.25, "top1_agreement": 0.9375}}
    for entry in found["parity"]["links"]:
        entry |= {"kept_token_overlap": [0.5, 0.25, 0.125], "tokens": tokens}
    found["latency"]["executorch"] |= {
        "pruned_p50_ms": 1.4375,
        "unpruned_p50_ms": 2.0625,
        "pruning_speedup": 1.5,
        "pruning_speedup_ci95": [1.4375, 1.5625],
    }
    return found


def sensitivity() -> dict[str, Any]:
    def fidelity(sqnr: float) -> dict[str, float]:
        return {"sqnr_db": sqnr, "top1_agreement": 0.875}

    def operator(name: str, alone: float) -> dict[str, Any]:
        sides = {"alone": fidelity(alone), "spared": fidelity(32.0)}
        return {"name": name, "kind": "linear", **sides, "noise": 3.25e-4}

    operators = [operator(f"blocks.{index}.fc", 40.0 + index) for index in range(12)]
    return {"images": 64, "quantised": fidelity(30.0), "operators": operators}


def bench(against: str | None = None) -> dict[str, Any]:
    program = {
        "runs": 894,
        "p50_ms": 1.25,
        "p90_ms": 1.375,
        "p99_ms": 1.5625,
        "min_ms": 1.125,
        "spread": 0.0625,
        "steady": True,
        "cold_start_ms": 11.25,
        "peak_rss_mb": None,
        "bytes": 3_456_789,
        "sustained": {"calls": 9000, "first_minute_p50_ms": 1.3125, "last_minute_p50_ms": 1.4375},
    }
    ratio = {"median": 0.8125, "ci95": [0.75, 0.875], "conclusive": True, "because": None}
    return {
        "schema": 1,
        "created": "2026-11-22T16:07:18Z",
        "environment": copy.deepcopy(ENVIRONMENT),
        "protocol": {"threads": 1, "batch": 1, "runs": 480, "seconds": 5.0, "pinned": [0, 1], "minutes": 2.0},
        "programs": {"executorch": program},
        "against": against,
        "ratios": {"executorch": ratio} if against else {},
        "reference": {"executorch": {"spread": 0.0375, "drift": -0.0125}},
        "failures": [],
    }


def device(kind: str = "phone", **changed: Any) -> dict[str, Any]:
    """What ``edgevit bench --device`` keeps of one device."""
    result = {
        "schema": 1,
        "edgevit": "0.1.0",
        "export_sha256": "0" * 64,
        "model": "efficientvit_m0",
        "quant": "int8",
        "created": "2026-11-22T16:07:18Z",
        "app": "android",
        "device": {"name": "A B", "os": "Android 15", "soc": "S1", "arch": "arm64", "cores": 8, "emulated": None},
        "runtime": {"name": "onnxruntime", "version": "1.31.1", "delegate": "CPU"},
        "threads": 4,
        "parity": {"sqnr_db": 48.5, "min_sqnr_db": 22.25, "top1_matches": True, "holds": True},
        "latency": {
            "runs": 480,
            "p50_ms": 2.5625,
            "p90_ms": 3.0625,
            "p99_ms": 4.1875,
            "min_ms": 2.0,
            "spread": 0.0625,
            "steady": True,
        },
        "start": {"load_ms": 40.0, "first_ms": 21.0},
        "memory_mb": 31.0,
        "sustained": {"minutes": 2.0, "calls": 9000, "first_minute_p50_ms": 2.6875, "last_minute_p50_ms": 3.8125},
        "thermal": {"before": {"celsius": 41.5}, "after": {"state": "serious"}},
    }
    fetched = {"schema": 1, "fetched": "2026-11-22T16:08:18Z", "device": "android:A1", "kind": kind}
    return fetched | {"result": result | changed}


def write(folder: Path, **files: Any) -> Path:
    """``manifest=...`` becomes ``manifest.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / f"{name}.json").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder
