"""What is written of each target, opened again: its artifact, and the programs that the artifact is compared with."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.registry import TARGETS
from convert.source import Source
from convert.target import Census, Target, write
from edgevit.bench import local
from edgevit.beside import Beside, Job, Written
from edgevit.errors import ClaimError
from edgevit.verify import grid

ARTIFACT, SELECTION, FLOAT, UNPRUNED = "artifact", "selection", "float twin", "unpruned twin"


@dataclass(frozen=True)
class Programs:
    """What is lowered to a target. The last two are there where the model prunes tokens.

    ``selection`` is the artifact's program that also returns which tokens it kept and their scores; it stays beside the
    artifact, as evidence. The twins are timed and thrown away.
    """

    artifact: Source
    float: Source
    selection: Source | None = None
    unpruned: Source | None = None

    def roles(self) -> dict[str, Source]:
        """In the order in which they are wanted."""
        found = {ARTIFACT: self.artifact, SELECTION: self.selection, FLOAT: self.float, UNPRUNED: self.unpruned}
        return {role: source for role, source in found.items() if source is not None}


@dataclass(frozen=True)
class Lowered:
    """One target's artifact, opened again."""

    folder: Path
    module: Target
    census: Census
    grid: grid.GridDiff | None  # None for a float artifact
    seconds: float
    peak_rss_mb: float
    selection: Path | None = None  # the folder of the program that returns its tokens, where the model prunes any

    def failures(self, name: str) -> list[str]:
        failures = []
        if self.census.missing:
            first = ", ".join(self.census.missing[:3])
            count = len(self.census.missing)
            failures.append(f"{name}: {count} operators asked in INT8 run in float, such as {first}")
        if self.grid is not None and not self.grid.matches:
            first = ", ".join(self.grid.differing[:3])
            failures.append(f"{name}: {len(self.grid.differing)} tensors are on another grid, such as {first}")
        return failures


class Lowering(Beside):
    """Writes programs to targets, the slow targets' in a process beside this one, while it goes on.

    ``forms`` has, by target, how an app meets its artifact, and names the targets. Artifacts go to ``folder / name``
    and their selections to ``folder / "selection" / name``; without ``folder``, twins alone are written.
    An artifact is not written beside where nothing else is to be done meanwhile.
    """

    def __init__(
        self,
        programs: Programs,
        forms: Mapping[str, Mapping[str, Any]],
        metadata: Mapping[str, str],
        folder: Path | None,
    ) -> None:
        self.programs, self.forms, self.metadata, self.folder = programs.roles(), forms, metadata, folder
        self.twins = tempfile.TemporaryDirectory(prefix="edgevit-")
        jobs = [
            self.job(role, name)
            for role in self.programs
            for name in forms
            if TARGETS[name].slow and self.is_wanted(role, name) and (role != ARTIFACT or len(forms) > 1)
        ]
        for job in jobs:
            job.folder.mkdir(parents=True)
        super().__init__(jobs)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.twins.cleanup()

    def is_wanted(self, role: str, name: str) -> bool:
        """The unpruned twin is for timing alone, which some targets cannot do here."""
        if role in (ARTIFACT, SELECTION):
            return self.folder is not None
        return role == FLOAT or not TARGETS[name].needs_macos

    def folder_of(self, role: str, name: str) -> Path:
        """The folder of the ``role`` that target ``name`` gets."""
        if role in (FLOAT, UNPRUNED):
            return Path(self.twins.name) / role / name
        assert self.folder is not None
        return self.folder / name if role == ARTIFACT else self.folder / SELECTION / name

    def job(self, role: str, name: str) -> Job:
        """A selection gives logits beside its tokens, also where the artifact is a classifier."""
        form = dict(self.forms[name])
        if role == SELECTION and form.get("classifier"):
            form["classifier"] = False
        return Job(name, self.programs[role], self.folder_of(role, name), self.metadata, form)

    def write(self, role: str, name: str, module: Target) -> Written:
        """Have the ``role`` of target ``name`` written, unless it is. Raises InputError if it cannot be expressed."""
        job = self.job(role, name)
        if (written := self.finish(job.folder)) is not None:
            return written
        started = time.perf_counter()
        if not job.folder.exists():
            job.folder.mkdir(parents=True)
            write(name, module, job.source, job.folder, job.metadata, job.form)
        return Written(time.perf_counter() - started, local.peak_rss_mb())

    def twins_of(self, name: str) -> Iterator[str]:
        """The roles of what ``name``'s artifact is compared with in size and, where it can be timed here, in speed."""
        return (role for role in self.programs if role in (FLOAT, UNPRUNED) and self.is_wanted(role, name))


def lower(name: str, module: Target, lowering: Lowering, threads: int) -> Lowered:
    """Write one target's artifact, open it again in its runtime and run it once.

    Raises InputError if the target cannot express an operator, ClaimError if what it wrote does not load or run.
    """
    written = lowering.write(ARTIFACT, name, module)
    folder, source = lowering.folder_of(ARTIFACT, name), lowering.programs[ARTIFACT]
    run_once(name, module, source, folder, threads)
    asked = source.quantized.asked if source.quantized else {}
    census = module.census(folder, asked)
    difference = grid.diff(source.quantized.tensors, module.grid(folder)) if source.quantized else None
    selection = None
    if SELECTION in lowering.programs:
        lowering.write(SELECTION, name, module)
        selection = lowering.folder_of(SELECTION, name)
        run_once(name, module, lowering.programs[SELECTION], selection, threads)
    return Lowered(folder, module, census, difference, written.seconds, written.peak_rss_mb, selection)


def run_once(name: str, module: Target, source: Source, folder: Path, threads: int) -> None:
    """Some failures of a lowering show only here."""
    assert source.program.example_inputs is not None
    (x,) = source.program.example_inputs[0]
    try:
        module.load(folder, threads)(x.numpy())
    except Exception as error:
        notes = " ".join(getattr(error.__cause__ or error, "__notes__", []))
        raise ClaimError(
            f"what was lowered to {name} does not run here ({error} {notes}): leave the target out"
        ) from error
