"""``edgevit diff``."""

from pathlib import Path

import click

from edgevit.errors import ClaimError


@click.command("diff")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON, with every tensor that differs.")
def command(a: Path, b: Path, as_json: bool) -> None:
    """Compare the scales and zero points of two artifacts, tensor by tensor.

    A and B are each an export, a target's folder in one, or an artifact such as model.onnx; an export stands for its
    quantised program. What a target dropped is no difference. Exits with 1 unless all that both have is equal.
    """
    from edgevit.cli import ui
    from edgevit.report import diff as report
    from edgevit.verify.comparison import compare
    from edgevit.verify.opened import opened

    comparison = compare(opened(a), opened(b))
    if as_json:
        ui.print_json(comparison.manifest())
    else:
        ui.out.print(report.diff_report(a, b, comparison))
    reason = comparison.broken()
    if reason is not None:
        raise ClaimError(f"{a} and {b} are not on one grid: {reason}; export both from one calibration")
