"""``edgevit verify``."""

from pathlib import Path

import click

from edgevit.errors import ClaimError


@click.command("verify")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--data", metavar="DIR", help="Where the images are now.  [default: where the manifest says]")
@click.option("--weights", metavar="SPEC", help="Where the weights are now.  [default: where the manifest says]")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def command(folder: Path, data: str | None, weights: str | None, as_json: bool) -> None:
    """Derive every claim of an export again from its files, weights and images.

    Exits with 1 and names each claim that no longer holds. Recorded and not derived again are when, how, where and how
    fast the export was made; latency is checked as a ratio to the float twin, timed again.
    """
    from edgevit import pipeline
    from edgevit.cli import ui
    from edgevit.report import terminal

    checks = pipeline.verify(folder, data=data, weights=weights, progress=ui.counting)
    if as_json:
        ui.print_json([{"claim": c.claim, "holds": c.holds, "reason": c.reason} for c in checks])
    else:
        ui.out.print(terminal.verify_report(checks))
    failed = [check for check in checks if not check.holds]
    if failed:
        names = "; ".join(f"{check.claim}: {check.reason}" for check in failed[:3])
        raise ClaimError(f"{len(failed)} of {len(checks)} claims no longer hold: {names}")
