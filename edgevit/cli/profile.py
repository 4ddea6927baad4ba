"""``edgevit profile``."""

from pathlib import Path

import click


@click.command("profile")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="onnx, openvino or executorch; repeatable.  [default: all that the export has]",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of the runtimes.")
@click.option("--runs", type=click.IntRange(20), default=100, show_default=True, help="Profiled calls of each.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write profile.json and a chart to.")
@click.option("--force", is_flag=True, help="Replace what edgevit profile wrote there before.")
@click.option("--json", "as_json", is_flag=True, help="Print profile.json instead of tables.")
def command(
    folder: Path,
    targets: tuple[str, ...],
    threads: int,
    runs: int,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Say where the time of an export's artifacts goes on this host.

    Each runtime's own profiler gives the time of every operator, by module, kind and precision; beside it stand what a
    run takes without it, and what the arithmetic would take at the peak that is measured here. Exits with 1 if a
    profile lacks operators of its artifact.
    """
    from edgevit import pipeline
    from edgevit.cli import ui
    from edgevit.report.profile import profile_report

    if force and out is None:
        raise click.UsageError("--force is about --out: name a folder")
    described = pipeline.profile(
        folder, targets, threads=threads, runs=runs, out=out, force=force, progress=ui.counting
    )
    if as_json:
        ui.print_json(described)
    else:
        ui.out.print(profile_report(described))
    if out is not None:
        ui.note(f"wrote {out}")
    ui.fail(described["failures"])
