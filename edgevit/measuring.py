"""Parity and latency of what was lowered: measured alike by an export and by its verification."""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch.fx import GraphModule

from calibrate.program import QuantizedProgram
from convert.registry import TARGETS
from convert.target import RunAll, Target, readable
from edgevit import artifact
from edgevit.bench import protocol
from edgevit.lowering import FLOAT, UNPRUNED, Lowered, Lowering
from edgevit.options import Options
from edgevit.steps import BATCH, Progress, Subject
from edgevit.verify import parity
from edgevit.verify.parity import Limits, Link, Logits, Outputs, Predicted, Stage
from edgevit.verify.replay import replay


@dataclass(frozen=True)
class Latency:
    """An artifact beside its float twin and, where it prunes tokens, beside itself keeping them all."""

    float: protocol.Comparison
    unpruned: protocol.Comparison | None


def measure_parity(
    options: Options,
    subject: Subject,
    folded: GraphModule,
    quantized: QuantizedProgram | None,
    lowered: Mapping[str, Lowered],
    progress: Progress,
) -> list[Link]:
    """Every link of the chain, and each artifact against the original."""
    images, preprocess = subject.images.scored, subject.weights.preprocess
    chain = chain_of(subject, folded, quantized)
    artifacts = [
        Stage(name, artifact_run(entry, options.threads, options.batch), max(entry.module.BATCH, options.batch))
        for name, entry in lowered.items()
    ]
    stages = [*chain, *artifacts, *mac_stages(lowered)]
    with progress("parity", len(images)) as advance:
        outputs = parity.predict(stages, images, preprocess, advance)
    with progress(f"self-noise: {stages[0].name}", None):
        noise = {stages[0].name: parity.noise_floor(stages[0], images, preprocess, options.seed)}
    for stage in stages[1:]:
        with progress(f"self-noise: {stage.name}", None):
            noise[stage.name] = parity.self_noise(stage, images, preprocess, options.seed)

    def link(from_: Stage, to: Stage, limits: Limits) -> Link:
        own, kept, reference = outputs[from_.name], outputs[to.name].kept, None
        if from_.replay is not None and kept is not None:
            with progress(f"tokens: {from_.name} → {to.name}", None):
                reference = parity.forced(from_, own, kept, images, preprocess)
        precision = "fp32" if to.name == parity.FOLDED else options.quant
        ends = ((from_.name, own), (to.name, outputs[to.name]))
        return parity.link(*ends, noise[to.name], images.labels(), limits, reference, precision)

    limits = options.limits(noise[parity.ORIGINAL])
    exact = parity.EXACT if options.trained else parity.EXACT_UNTRAINED
    links = [link(chain[0], chain[1], parity.above_noise(exact, noise[parity.ORIGINAL]))]
    links += [link(chain[1], stage, limits) for stage in chain[2:]]
    links += [link(chain[-1], stage, limits) for stage in artifacts]
    links += [link(chain[0], stage, limits) for stage in artifacts]
    if stages[-1].name == parity.ON_MAC:
        if options.classifier:  # on a Mac it gives probabilities
            outputs["coreml"] = Predicted("coreml", (softmax(outputs["coreml"].logits),))
        links.append(link(stages[len(chain) + list(lowered).index("coreml")], stages[-1], limits))
    return links


def chain_of(subject: Subject, folded: GraphModule, quantized: QuantizedProgram | None) -> list[Stage]:
    """What the artifacts are lowered from, and what that was made from."""
    programs: list[tuple[str, Callable[[torch.Tensor], Any], GraphModule]] = [
        (parity.ORIGINAL, subject.model, fx.symbolic_trace(subject.model)),
        (parity.FOLDED, folded, folded),
    ]
    if quantized is not None:
        programs.append((parity.QUANTISED, quantized.outputs, quantized.module))
    return [
        Stage(name, torch_run(run), BATCH, torch_replay(traced) if subject.pruned else None)
        for name, run, traced in programs
    ]


