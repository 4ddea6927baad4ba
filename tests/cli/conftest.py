"""The command line called in this process, and one small training for all to look at."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgevit.cli import main
from tests.test_train import write_idx

TINY = ("--image-size", 64, "--epochs", 2, "--batch", 16, "--threads", 1)


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str


Edgevit = Callable[..., Ended]


@pytest.fixture
def edgevit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Edgevit:
    """``edgevit(*arguments)``: the console script without a new process."""
    monkeypatch.setattr(signal, "signal", lambda *ignored: None)

    def call(*args: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["edgevit", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def idx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 40 + 20 images of 4 classes."""
    return write_idx(tmp_path_factory.mktemp("data") / "bands")


@pytest.fixture(scope="session")
def trained(idx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``edgevit train`` leaves of two epochs on ``idx``."""
    out = tmp_path_factory.mktemp("trained") / "new" / "out"
    args = ["train", "--data", idx, "--out", out, "--licence", "CC0-1.0", *TINY]
    assert main.run(list(map(str, args))) == 0
    return out
