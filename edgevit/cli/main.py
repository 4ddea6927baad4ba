"""The command line: finds a command, and turns what goes wrong in it into one sentence and an exit code."""

import importlib
import signal
import sys
from types import FrameType

import click

from edgevit import __version__
from edgevit.errors import EdgevitError

COMMANDS = ("models", "export", "verify", "eval", "train")
INTERRUPTED = 130


class LazyGroup(click.Group):
    """Imports a command's module when it is called, so that ``edgevit --help`` loads no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"edgevit.cli.{cmd_name}").command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgevit")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Small vision transformers to verified INT8 artifacts.

    An export folds, calibrates, converts, opens each artifact again and measures what it kept: accuracy step by
    step, operators in INT8, speed against its float twin. Exit codes: 0 all that was asked holds, 1 a
    claim failed, 2 wrong input, 3 a package is missing.
    """


def main() -> None:
    """The ``edgevit`` console script."""
    signal.signal(signal.SIGTERM, terminate)
    debug = "--debug" in sys.argv[1:]
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except EdgevitError as error:
        fail(str(error), error.exit_code, debug)
    except click.ClickException as error:
        fail(error.format_message(), error.exit_code, debug)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted: nothing was kept", INTERRUPTED, debug)
    except BrokenPipeError:
        sys.exit(0)


def fail(message: str, code: int, debug: bool) -> None:
    """One sentence on stderr; the traceback before it with ``--debug``."""
    if debug:
        raise  # noqa: PLE0704 - called from an except clause
    click.echo(f"edgevit: {' '.join(message.split())}", err=True)
    sys.exit(code)


def terminate(signum: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds like Ctrl-C, so that temporary files go."""
    raise KeyboardInterrupt
