"""``edgevit bench``: exports timed on this host, and the result left beside each of them.

Each runtime has processes of its own, in which its programs are timed against each other, and each cold start another.
A runtime that crashes is one failure; the others still finish.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from convert.registry import TARGETS
from convert.target import target
from edgevit import __version__, artifact
from edgevit.bench import cold, protocol, timed
from edgevit.bench.child import ask
from edgevit.bench.local import describe_host
from edgevit.bench.pooled import pooled
from edgevit.errors import ClaimError, InputError

FILE, SCHEMA = artifact.BENCH, artifact.BENCH_SCHEMA
PROCESSES = 3  # that time the same programs
COLD_STARTS = 3

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Plan:
    """How exports are timed: every target of ``targets``, or all that the exports share and this host can time.

    Every program is called ``runs`` times and for ``seconds`` at least. ``pinned`` are the cores that may be used,
    ``minutes`` how long each program then runs without pause.
    """

    targets: tuple[str, ...] = ()
    threads: int = 1
    runs: int = 480
    seconds: float = 5.0
    pinned: tuple[int, ...] | None = None
    minutes: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """An export that is timed."""

    folder: Path
    manifest: Mapping[str, Any]

    def place(self, name: str) -> Path:
        """The folder of one target's artifact."""
        return self.folder / str(self.manifest["targets"][name]["path"])

    @property
    def batch(self) -> int:
        """Images that its artifacts take at once; exports of before there was a choice do not state it."""
        return int(self.manifest["options"].get("batch", 1))

    def program(self, name: str) -> dict[str, Any]:
        size = self.manifest["model"]["image_size"]
        return {"folder": str(self.place(name)), "image_size": size, "batch": self.batch}


def bench(
    folders: Sequence[Path], plan: Plan, command: Sequence[str], progress: Progress
) -> list[tuple[Path, dict[str, Any]]]:
    """Time the exports in ``folders``, the first of which the others are compared with; leaves FILE in each.

    Returns what these say. Their ``failures`` tell what crashed and which ratio is no conclusion. Raises InputError for
    a folder that is no export or is named twice, a target that cannot be timed, a core that is not there; MissingError
    for a runtime that is not installed; ClaimError for an artifact that is not what its export wrote.
    """
    subjects = [Subject(folder, artifact.read_manifest(folder)) for folder in folders]
    names = names_to_time(subjects, plan)
    check(subjects, names, plan)
    found = {name: measure(name, subjects, plan, progress) for name in names}
    described = []
    for index, subject in enumerate(subjects):
        entries = {name: measured if isinstance(measured, str) else measured[index] for name, measured in found.items()}
        against = subjects[0].folder.resolve().name if index else None
        description = describe(subject, entries, against, plan, command)
        artifact.replace_json(subject.folder / FILE, description)
        described.append((subject.folder, description))
    return described


def names_to_time(subjects: Sequence[Subject], plan: Plan) -> tuple[str, ...]:
    """Raises InputError where there is nothing to time."""
    for name in plan.targets:
        if name not in TARGETS:
            raise InputError(f"there is no target {name!r}: choose from {', '.join(TARGETS)}")
        if TARGETS[name].needs_macos:
            raise InputError(f"{name} cannot be timed here: an evaluator stands in for its runtime, so leave it out")
        for subject in subjects:
            if name not in subject.manifest["targets"]:
                raise InputError(f"{subject.folder} has no {name}: export it, or leave the target out")
    shared = tuple(
        name
        for name, entry in TARGETS.items()
        if not entry.needs_macos and all(name in subject.manifest["targets"] for subject in subjects)
    )
    if not shared:
        raise InputError("these exports have no target in common that can be timed here: name others")
    return tuple(dict.fromkeys(plan.targets)) or shared


