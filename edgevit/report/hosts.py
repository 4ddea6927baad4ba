"""Which results were timed on one machine, as far as their manifests tell."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgevit.report.record import Record
from edgevit.report.sources import Source


@dataclass(frozen=True)
class Host:
    os: str
    cpu: str
    int8: str
    cores: int
    memory_mb: int

    def __str__(self) -> str:
        return f"{self.cpu} ({self.int8}), {self.cores} cores, {self.memory_mb / 1000:.1f} GB, {self.os}"


def host_of(environment: Record) -> Host:
    """Of ``environment`` as manifests have it."""
    return Host(
        environment.text("os"),
        environment.text("cpu"),
        int8_of(environment),
        environment.whole("cores"),
        environment.whole("memory_mb"),
    )


def int8_of(environment: Record) -> str:
    """What its INT8 arithmetic is fast with; results of before that was asked do not tell."""
    if not environment.has("int8_flags"):
        return "INT8 instructions unknown"
    return ", ".join(environment.texts("int8_flags")) or "no INT8 instructions"


def environments(sources: Sequence[Source]) -> Iterator[tuple[str, Record]]:
    """Where each result was made and, if it was timed again, where that was."""
    for source in sources:
        yield source.label, source.record.record("environment")
        if source.bench is not None:
            yield f"{source.label}, timed again", source.bench.record("environment")


def hosts(sources: Sequence[Source]) -> list[Host]:
    """Each once, in the order of the sources."""
    return list(dict.fromkeys(host_of(environment) for _, environment in environments(sources)))
