"""``edgevit bundle``."""

from pathlib import Path

import click

from edgevit.bundle.apps import APPS


@click.command("bundle")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--app", type=click.Choice(tuple(APPS)), required=True, help="The sample app to fill.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: DIR-APP]")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Of those the app runs; repeatable.  [default: all there]",
)
@click.option("--data", metavar="DIR", help="Where the export's images are now.  [default: where its manifest says]")
@click.option("--force", is_flag=True, help="Replace what an earlier edgevit bundle wrote there.")
@click.option("--json", "as_json", is_flag=True, help="Print bundle.json instead of a summary.")
def command(
    folder: Path,
    app: str,
    out: Path | None,
    targets: tuple[str, ...],
    data: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Put an export into a sample app, which classifies images and benchmarks itself on the device.

    The app is copied to --out, with the models, the labels, the preprocessing, and one scored image as a reference:
    what each model gives for it here, and how near a device has to come to that.
    """
    from edgevit import pipeline
    from edgevit.cli import ui

    out = out or folder.with_name(f"{folder.absolute().name}-{app}")
    bundle = pipeline.bundle(
        folder, app, out, targets=targets, data=data, force=force, progress=ui.counting, note=ui.note
    )
    if as_json:
        ui.print_json(bundle)
        return
    for name, model in bundle["models"].items():
        ui.out.print(f"{name}: {model['bytes'] / 1e6:.1f} MB, reference within {model['min_sqnr_db']:.1f} dB")
    ui.out.print(f"wrote {out}: {APPS[app].then}")
