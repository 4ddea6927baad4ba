"""The parity chain as manifests name it."""

from edgevit.report import words
from edgevit.report.record import Record
from edgevit.report.sources import Source

ORIGINAL, FOLDED = "original", "folded"


def step(link: Record) -> str:
    return words.step(link.text("from"), link.text("to"))


def whole(source: Source, target: str) -> Record | None:
    """The link from the original model to an artifact, over all steps."""
    ends = (ORIGINAL, target)
    return next((link for link in source.links() if (link.text("from"), link.text("to")) == ends), None)


def labelled(source: Source) -> bool:
    """Whether its images have labels, which top-1 needs."""
    return source.record.record("parity").truth("labels")
