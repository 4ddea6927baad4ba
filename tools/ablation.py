"""Measure what each calibration method is worth: the tables of results/ablation.md, and their numbers as JSON.

    python tools/ablation.py results [DEIT PHOTOGRAPHS]

DEIT is a checkpoint of DeiT-Tiny, PHOTOGRAPHS a folder of its classes that ``tools/halve.py`` has divided; without them
its two tables are left as they are. 64 images calibrate and 250 others are scored: the frozen program beside the float
model, with all its grids, as ExecuTorch and Core ML have them, and without those that no operator reads, which ONNX
Runtime and OpenVINO drop.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibrate import ptq
from calibrate.prepared import Prepared
from calibrate.recipe import Recipe
from edgevit.metrics import Logits, sqnr_db, top1_agreement
from edgevit.options import Options
from edgevit.steps import BATCH, Batches, Subject, fold_model, prepare, silent

CALIBRATED, SCORED = 64, 250
PLAIN: dict[str, Any] = {
    "observer": "minmax",
    "migration": None,
    "equalisation": None,
    "rounding": False,
    "bias_correction": False,
}
ALONE: dict[str, dict[str, Any]] = {
    "minmax": {},
    "histogram": {"observer": "histogram"},
    "percentile": {"observer": "percentile"},
    "sqnr": {"observer": "sqnr"},
    "hessian": {"observer": "hessian"},
    "minmax, migration 0.5": {"migration": 0.5},
    "minmax, equalisation 0.5": {"equalisation": 0.5},
    "minmax, rounding": {"rounding": True},
    "minmax, bias correction": {"bias_correction": True},
}
TOGETHER: dict[str, dict[str, Any]] = {
    "hessian, migration 0.5": {"migration": 0.5},
    "hessian, equalisation 0.5": {"equalisation": 0.5},
    "hessian, rounding": {"rounding": True},
    "hessian, bias correction": {"bias_correction": True},
    "hessian, rounding, bias correction": {"rounding": True, "bias_correction": True},
    "hessian, migration 0.5, rounding, bias correction": {"migration": 0.5, "rounding": True, "bias_correction": True},
}
COLUMNS = ("calibration", "all grids, dB", "same class", "grids that are read, dB", "same class")

EXPLANATION = f"""
Written by `make ablation`. {CALIBRATED} images calibrate, {SCORED} others are scored: SQNR of the logits and top-1
agreement of the quantised program beside the float model, each keeping the tokens that it chooses. *All grids* is the
program as ExecuTorch and Core ML hold it; *grids that are read* leaves out those that ONNX Runtime and OpenVINO drop,
because no integer operator reads them. One image of {SCORED} is 0.4 % of agreement.
"""


def main(folder: Path, deit: str | None = None, photographs: str | None = None) -> None:
    asked = {name: Options(model=name) for name in ("efficientvit_m0", "sepvit_lite")}
    if deit is not None and photographs is not None:
        for ratio in (1.0, 0.7):
            asked[f"dynamicvit_deit_tiny {ratio:g}"] = Options(
                model="dynamicvit_deit_tiny",
                weights=deit,
                predictors="bundled" if ratio < 1 else None,
                keep_ratio=ratio,
                data=photographs,
            )
    path = folder / "ablation.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name, options in asked.items():
        found[name] = dict(measured(name, replace(options, calib_size=CALIBRATED, parity_images=SCORED)))
        path.write_text(json.dumps(found, indent=2) + "\n")
        (folder / "ablation.md").write_text(markdown(found))


def measured(name: str, options: Options) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each calibration of a model by its name, and what it keeps."""
    subject = prepare(options, silent, print)
    folded, _ = fold_model(options, subject, silent)
    reference = run(folded, subject)
    recipes = {label: replace(subject.recipe, **{**PLAIN, **change}) for label, change in ALONE.items()}
    hessian = {**PLAIN, "observer": "hessian"}
    recipes |= {label: replace(subject.recipe, **{**hessian, **change}) for label, change in TOGETHER.items()}
    for label, recipe in recipes.items():
        row = quality(subject, recipe, folded, reference)
        print(f"{name}, {label}: {row}", flush=True)
        yield label + " (its recipe)" * (recipe == subject.recipe), row


def quality(subject: Subject, recipe: Recipe, folded: torch.fx.GraphModule, reference: Logits) -> dict[str, Any]:
    prepared = ptq.prepare(folded, recipe, Batches(subject, lambda count: None), subject.example)
    row = {"all grids": kept(reference, run(prepared.module, subject))}
    drop_unread(prepared)
    return row | {"read grids": kept(reference, run(prepared.module, subject))}


def drop_unread(prepared: Prepared) -> None:
    grids = prepared.grids().values()
    read = {grid for found in grids for grid in found.inputs}
    for grid in {grid for found in grids for grid in found.outputs} - read:
        grid.enable_fake_quant(False)


def kept(reference: Logits, logits: Logits) -> dict[str, float]:
    agreement = top1_agreement(reference, logits)
    return {"sqnr_db": round(sqnr_db(reference, logits), 2), "top1_agreement": round(agreement, 4)}


def run(model: torch.nn.Module, subject: Subject) -> Logits:
    """``[250, classes]``."""
    images, logits = subject.images.scored, []
    with torch.no_grad():
        for x in images.batches(subject.weights.preprocess, BATCH):
            outputs = model(torch.from_numpy(x))
            logits.append((outputs[0] if isinstance(outputs, tuple) else outputs).numpy())
    return np.concatenate(logits)


def markdown(found: Mapping[str, Any]) -> str:
    """A table a model."""
    lines = ["# What each calibration method is worth", EXPLANATION.rstrip()]
    for name, rows in found.items():
        lines += ["", f"## {name}", "", *(line(cells) for cells in (COLUMNS, ["---", *["---:"] * 4]))]
        for label, row in rows.items():
            parts = (row["all grids"], row["read grids"])
            numbers = (cell for part in parts for cell in (f"{part['sqnr_db']:.1f}", f"{part['top1_agreement']:.1%}"))
            lines.append(line([label, *numbers]))
    return "\n".join(lines) + "\n"


def line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
