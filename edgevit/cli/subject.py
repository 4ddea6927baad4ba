"""The options that say what is calibrated and on which images it is scored: of ``export`` and of ``calibrate``."""

import math
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource


def finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """A limit that is NaN would never be broken."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


OPTIONS = (
    click.option("--model", default="efficientvit_m0", show_default=True, help="One of `edgevit models`."),
    click.option("--weights", metavar="SPEC", help="bundled, official, random or a file.  [default: bundled]"),
    click.option("--predictors", metavar="SPEC", help="Token predictors for a plain backbone: bundled or a file."),
    click.option(
        "--keep-ratio", type=float, metavar="RATIO", help="Tokens kept at each site, 0.5 to 0.9, or 1.  [default: 0.7]"
    ),
    click.option(
        "--data", default="bundled", show_default=True, metavar="DIR", help="Images to calibrate and score on."
    ),
    click.option("--image-size", type=int, help="Side in pixels.  [default: the weights' own]"),
    click.option("--classes", type=int, help="Number of classes.  [default: the weights' own]"),
    click.option("--calib-size", type=int, help="Calibration images.  [default: 300]"),
    click.option("--parity-images", type=int, help="Scored images.  [default: up to 1,000]"),
    click.option(
        "--observer",
        type=click.Choice(["minmax", "histogram", "percentile", "sqnr", "hessian"]),
        help="How ranges become scales.  [default: the recipe's]",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        default=0,
        show_default=True,
        help="Draws the images and random weights.",
    ),
    click.option("--skip-bad-images", is_flag=True, help="Leave unusable images out; they are named and counted."),
    click.option("--force", is_flag=True, help="Replace what edgevit wrote there before."),
)


def subject_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add them to a command, in the order in which its help shall list them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def given(name: str) -> bool:
    """Whether the option of the command that is running was named, rather than left at its default."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE
