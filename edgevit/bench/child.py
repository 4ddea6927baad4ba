"""A question that another process answers: one that a crash ends without ending this one.

The process is a new interpreter that runs ``python -m MODULE``, reads the question as JSON from its standard input and
leaves the answer in the file that it names. What it prints stays off the terminal, and what it leaves among its
temporary files goes when it has ended.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgevit import errors
from edgevit.errors import ClaimError, EdgevitError

LAST = 300  # characters of what a crash printed


def ask(module: str, question: Mapping[str, Any], doing: str) -> Any:
    """The answer of ``module``'s process.

    Raises the EdgevitError that it met; ClaimError if it crashed, where ``doing`` says what it was at.
    """
    with tempfile.TemporaryDirectory(prefix="edgevit-") as scratch:
        place = Path(scratch) / "answer.json"
        line = [sys.executable, "-m", module]
        text = json.dumps({**question, "answer": str(place)})
        done = subprocess.run(
            line,
            input=text,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": scratch},
            text=True,
            errors="replace",
            check=False,
        )
        if not place.is_file():
            raise ClaimError(f"{doing} ended the process ({ending(done.returncode)}) {said(done.stderr)}".strip())
        found = json.loads(place.read_text(encoding="utf-8"))
    if "error" in found:
        raise getattr(errors, found["error"])(found["message"])
    return found["answer"]


def answer(found: Callable[[Mapping[str, Any]], Any]) -> None:
    """The other end: ``found`` makes the answer of the question."""
    question = json.load(sys.stdin)
    try:
        given = {"answer": found(question)}
    except EdgevitError as error:
        given = {"error": type(error).__name__, "message": str(error)}
    Path(question["answer"]).write_text(json.dumps(given), encoding="utf-8")


def ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def said(output: str) -> str:
    lines = [line for line in output.strip().splitlines() if line.strip()]
    return f"saying: {lines[-1][-LAST:]}" if lines else ""
