"""The command line: finds a command, and turns what goes wrong in it into one sentence and an exit code."""

import difflib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from edgevit import __version__
from edgevit.cli import interruption
from edgevit.errors import EdgevitError

COMMANDS = {
    "models": "List the models and their weights.",
    "calibrate": "Quantise a model, for export later.",
    "export": "Make verified artifacts of a model.",
    "report": "Show exports beside each other, on a page.",
    "verify": "Check every claim of an export from its files.",
    "bundle": "Put an export into a sample app.",
    "bench": "Time exports on this host, against each other.",
    "profile": "Say where the time of an export's artifacts goes.",
    "eval": "Score a model on labelled images.",
    "train": "Train a model on labelled images.",
    "diff": "Compare the scales and zero points of two artifacts.",
    "doctor": "Say what is installed and what works here.",
}
WRONG, BUG, INTERRUPTED, PIPE_CLOSED = 2, 70, 130, 141


class Commands(click.Group):
    """Imports a command's module when it is called, so that ``edgevit --help`` loads no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in COMMANDS:
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1) or COMMANDS
            raise click.UsageError(f"There is no command {cmd_name!r}: take {' or '.join(close)}")
        command: click.Command = importlib.import_module(f"edgevit.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgevit")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def cli() -> None:
    """Small vision transformers to verified INT8 artifacts.

    An export folds, calibrates, converts, opens each artifact again and measures what it kept: accuracy step by
    step, operators in INT8, speed against its float twin.

    Exit codes: 0 all that was asked holds, 1 a claim failed, 2 wrong input, 3 a package or a device is missing,
    70 a bug in edgevit, 130 interrupted.
    """


def main() -> None:
    """The ``edgevit`` console script."""
    interruption.listen()
    args = [arg for arg in sys.argv[1:] if arg != "--debug"]
    try:
        code = run(args or ["--help"])
        sys.stdout.flush()  # here, where it can still be said that it failed
    except BaseException as error:
        discard_output_that_cannot_go()
        if "--debug" in sys.argv:
            traceback.print_exception(error)
        if interruption.requested and not isinstance(error, KeyboardInterrupt):
            error = KeyboardInterrupt()  # which was swallowed, and left a library half imported
        message, code = explain(error)
        if message:
            print(f"edgevit: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def run(args: Sequence[str]) -> int:
    """The exit code of the command line ``args``: what the command returns, 0 if that is nothing."""
    try:
        with cli.make_context("edgevit", list(args)) as context:
            result = cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return result if isinstance(result, int) else 0


def explain(error: BaseException) -> tuple[str, int]:
    """One sentence on what went wrong and how to mend it, and the exit code."""
    match error:
        case EdgevitError():
            return str(error), error.exit_code
        case click.UsageError():
            return usage(error), WRONG
        case KeyboardInterrupt():
            return str(error) or "interrupted: nothing was kept", INTERRUPTED
        case BrokenPipeError():
            return "", PIPE_CLOSED
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            return "the disk is full: free space or choose another --out", WRONG
        case OSError(filename=str() as path, strerror=str() as reason):
            return f"{path}: {reason}: check that path", WRONG
        case _ if out_of_memory(error):
            return "out of memory: close other programs, or ask for a smaller image size or batch", WRONG
    kind, text = type(error).__name__, str(error)
    return f"this is a bug ({kind}: {text}): run it again with --debug and report what it prints", BUG


def usage(error: click.UsageError) -> str:
    """Click's message, and where to read on unless it already says what was probably meant."""
    message = error.format_message()
    if message.endswith("?") or error.ctx is None:
        return message
    return f"{message.rstrip('.')}; see {error.ctx.command_path} --help"


def out_of_memory(error: BaseException) -> bool:
    """Torch's allocator raises a RuntimeError where Python and NumPy raise MemoryError."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error))


def discard_output_that_cannot_go() -> None:
    """Send a broken stdout nowhere, or the interpreter would fail again when it flushes it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
