"""``edgevit calibrate``."""

import sys
from pathlib import Path
from typing import Any

import click

from calibrate.mixed import Limits
from calibrate.qat import Training
from edgevit import artifact, calibration, pipeline, processes
from edgevit.calibrating import Plan
from edgevit.cli import ui
from edgevit.cli.subject import finite, subject_options
from edgevit.errors import InputError
from edgevit.options import Options
from edgevit.report import terminal
from edgevit.report.sensitivity import sensitivity_report
from edgevit.steps import silent

LIMITS = ("max_drop", "min_sqnr")


@click.command("calibrate")
@subject_options
@click.option(
    "--min-sqnr",
    type=float,
    callback=finite,
    metavar="DB",
    help="Leave the operators in float that it takes to keep this SQNR.",
)
@click.option(
    "--max-drop",
    type=float,
    callback=finite,
    metavar="POINTS",
    help="Leave the operators in float that it takes to lose no more of top-1.",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    callback=finite,
    help="Least top-1 agreement.  [default: 0.95]",
)
@click.option(
    "--method",
    type=click.Choice(["ptq", "qat"]),
    default="ptq",
    show_default=True,
    help="Ranges that the images show, or these and then training on the INT8 grids.",
)
@click.option("--sensitivity", is_flag=True, help="Measure what each operator costs: a table, a chart, JSON.")
@click.option("--epochs", type=click.IntRange(1), help=f"Of qat.  [default: {Training.epochs}]")
@click.option("--batch", type=click.IntRange(1), help=f"Of qat.  [default: {Training.batch}]")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help=f"Of qat, at its peak.  [default: {Training.lr}]")
@click.option("--bf16", is_flag=True, help="Of qat: products in bfloat16, faster where the processor has them.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: out/MODEL-calibration]")
@click.option("--json", "as_json", is_flag=True, help="Print calibration.json instead of tables.")
def command(
    out: Path | None,
    force: bool,
    as_json: bool,
    method: str,
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    bf16: bool,
    sensitivity: bool,
    **chosen: Any,
) -> None:
    """Calibrate a model for INT8, and keep what came of it.

    Writes a folder with the scales, the INT8 weights and what was measured, which `edgevit export --calibration` turns
    into artifacts, later or elsewhere, of the same program to the bit. Exits with 1 if a claim does not hold.
    """
    asked: dict[str, Any] = {"epochs": epochs, "batch": batch, "lr": lr, "bf16": bf16 or None}
    training = {name: value for name, value in asked.items() if value is not None}
    if training and method != "qat":
        raise InputError(f"--{next(iter(training))} is about training: add --method qat")
    limits = Limits(chosen["max_drop"], chosen["min_sqnr"]) if {*map(chosen.get, LIMITS)} != {None} else None
    plan = Plan(Training(**training, seed=chosen["seed"]) if method == "qat" else None, sensitivity, limits)
    options = Options(**chosen)
    out = out or Path("out") / f"{options.model}-calibration"
    line = ["edgevit", *sys.argv[1:]]
    first = processes.rank() == 0
    progress, note = (ui.counting, ui.note) if first else (silent, pipeline.ignore)
    try:
        description = pipeline.calibrate(options, out, plan, force=force, command=line, progress=progress, note=note)
    except KeyboardInterrupt:
        if not (state := pipeline.training_state(out)).exists():
            raise
        raise KeyboardInterrupt(f"interrupted: the same command goes on from {state}") from None
    if description is None:
        return
    costs = artifact.read_json(out / calibration.SENSITIVITY) if sensitivity else None
    if as_json:
        ui.print_json(description if costs is None else description | {"sensitivity": costs})
    else:
        ui.out.print(terminal.calibration_report(description))
        if costs is not None:
            ui.out.print(sensitivity_report(costs))
    ui.note(f"wrote {out}")
    ui.fail(description["failures"])
