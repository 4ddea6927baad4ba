"""Time edgevit's artifacts against what others make of the same weights: a page, plots and data in a folder.

    python -m tools.against_peers bench/results [DEIT PHOTOGRAPHS]

DEIT is a checkpoint of DeiT-Tiny, PHOTOGRAPHS a folder of its classes that ``tools/halve.py`` has divided; without them
DynamicViT is left as it is. Each peer is made in a process of its own, on the images that calibrate edgevit's export.
Then all programs of a runtime are scored on the same other images, and take turns in three processes.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgevit.bench import local
from edgevit.bench.child import ask
from edgevit.bench.pooled import pooled
from edgevit.bench.session import PROCESSES
from edgevit.describe import PACKAGES
from edgevit.errors import ClaimError
from edgevit.options import Options
from tools import peer_tables
from tools.command import edgevit
from tools.peer_steps import CALIBRATED, MODULE, OURS, SCORED, Place, Program, programs
from tools.peers import AUTHORS, PEERS, PLAIN, peers_of

RUNS, SECONDS = 480, 6.0  # of each program, in all of its processes
DOING = {"write_images": "reading images", "make": "making it", "score": "running it", "time_programs": "timing"}
RUNTIMES = ("onnx", "openvino", "executorch")


def main(results: Path, deit: str | None = None, photographs: str | None = None) -> None:
    results.mkdir(parents=True, exist_ok=True)
    for name, options in asked(deit, photographs).items():
        with tempfile.TemporaryDirectory(prefix="edgevit-") as scratch:
            place = Place(Path(scratch))
            found = compare(replace(options, calib_size=CALIBRATED, parity_images=SCORED), place)
        (results / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
        peer_tables.write(results)
        print(peer_tables.table(found), flush=True)


def asked(deit: str | None, photographs: str | None) -> dict[str, Options]:
    """By model. M5 has random weights, of as many classes as the bundled images."""
    found = {name: Options(model=name) for name in ("efficientvit_m0", "sepvit_lite")}
    if deit is not None and photographs is not None:
        found["dynamicvit_deit_tiny"] = Options(
            model="dynamicvit_deit_tiny", weights=deit, predictors="bundled", data=photographs
        )
    return found | {"efficientvit_m5": Options(model="efficientvit_m5", weights="random", classes=10)}


def compare(options: Options, place: Place) -> dict[str, Any]:
    """What each program takes and keeps; ``failures`` say what could not be made or timed."""
    (place.folder / "options.json").write_text(json.dumps(asdict(options)))
    images = step("write_images", place)
    costs, failures = made(options, place)
    rows, hosts = list[dict[str, Any]](), dict[str, Any]()
    for runtime in RUNTIMES:
        try:
            found, hosts[runtime] = timings(place, runtime)
            rows += [row | costs.get((runtime, row["name"], row["precision"]), {}) for row in found]
        except ClaimError as error:
            failures.append(f"{runtime}: {error}")
    return {
        "model": options.model,
        "random_weights": not options.trained,
        "environment": local.describe_host([*PACKAGES, "nncf"]),
        "protocol": {"threads": 1, "batch": 1, "runs": RUNS, "seconds": SECONDS, "processes": PROCESSES},
        "images": images,
        "programs": rows,
        "reference": hosts,
        "failures": failures,
    }


Costs = dict[tuple[str, str, str], dict[str, float]]  # by runtime, name and precision


def made(options: Options, place: Place) -> tuple[Costs, list[str]]:
    """Make every file; what each took, and what could not be made."""
    costs, failures = Costs(), []
    for peer in peers_of(options.model):
        print(f"{options.model}: {peer.runtime}, {peer.name}", file=sys.stderr, flush=True)
        try:
            costs[peer.runtime, peer.name, peer.precision] = step("make", place, PEERS.index(peer))
        except ClaimError as error:
            failures.append(f"{peer.runtime}, {peer.name}: {error}")
    for (runtime, precision), cost in exports(options, place):
        costs[runtime, "edgevit", precision] = cost
    return costs, failures


def step(name: str, place: Place, *arguments: Any) -> Any:
    question = {"step": name, "folder": str(place.folder), "arguments": arguments}
    return ask(MODULE, question, DOING[name])


def exports(options: Options, place: Place) -> Iterator[tuple[tuple[str, str], dict[str, float]]]:
    """edgevit's own: calibrated once, which counts for each INT8 artifact, and exported for one target at a time."""
    asked = {key: getattr(options, key) for key in ("model", "weights", "predictors", "data", "classes")}
    words = [f"--{key}={value}" for key, value in asked.items() if value is not None]
    calibration = place.folder / "calibration"
    calibrated = edgevit("calibrate", *words, f"--calib-size={CALIBRATED}", f"--out={calibration}")
    for precision in OURS:
        of = words if precision == "fp32" else [f"--calibration={calibration}"]
        for runtime in RUNTIMES:
            print(f"{options.model}: {runtime}, edgevit {precision}", file=sys.stderr, flush=True)
            out = [f"--quant={precision}", f"--target={runtime}", f"--out={place.ours(precision, runtime)}"]
            took = edgevit("export", *of, *out, "--parity-images=50", "--runs=20", "--allow-slower")
            seconds, peak_mb = took.seconds, took.peak_mb
            if precision == "int8":
                seconds, peak_mb = seconds + calibrated.seconds, max(peak_mb, calibrated.peak_mb)
            yield (runtime, precision), {"seconds": seconds, "peak_mb": peak_mb}


def timings(place: Place, runtime: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row a program, with its ratio to the fastest float program of a plain exporter; and the host's speed."""
    rows = [scored(place, runtime, program) for program in programs(place, runtime)]
    running = [row for row in rows if "error" not in row]
    question = {"runs": -(-RUNS // PROCESSES), "seconds": SECONDS / PROCESSES}
    labels = [f"{row['name']}, {row['precision']}" for row in running]
    answers = [step("time_programs", place, runtime, labels, question | {"seed": seed}) for seed in range(PROCESSES)]
    base = fastest_plain(running, answers)
    for found in (running, *(answer["times"] for answer in answers)):
        found.insert(0, found.pop(base))  # what the others are divided by
    entries = pooled(answers, seed=0)
    for row, entry in zip(running, entries, strict=True):
        row |= {"timing": entry["timing"], "ratio": entry["ratio"]}
    return rows, entries[0]["reference"]


def scored(place: Place, runtime: str, program: Program) -> dict[str, Any]:
    """What a program is and keeps; one that crashes, or gives noise, is not timed among the others."""
    stated = {"runtime": runtime, "name": program.name, "precision": program.precision, "bytes": program.bytes}
    try:
        return stated | step("score", place, runtime, program.label)
    except ClaimError as error:
        return stated | {"error": str(error)}


def fastest_plain(rows: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> int:
    """Raises ClaimError where no plain export runs."""
    plain = [index for index, row in enumerate(rows) if row["name"] in (PLAIN, AUTHORS)]
    if not plain:
        raise ClaimError("no plain export runs, so that there is nothing to compare with")
    return min(plain, key=lambda index: np.median(np.concatenate([np.ravel(each["times"][index]) for each in answers])))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
