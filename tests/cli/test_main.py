"""What every command shares: help that loads nothing, one sentence for whatever goes wrong, and the exit codes."""

import errno
import importlib
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgevit import __version__
from edgevit.cli import main
from edgevit.errors import ClaimError, EdgevitError, InputError, MissingError
from tests.cli.conftest import Edgevit

PYTHON = (sys.executable, "-m", "edgevit")


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let ``edgevit models`` fail with ``error``."""

    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(importlib.import_module("edgevit.cli.models"), "command", command)


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["models"], ["models", "--json"]])
def test_answers_at_once_and_without_torch(args: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edgevit", *args], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    imported = {line.rsplit("|", 1)[1].strip() for line in ended.stderr.splitlines()}
    assert "edgevit.cli.main" in imported
    assert not imported & {"torch", "numpy", "onnx", "openvino", "edgevit.train"}
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_help_names_the_commands_and_exit_codes(edgevit: Edgevit) -> None:
    for args in ((), ("--help",), ("-h",)):
        ended = edgevit(*args)
        assert (ended.code, ended.err) == (0, "")
        assert all(f"  {name}" in ended.out and summary in ended.out for name, summary in main.COMMANDS.items())
        assert "70 a bug" in ended.out
    assert edgevit("--version").out == f"edgevit, version {__version__}\n"


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_is_there(name: str, edgevit: Edgevit) -> None:
    ended = edgevit(name, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"Usage: edgevit {name} ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "There is no command 'trian': take train"),
        (["?"], f"There is no command '?': take {' or '.join(main.COMMANDS)}"),
        (["--nope"], "No such option '--nope'; see edgevit --help"),
        (["models", "--jsn"], "No such option '--jsn'. Did you mean '--json'?"),
        (["train", "--out", "x"], "Missing option '--data'; see edgevit train --help"),
        (["models", "extra"], "Got unexpected extra argument (extra); see edgevit models --help"),
    ],
)
def test_wrong_command_lines(args: list[str], message: str, edgevit: Edgevit) -> None:
    ended = edgevit(*args)
    assert (ended.code, ended.out, ended.err) == (2, "", f"edgevit: {message}\n")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (EdgevitError("a\n  b"), 2, "a b"),
        (InputError("wrong: mend it"), 2, "wrong: mend it"),
        (ClaimError("does not hold"), 1, "does not hold"),
        (MissingError("not installed"), 3, "not installed"),
        (KeyboardInterrupt(), 130, "interrupted: nothing was kept"),
        (KeyboardInterrupt("interrupted: go on"), 130, "interrupted: go on"),
        (OSError(errno.ENOSPC, "No space", "x"), 2, "the disk is full: free space or choose another --out"),
        (OSError(errno.EDQUOT, "Quota"), 2, "the disk is full: free space or choose another --out"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "/x: Permission denied: check that path"),
        (MemoryError(), 2, "out of memory: close other programs, or ask for a smaller image size or batch"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            2,
            "out of memory: close other programs, or ask for a smaller image size or batch",
        ),
        (ZeroDivisionError("by\nzero"), 70, "this is a bug (ZeroDivisionError: by zero): run it again with --debug"),
        (RuntimeError("a"), 70, "this is a bug (RuntimeError: a): run it again with --debug and report what it prints"),
    ],
)
def test_one_sentence_and_no_traceback(
    error: BaseException, code: int, message: str, edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(monkeypatch, error)
    ended = edgevit("models")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(f"edgevit: {message}")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("args", [["--debug", "models"], ["models", "--debug"]])
def test_debug_shows_the_traceback_and_changes_nothing_else(
    args: list[str], edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(monkeypatch, ClaimError("does not hold"))
    ended = edgevit(*args)
    assert ended.code == 1
    assert ended.err.startswith("Traceback")
    assert ended.err.endswith("edgevit: does not hold\n")


def test_a_number_that_a_command_returns_is_the_exit_code(edgevit: Edgevit, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def command() -> int:
        return 1

    monkeypatch.setattr(importlib.import_module("edgevit.cli.models"), "command", command)
    ended = edgevit("models")
    assert (ended.code, ended.err) == (1, "")


@pytest.fixture
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a child buffer its output, so that writing it fails at the end."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


@pytest.mark.usefixtures("buffered")
def test_a_full_disk_under_the_output() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*PYTHON, "models", "--json"], stdout=full, stderr=subprocess.PIPE, check=False, text=True
        )
    assert ended.returncode == 2
    assert ended.stderr == "edgevit: the disk is full: free space or choose another --out\n"


@pytest.mark.usefixtures("buffered")
@pytest.mark.parametrize("args", [["models"], ["models", "--json"], ["--help"]])
def test_a_reader_that_has_gone(args: list[str]) -> None:
    process = subprocess.Popen([*PYTHON, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141