def mac_stages(lowered: Mapping[str, Lowered]) -> list[Stage]:
    """Core ML itself, beside the evaluator that stands in for it elsewhere."""
    if "coreml" not in lowered or platform.system() != "Darwin":
        return []
    from convert import coreml

    predict = coreml.predict(lowered["coreml"].folder)
    return [Stage(parity.ON_MAC, lambda x: (predict(x),))]


def softmax(logits: Logits) -> Logits:
    probabilities: Logits = torch.from_numpy(logits).softmax(-1).numpy()
    return probabilities


def torch_run(model: Callable[[torch.Tensor], torch.Tensor | tuple[torch.Tensor, ...]]) -> parity.Run:
    @torch.no_grad()
    def run(x: NDArray[np.float32]) -> Outputs:
        outputs = model(torch.from_numpy(x))
        return tuple(output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))

    return run


def torch_replay(module: GraphModule) -> parity.Replay:
    @torch.no_grad()
    def run(x: NDArray[np.float32], kept: Sequence[NDArray[np.int64]]) -> Outputs:
        outputs = replay(module, torch.from_numpy(x), [torch.from_numpy(ids) for ids in kept])
        return tuple(output.numpy() for output in outputs)

    return run


def artifact_run(lowered: Lowered, threads: int, batch: int = 1) -> parity.Run:
    """An artifact as a function; where tokens are pruned, with those that the same program says it kept.

    One that takes a ``batch`` of several images gets fewer with the last of them repeated.
    Raises ClaimError if its runtime cannot load or run it.
    """
    runtime = lowered.module.load(lowered.folder, threads)
    selection: RunAll = lambda x: ()  # noqa: E731
    if lowered.selection is not None:
        selection = lowered.module.load_all(lowered.selection, threads)

    def run(x: NDArray[np.float32]) -> Outputs:
        images = x if batch == 1 else np.concatenate([x, np.repeat(x[-1:], batch - len(x), axis=0)])
        with readable(lowered.folder):
            outputs = (runtime(images), *selection(images)[1:])
        return tuple(output[: len(x)] for output in outputs)

    return run


def measure_latency(
    options: Options, subject: Subject, lowered: Mapping[str, Lowered], lowering: Lowering, progress: Progress
) -> dict[str, Latency]:
    """Each artifact against the same target's twins, once nothing else runs.

    A target whose runtime is not on this host is left out: an evaluator's time says nothing about a device's.
    """
    write_twins({name: entry.module for name, entry in lowered.items()}, lowering, progress)
    x = subject.example.numpy()
    latency = {}
    for name, entry in lowered.items():
        if TARGETS[name].needs_macos:
            continue
        comparisons = {}
        for role in lowering.twins_of(name):
            with progress(f"latency: {name} and its {role}", None):
                comparisons[role] = compared(options, entry, lowering.folder_of(role, name), x)
        latency[name] = Latency(comparisons[FLOAT], comparisons.get(UNPRUNED))
    return latency


def write_twins(modules: Mapping[str, Target], lowering: Lowering, progress: Progress) -> None:
    """Have every program written that the artifacts of these targets are compared with in size and speed."""
    for name, module in modules.items():
        for role in lowering.twins_of(name):
            with progress(f"{role}: {name}", None):
                lowering.write(role, name, module)


def float_bytes(names: Iterable[str], lowering: Lowering) -> dict[str, int]:
    """Sizes of the float twins, which are written."""
    folders = {name: lowering.folder_of(FLOAT, name) for name in names}
    return {name: artifact.describe_files(folder)["bytes"] for name, folder in folders.items() if folder.is_dir()}


def compared(options: Options, entry: Lowered, twin: Path, x: NDArray[np.float32]) -> protocol.Comparison:
    run, twin_run = (entry.module.load(folder, options.threads) for folder in (entry.folder, twin))
    return protocol.compare(lambda: run(x), lambda: twin_run(x), runs=options.runs, seed=options.seed)
