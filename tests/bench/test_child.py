import sys

import pytest

from edgevit.bench.child import ask
from edgevit.errors import ClaimError, InputError

CHILD = """
import os, signal, sys
from edgevit.bench import child
from edgevit.errors import InputError

def answer(question):
    print("what it prints is not the answer")
    match question["how"]:
        case "well":
            return {"heard": question["said"], "unprintable": "\\ud83d\\ude00"}
        case "wrong":
            raise InputError("say something else")
        case "crash":
            print("no kernel for this", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            sys.exit(7)
    raise ValueError("not foreseen")

if __name__ == "__main__":
    child.answer(answer)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that another interpreter can find."""
    (tmp_path / "answering.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "answering"


def test_an_answer_comes_back(module):
    assert ask(module, {"how": "well", "said": [1, 2.5, None]}, "asking") == {
        "heard": [1, 2.5, None],
        "unprintable": "😀",
    }


def test_its_own_errors_come_back_as_they_were(module):
    with pytest.raises(InputError, match=r"^say something else$"):
        ask(module, {"how": "wrong"}, "asking")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_crash_is_one_sentence(module):
    with pytest.raises(ClaimError, match=r"^asking ended the process \(SIGSEGV\) saying: no kernel for this$"):
        ask(module, {"how": "crash"}, "asking")


def test_an_early_end_is_told(module):
    with pytest.raises(ClaimError, match=r"^asking ended the process \(exit code 7\)$"):
        ask(module, {"how": "exit"}, "asking")


def test_an_error_nobody_foresaw_is_told_by_its_last_line(module):
    with pytest.raises(
        ClaimError, match=r"^asking ended the process \(exit code 1\) saying: ValueError: not foreseen$"
    ):
        ask(module, {"how": "other"}, "asking")
