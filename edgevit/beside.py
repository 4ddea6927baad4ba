"""Lower in a process of its own, beside this one.

A converter is Python and keeps one core busy; ExecuTorch's takes as long as all the others together, for the artifact
and for the float twin that its speed is measured against. A new interpreter is started rather than this one forked,
because torch's threads do not survive a fork, and the caller's main module is not imported again.
"""

import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from calibrate.program import QuantizedProgram
from convert.source import Source
from convert.target import target, write
from edgevit import errors
from edgevit.bench import local

REQUESTS = "requests.json"
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Job:
    """``Target.lower`` of the target ``name``: its arguments."""

    name: str
    source: Source
    folder: Path  # which exists
    metadata: Mapping[str, str]
    form: Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """What writing an artifact took."""

    seconds: float
    peak_rss_mb: float


class Beside:
    """Jobs that another process does one after the other, while this one goes on; it ends with the block."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.folders = [job.folder for job in jobs]
        self.scratch = tempfile.TemporaryDirectory(prefix="edgevit-")
        self.place = Path(self.scratch.name)
        self.process: subprocess.Popen[bytes] | None = None
        if jobs:
            requests = [request(job, self.place / f"{index}.pt2") for index, job in enumerate(jobs)]
            (self.place / REQUESTS).write_text(json.dumps(requests))

    def __enter__(self) -> Self:
        if self.folders:
            with (self.place / "output").open("wb") as output:
                line = [sys.executable, "-m", "edgevit.beside", self.scratch.name]
                self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        return self

    def __exit__(self, *error: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.scratch.cleanup()

    def finish(self, folder: Path) -> Written | None:
        """Wait for the job that writes ``folder``; None if there is no such.

        Raises what the job raised: an EdgevitError as it was, else a RuntimeError, whose note is the traceback.
        """
        if folder not in self.folders:
            return None
        assert self.process is not None
        answer = self.place / f"{self.folders.index(folder)}.json"
        while not answer.exists() and self.process.poll() is None:
            time.sleep(POLL_SECONDS)
        if not answer.exists():
            output = (self.place / "output").read_text(errors="replace")
            raise RuntimeError(f"the process that lowers ended with {self.process.returncode}: {output[-2000:]}")
        found = json.loads(answer.read_text())
        if "error" in found:
            raise noted(getattr(errors, found["error"], RuntimeError)(found["message"]), found.get("traceback"))
        return Written(found["seconds"], found["peak_rss_mb"])


def request(job: Job, program: Path) -> dict[str, Any]:
    torch.export.save(job.source.program, program)
    quantized = job.source.quantized
    return {
        "name": job.name,
        "program": str(program),
        "precision": job.source.precision,
        "nodes": quantized and quantized.nodes,
        "asked": quantized and quantized.asked,
        "folder": str(job.folder),
        "metadata": dict(job.metadata),
        "form": dict(job.form),
    }


def noted(error: Exception, note: str | None) -> Exception:
    """With the traceback of the other process, which ``--debug`` then shows."""
    if note is not None:
        error.add_note(note)
    return error


def serve(place: Path) -> None:
    """Do the jobs that wait in ``place``, and leave an answer for each."""
    for index, job in enumerate(json.loads((place / REQUESTS).read_text())):
        try:
            answer = do(job)
        except errors.EdgevitError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        except Exception as error:
            last = traceback.format_exception_only(error)[-1].strip()
            answer = {"error": "RuntimeError", "message": last, "traceback": traceback.format_exc()}
        whole = place / f"{index}.partial"
        whole.write_text(json.dumps(answer))
        whole.rename(place / f"{index}.json")


def do(job: Mapping[str, Any]) -> dict[str, Any]:
    program = torch.export.load(job["program"])
    started = time.perf_counter()
    whole = QuantizedProgram(program, program.module(), {}, job["nodes"], job["asked"]) if job["nodes"] else program
    source = Source(whole, job["precision"])
    write(job["name"], target(job["name"]), source, Path(job["folder"]), job["metadata"], job["form"])
    return {"seconds": time.perf_counter() - started, "peak_rss_mb": local.peak_rss_mb()}


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
