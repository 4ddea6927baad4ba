"""Profile artifacts, each in a process of its own.

A native runtime that crashes under its profiler then costs its own profile and no other; it starts with its own
threads; and whatever it leaves among its temporary files goes with them: see ``edgevit.bench.child``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from convert.profiling.profiler import check_timed
from convert.registry import TARGETS
from convert.target import readable
from edgevit import artifact
from edgevit.bench import child
from edgevit.bench.child import ask
from edgevit.bench.profile import measure
from edgevit.errors import InputError

PROFILE, CHART = "profile.json", "profile.svg"
SCHEMA = 1
MODULE = "edgevit.profiling"


@dataclass(frozen=True)
class Request:
    """What to profile, as ``edgevit.bench.profile.measure`` takes it."""

    name: str
    folder: str
    asked: Mapping[str, str]
    side: int
    batch: int
    model_macs: int
    threads: int
    runs: int


def requests(folder: Path, names: Sequence[str], threads: int, runs: int) -> list[Request]:
    """For the named targets of the export in ``folder``, or for all of them that can be timed here.

    Raises InputError if ``folder`` is no export, for a target that there is not and for one that the export has not;
    ClaimError for a damaged manifest; MissingError for a target that is not timed here or whose runtime is missing.
    """
    manifest = artifact.read_manifest(folder)
    with readable(folder / artifact.MANIFEST):
        model, asked = manifest["model"], dict(manifest["quant"].get("operators", {}))
        batch = int(manifest["options"].get("batch", 1))
        side, macs = int(model["image_size"]), batch * int(model["macs"])
        held = [name for name in TARGETS if name in manifest["targets"]]
    for name in names:
        if name not in held:
            what = f"{folder} has no artifact of target {name}" if name in TARGETS else f"there is no target {name!r}"
            raise InputError(f"{what}: choose from {', '.join(held)}")
    chosen = list(dict.fromkeys(names)) or [name for name in held if TARGETS[name].profiler is not None] or held
    for name in chosen:
        check_timed(name)
    return [Request(name, str((folder / name).absolute()), asked, side, batch, macs, threads, runs) for name in chosen]


def profile(request: Request) -> dict[str, Any]:
    """One target's profile as its manifest has it, from a process that ends with this.

    Raises what profiling it raises, or ClaimError if the process ends without an answer.
    """
    described: dict[str, Any] = ask(MODULE, asdict(request), f"profiling {request.name}")
    return described


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Of a ``Request`` as JSON."""
    request = Request(**{field.name: question[field.name] for field in fields(Request)})
    return measure(**asdict(request) | {"folder": Path(request.folder)}).manifest(request.name)


if __name__ == "__main__":
    child.answer(answer)
