"""Folders → what a report says of them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgevit.report.document import Failure, Report, Result, Section
from edgevit.report.hosts import hosts
from edgevit.report.record import Record
from edgevit.report.sections import (
    bench,
    chain,
    devices,
    folds,
    latency,
    making,
    operators,
    parity,
    places,
    results,
    sensitivity,
    sizes,
)
from edgevit.report.sources import Source, opened

SECTIONS: tuple[Callable[[Sequence[Source]], Section | None], ...] = tuple(
    module.section
    for module in (results, parity, latency, bench, devices, operators, sensitivity, folds, sizes, making, places)
)


def report(folders: Sequence[Path]) -> Report:
    """Of distinct folders, exports and calibrations, in their order.

    Raises InputError for a folder that is neither, and for damaged ones, with the file and what is wrong in it.
    """
    sources = opened(folders)
    return Report(
        title(sources),
        tuple(map(result, sources)),
        tuple(failure for source in sources for failure in failures(source)),
        tuple(notices(sources)),
        tuple(found for section in SECTIONS if (found := section(sources)) is not None),
    )


def title(sources: Sequence[Source]) -> str:
    return sources[0].label if len(sources) == 1 else f"{len(sources)} results"


def result(source: Source) -> Result:
    model, weights = source.record.record("model"), source.record.record("model").record("weights")
    kind = "export" if source.exported else "calibration"
    targets = ", ".join(name for name, _ in source.targets())
    about = f"{model.text('name')}, {mode(source)}, {making.last_part(weights.text('source'))} weights"
    return Result(
        source.label, kind, str(source.folder), f"{kind} of {about}" + (f", for {targets}" if targets else "")
    )


def failures(source: Source) -> Iterator[Failure]:
    for failure in source.record.texts("failures"):
        yield Failure(source.label, failure)
    if source.bench is not None:
        for failure in source.bench.texts("failures"):
            yield Failure(f"{source.label}, timed again", failure)


def notices(sources: Sequence[Source]) -> Iterator[str]:
    """What makes numbers of these results mean less than they seem to, or not compare."""
    several = hosts(sources)
    if len(several) > 1:
        yield f"These results come from {len(several)} hosts: milliseconds are compared within one host only."
    for source in sources:
        yield from (
            f"{source.label}: {note}." for note in source.record.record("model").record("weights").texts("notes")
        )
        if not chain.labelled(source):
            yield f"{source.label}: its images have no labels, so there is no top-1."
        for name, timed in source.latencies().items():
            yield from (f"{source.label}, {name}: {note}." for note in timing_notes(timed, mode(source)))


def mode(source: Source) -> str:
    return source.record.record("quant").text("mode")


def timing_notes(timed: Record, mode: str) -> Iterator[str]:
    if not timed.truth("steady"):
        yield "the machine was not steady when it was timed"
    if mode == "int8" and timed.interval("speedup_ci95")[1] < 1:
        yield f"slower than its float twin, {timed.number('speedup'):.2f} times as fast"
    if timed.has("pruning_speedup") and timed.interval("pruning_speedup_ci95")[1] < 1:
        yield f"pruning tokens makes it slower, {timed.number('pruning_speedup'):.2f} times as fast"
