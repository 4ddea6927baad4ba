"""``edgevit report``."""

from pathlib import Path

import click


@click.command("report")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page to write; an older report there is replaced.",
)
@click.option("--force", is_flag=True, help="Replace a file at --out that edgevit did not write.")
@click.option("--json", "as_json", is_flag=True, help="Print the tables as JSON.")
def command(folders: tuple[Path, ...], out: Path, force: bool, as_json: bool) -> None:
    """Show one or many exports and calibrations beside each other.

    Writes one page of HTML that needs nothing beside it, and prints the same tables. DIR is a folder that `edgevit
    export` or `edgevit calibrate` wrote. Nothing is measured again: `edgevit verify` does that. What failed is said
    first, and is no failure of the report.
    """
    from edgevit import artifact
    from edgevit.cli import ui
    from edgevit.report import compose, console, page, sources

    distinct, again = sources.distinct(folders)
    for folder in again:
        ui.note(f"{folder} is named more than once: shown once")
    report = compose.report(distinct)
    sources.check_outside(out, distinct)
    artifact.check_page(out, page.MARK, force)
    artifact.write_page(out, page.html(report))
    if as_json:
        ui.print_json(report.manifest())
    else:
        ui.out.print(console.printed(report))
    ui.note(f"wrote {out}")
