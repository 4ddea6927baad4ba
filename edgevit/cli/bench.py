"""``edgevit bench``."""

import sys
from pathlib import Path
from typing import Any

import click

from edgevit.cli.subject import given


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
@click.option(
    "--device", "spec", metavar="DEVICE", help="local, ssh:USER@HOST, adb:SERIAL, web, android:SERIAL or ios:UDID."
)
@click.option(
    "--app", type=click.Path(path_type=Path), metavar="DIR", help="With --device: the runner or web app, built."
)
@click.option("--data", metavar="DIR", help="With --device: where the export's images are now.")
@click.option("--json", "as_json", is_flag=True, help="Print what is written, by export, instead of a table.")
def command(
    folders: tuple[Path, ...], spec: str | None, app: Path | None, data: str | None, as_json: bool, **chosen: Any
) -> None:
    """Time exports on this host, against the first; or on a device.

    Each runtime has three processes in which its programs take turns, in blocks of random order, once they are warm:
    latency, its spread, and the ratio to the first export with its 95 % interval; then cold start and peak memory, in
    processes of their own. The numbers are kept as bench.json in each export. A run that was too noisy for a
    conclusion says so and exits with 1, as does a runtime that crashes.

    With --device a sample app runs each export by itself there: parity on one reference image, latency, cold start and
    memory. What it answers is kept in the export's folder devices.
    """
    if spec is not None:
        on_device(folders, spec, app, data, as_json, chosen)
        return
    if app is not None or data is not None:
        raise click.UsageError("--app and --data are about --device: name one, or leave them out")
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


def on_device(
    folders: tuple[Path, ...],
    spec: str,
    app: Path | None,
    data: str | None,
    as_json: bool,
    chosen: dict[str, Any],
) -> None:
    from edgevit import pipeline
    from edgevit.bench.devices.named import described
    from edgevit.bench.devices.order import Order
    from edgevit.cli import ui
    from edgevit.report.devices import devices_report

    if chosen["pinned"] is not None or given("seed"):
        raise click.UsageError("--pin and --seed are about this host: leave them out, or leave --device out")
    order = Order(chosen["threads"], chosen["runs"], chosen["seconds"], chosen["minutes"])
    done = pipeline.bench_device(
        folders, spec, chosen["targets"], app=app, data=data, order=order, progress=ui.counting
    )
    if as_json:
        ui.print_json(described(done))
    else:
        ui.out.print(devices_report(done))
    ui.fail([failure for _, _, failures in done for failure in failures])
