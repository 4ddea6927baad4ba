"""``edgevit doctor``."""

import click

from edgevit.errors import ClaimError


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def command(as_json: bool) -> None:
    """Say what is installed, whether it is known to work together, and what this host can export, run and verify.

    Exits with 1 if something installed is broken or outside its range; a target that is not installed is listed with
    the command that installs it. Nothing is fetched.
    """
    from edgevit import doctor
    from edgevit.cli import ui
    from edgevit.report.doctor import doctor_report

    with ui.counting("importing the targets", None):
        health = doctor.examine()
    if as_json:
        ui.print_json(health.manifest())
    else:
        ui.out.print(doctor_report(health))
    if problems := health.problems():
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ClaimError(problems[0] + more)
