"""The steps of a comparison with others, each in a process that runs this module: see ``edgevit.bench.child``.

What a process holds at its peak is then what the step takes, and one that a peer brings down ends no other.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convert.target import Run, target
from edgevit.bench import child, local, timed
from edgevit.metrics import sqnr_db, top1_agreement
from edgevit.options import Options
from edgevit.steps import load_model, prepare, silent
from tools.peers import PEERS, Peer

MODULE = "tools.peer_steps"
CALIBRATED, SCORED = 128, 200
REASON = 300  # characters of why a program does not run
OURS = ("fp32", "int8")

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """The working folder of one model's comparison."""

    folder: Path

    @property
    def options(self) -> Options:
        return Options(**json.loads((self.folder / "options.json").read_text()))

    def peer(self, peer: Peer) -> Path:
        return self.folder / f"peer-{PEERS.index(peer)}"

    def ours(self, precision: str, runtime: str) -> Path:
        """An export of edgevit's for one target."""
        return self.folder / f"{precision}-{runtime}"

    def images(self, name: str) -> NDArray[np.float32]:
        """``calibration`` or ``scored``, ``[B, 3, S, S]``."""
        images: NDArray[np.float32] = np.load(self.folder / f"{name}.npy")
        return images


@dataclass(frozen=True)
class Program:
    """Something that is timed, and ``bytes`` of its files."""

    name: str
    precision: str
    load: Callable[[], Run]
    bytes: int | None

    @property
    def label(self) -> str:
        return f"{self.name}, {self.precision}"


def write_images(place: Place) -> dict[str, Any]:
    """The calibration images, those that are scored, and the model's logits of these before anything is done to it."""
    subject = prepare(place.options, silent, lambda message: None)
    for name, images in (("calibration", subject.images.calibration), ("scored", subject.images.scored)):
        np.save(place.folder / f"{name}.npy", np.concatenate(list(images.batches(subject.weights.preprocess, 25))))
    run = torch_run(subject.model)
    np.save(place.folder / "logits.npy", on_each(run, place.images("scored")))
    return {name: len(place.images(name)) for name in ("calibration", "scored")}


def make(place: Place, index: int) -> dict[str, float]:
    """Seconds that PEERS[index] takes to write its file, and what its process holds at its peak."""
    peer = PEERS[index]
    model, _ = load_model(place.options, silent)
    calibration = place.images("calibration")
    images = [calibration[i : i + 1] for i in range(len(calibration))]  # x[None] would have a stride of 0
    place.peer(peer).mkdir()
    started = time.perf_counter()
    peer.make(model, images, place.peer(peer))
    return {"seconds": time.perf_counter() - started, "peak_mb": local.peak_rss_mb()}


def score(place: Place, runtime: str, named: str) -> dict[str, Any]:
    """What the program that is labelled so keeps, or why it does not run."""
    (program,) = (program for program in programs(place, runtime) if program.label == named)
    try:
        given = on_each(program.load(), place.images("scored"))
    except Exception as error:  # whatever a peer's program raises is its result
        return {"error": " ".join(str(error).split())[:REASON]}
    wanted = np.load(place.folder / "logits.npy")
    kept = sqnr_db(wanted, given) if np.isfinite(given).all() else -np.inf
    if not kept > 0:
        return {"error": f"its logits are noise ({kept:.0f} dB)"}
    return {"sqnr_db": kept, "top1_agreement": top1_agreement(wanted, given)}


def time_programs(place: Place, runtime: str, running: Sequence[str], question: Mapping[str, Any]) -> dict[str, Any]:
    """As ``edgevit.bench.timed``, for the programs of a runtime that run, by their labels."""
    x = place.images("scored")[:1]
    runs = [program.load() for program in programs(place, runtime) if program.label in running]
    return timed.timed([lambda run=run: run(x) for run in runs], question)  # type: ignore[misc]


def programs(place: Place, runtime: str) -> list[Program]:
    """Those whose files are there; PyTorch's own beside ONNX Runtime's, which they share a run with."""
    found = [
        Program(peer.name, peer.precision, lambda peer=peer: peer.load(place.peer(peer), 1), size(place.peer(peer)))  # type: ignore[misc]
        for peer in PEERS
        if peer.runtime == runtime and size(place.peer(peer))
    ]
    for precision in OURS:
        folder = place.ours(precision, runtime) / runtime
        if folder.exists():
            found.append(Program("edgevit", precision, lambda at=folder: target(runtime).load(at, 1), size(folder)))  # type: ignore[misc]
    if runtime == "onnx":
        found += [Program("PyTorch, eager", "fp32", lambda: torch_run(original(place)), None)]
        found += [Program("PyTorch, compiled", "fp32", lambda: torch_run(compiled(place)), None)]
    return found


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def original(place: Place) -> nn.Module:
    torch.set_num_threads(1)
    return load_model(place.options, silent)[0]


def compiled(place: Place) -> Callable[[torch.Tensor], Any]:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(place.folder / "inductor")  # compiled once for all processes
    return torch.compile(original(place))


def torch_run(model: Callable[[torch.Tensor], Any]) -> Run:
    @torch.no_grad()
    def run(x: NDArray[np.float32]) -> Logits:
        outputs = model(torch.from_numpy(x))
        logits: Logits = (outputs[0] if isinstance(outputs, tuple) else outputs).numpy()
        return logits

    return run


def on_each(run: Run, images: NDArray[np.float32]) -> Logits:
    return np.concatenate([run(images[i : i + 1]) for i in range(len(images))])


def answer(question: Mapping[str, Any]) -> Any:
    """``step`` names one of STEPS, whose arguments are the question's."""
    return STEPS[question["step"]](Place(Path(question["folder"])), *question["arguments"])


STEPS: dict[str, Callable[..., Any]] = {step.__name__: step for step in (write_images, make, score, time_programs)}

if __name__ == "__main__":
    child.answer(answer)