def check(subjects: Sequence[Subject], names: Iterable[str], plan: Plan) -> None:
    """See ``bench``."""
    if len({subject.folder.resolve() for subject in subjects}) < len(subjects):
        raise InputError("an export is named twice: give different ones")
    if len(batches := sorted({subject.batch for subject in subjects})) > 1:
        raise InputError(f"these exports take {batches[0]} and {batches[-1]} images at once: time those of one batch")
    if plan.pinned is not None:
        check_cores(plan.pinned)
    for subject in subjects:
        artifact.check_writable(subject.folder, "let it be written to, or copy the export")
    for name in names:
        target(name)
        for subject in subjects:
            if artifact.describe_files(subject.place(name))["files"] != subject.manifest["targets"][name]["files"]:
                raise ClaimError(f"{subject.place(name)} is not what its manifest describes: export it again")


def check_cores(cores: Iterable[int]) -> None:
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("this system does not pin a process to cores: leave --pin out")
    there = os.sched_getaffinity(0)
    if missing := sorted({*cores} - there):
        raise InputError(f"there is no core {missing[0]} here: take some of {', '.join(map(str, sorted(there)))}")


def measure(name: str, subjects: Sequence[Subject], plan: Plan, progress: Progress) -> list[dict[str, Any]] | str:
    """One target's entry for each export, or why there is none."""
    programs = [subject.program(name) for subject in subjects]
    question = {
        "target": name,
        "programs": programs,
        "threads": plan.threads,
        "runs": max(protocol.MIN_PAIRS, -(-plan.runs // PROCESSES)),
        "seconds": plan.seconds / PROCESSES,
        "pinned": plan.pinned,
    }
    try:
        with progress(f"timing {name}", PROCESSES) as advance:
            answers = timings(name, question, plan, advance)
        with progress(f"cold starts of {name}", COLD_STARTS * len(programs)) as advance:
            starts = [cold_starts(name, question | program, advance) for program in programs]
    except ClaimError as error:
        return str(error)
    return [entry | {"start": start} for entry, start in zip(pooled(answers, plan.seed), starts, strict=True)]


def timings(name: str, question: Mapping[str, Any], plan: Plan, advance: Callable[[int], None]) -> list[dict[str, Any]]:
    """What each of PROCESSES answers; the last goes on without pause, where that is asked."""
    answers = []
    for index in range(PROCESSES):
        minutes = plan.minutes if index + 1 == PROCESSES else None
        answers.append(ask(timed.MODULE, {**question, "seed": plan.seed + index, "minutes": minutes}, f"timing {name}"))
        advance(1)
    return answers


def cold_starts(name: str, question: Mapping[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
    """Medians of COLD_STARTS processes."""
    starts = []
    for _ in range(COLD_STARTS):
        starts.append(ask(cold.MODULE, question, f"loading {name}"))
        advance(1)
    memory = [start["memory_mb"] for start in starts if start["memory_mb"] is not None]
    return {
        "cold_start_ms": median(start["load_ms"] + start["first_ms"] for start in starts),
        "peak_rss_mb": median(memory) if memory else None,
    }


def describe(
    subject: Subject,
    entries: Mapping[str, dict[str, Any] | str],
    against: str | None,
    plan: Plan,
    command: Sequence[str],
) -> dict[str, Any]:
    """What FILE says of one export; ``against`` names the one that it is compared with."""
    timings = {name: entry for name, entry in entries.items() if not isinstance(entry, str)}
    bytes_of = {name: subject.manifest["targets"][name]["bytes"] for name in timings}
    ratios = {name: entry["ratio"] for name, entry in timings.items() if against is not None}
    failures = [entry for entry in entries.values() if isinstance(entry, str)]
    failures += [
        f"{name} was too noisy for a conclusion: {entry['because']}"
        for name, entry in timings.items()
        if entry["because"]
    ]
    return {
        "schema": SCHEMA,
        "edgevit": __version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": list(command),
        "environment": describe_host(subject.manifest["environment"]["packages"]),
        "protocol": {
            "threads": plan.threads,
            "batch": subject.batch,
            "runs": plan.runs,
            "seconds": plan.seconds,
            "pinned": list(plan.pinned) if plan.pinned else None,
            "minutes": plan.minutes,
            "seed": plan.seed,
        },
        "programs": {
            name: entry["timing"] | entry["start"] | {"bytes": bytes_of[name]} for name, entry in timings.items()
        },
        "against": against,
        "ratios": ratios,
        "reference": {name: entry["reference"] for name, entry in timings.items()},
        "failures": failures,
    }
