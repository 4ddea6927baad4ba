"""``edgevit bench``."""

import sys
from pathlib import Path
from typing import Any

import click


def cores(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """``0,2`` as numbers."""
    if value is None:
        return None
    parts = value.split(",")
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{value} is not a list of cores such as 0 or 0,1.")
    return tuple(sorted({int(part) for part in parts}))


@click.command("bench")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="onnx, openvino or executorch; repeatable.  [default: what all exports have]",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of the runtimes.")
@click.option("--runs", type=click.IntRange(20), default=480, show_default=True, help="Least calls of each program.")
@click.option(
    "--seconds", type=click.FloatRange(0, 3600), default=5.0, show_default=True, help="Least time of each program."
)
@click.option("--pin", "pinned", callback=cores, metavar="CORES", help="Cores that may be used, such as 0 or 0,1.")
@click.option(
    "--minutes", type=click.FloatRange(2, 600), help="Then run each without pause: the first against the last minute."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Draws the order.")
@click.option("--json", "as_json", is_flag=True, help="Print what is written, by export, instead of a table.")
def command(folders: tuple[Path, ...], as_json: bool, **chosen: Any) -> None:
    """Time exports on this host, against the first.

    Each runtime has three processes in which its programs take turns, in blocks of random order, once they are warm:
    latency, its spread, and the ratio to the first export with its 95 % interval; then cold start and peak memory, in
    processes of their own. The numbers are kept as bench.json in each export. A run that was too noisy for a
    conclusion says so and exits with 1, as does a runtime that crashes.
    """
    from edgevit import pipeline
    from edgevit.bench.session import Plan
    from edgevit.cli import ui
    from edgevit.report.bench import bench_report

    line = ["edgevit", *sys.argv[1:]]
    described = pipeline.bench(folders, Plan(**chosen), command=line, progress=ui.counting)
    if as_json:
        ui.print_json({str(folder): found for folder, found in described})
    else:
        ui.out.print(bench_report(described))
    ui.fail(list(dict.fromkeys(failure for _, found in described for failure in found["failures"])))
