"""``edgevit export``."""

import sys
from pathlib import Path
from typing import Any

import click

from edgevit.cli.subject import finite, given, subject_options

IOS = (17, 18, 26)


def ios_version(context: click.Context, parameter: click.Parameter, value: int) -> int:
    """One of the versions that have a program format of their own."""
    if value not in IOS:
        why = "runs no W8A8 program" if value < min(IOS) else "has no program format of its own"
        raise click.BadParameter(f"iOS {value} {why}: take {', '.join(map(str, IOS))}.")
    return value


@click.command("export")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="onnx, openvino, executorch, coreml or all; repeatable.  [default: openvino]",
)
@click.option(
    "--quant", type=click.Choice(["fp32", "fp16", "int8"]), default="int8", show_default=True, help="Precision."
)
@subject_options
@click.option(
    "--min-sqnr", type=float, callback=finite, metavar="DB", help="Least SQNR of a link.  [default: 15 for int8]"
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    callback=finite,
    help="Least top-1 agreement.  [default: 0.95 for int8]",
)
@click.option(
    "--max-drop",
    type=float,
    callback=finite,
    metavar="POINTS",
    help="Largest top-1 loss of a link.  [default: 1.0 for int8]",
)
@click.option(
    "--calibration", metavar="DIR", help="What `edgevit calibrate` wrote; it names the model, weights and images too."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: out/MODEL-QUANT]")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of the runtimes when timed.")
@click.option("--runs", type=click.IntRange(20), default=480, show_default=True, help="Timed calls of each artifact.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Images an artifact takes at once.")
@click.option("--allow-slower", is_flag=True, help="Accept an INT8 artifact that is slower than its float twin.")
@click.option(
    "--ios",
    type=int,
    callback=ios_version,
    default=17,
    show_default=True,
    help="Core ML: the oldest that shall run it.",
)
@click.option("--image-input", is_flag=True, help="Core ML: take an RGB image, and normalise it inside.")
@click.option("--classifier", is_flag=True, help="Core ML: give a label and probabilities instead of logits.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest instead of tables.")
def command(out: Path | None, force: bool, as_json: bool, targets: tuple[str, ...], **chosen: Any) -> None:
    """Fold, calibrate, convert and verify a model.

    Writes a folder with one artifact a target and manifest.json, which says what was measured. Exits with 1 if a
    claim does not hold: parity, operators in INT8, the grid, or speed.
    """
    from edgevit import pipeline
    from edgevit.cli import ui
    from edgevit.options import INHERITED, Options, of_calibration
    from edgevit.report import terminal

    chosen["targets"] = targets or ("openvino",)
    if chosen["calibration"] is None:
        options = Options(**chosen)
    else:
        options = of_calibration(
            **{name: value for name, value in chosen.items() if name not in INHERITED or given(name)}
        )
    out = out or Path("out") / f"{options.model}-{options.quant}"
    line = ["edgevit", *sys.argv[1:]]
    manifest = pipeline.export(options, out, force=force, command=line, progress=ui.counting, note=ui.note)
    if as_json:
        ui.print_json(manifest)
    else:
        ui.out.print(terminal.export_report(manifest))
    ui.note(f"wrote {out}")
    ui.fail(manifest["failures"])
