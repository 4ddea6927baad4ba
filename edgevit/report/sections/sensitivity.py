"""What each quantised operator costs, where that was measured."""

from collections.abc import Iterator, Sequence
from typing import Any

from edgevit.report import cells
from edgevit.report.document import Cell, Column, Figure, Group, Row, Section, Table
from edgevit.report.record import Record
from edgevit.report.sensitivity import SIDES, svg
from edgevit.report.sources import Source

SHOWN = 10  # in the terminal
MOST_DB = 200  # equal logits are given
COLUMNS = (
    Column("kind", True),
    Column("alone, dB"),
    Column("same"),
    Column("spared, dB"),
    Column("same"),
    Column("noise"),
)
NOTE = (
    "alone: only it is quantised; spared: only it is in float; same: equal top-1; noise: the mean of what it adds "
    "first and last, as a share of the logits' power, negative where errors cancel"
)


def section(sources: Sequence[Source]) -> Section | None:
    measured = list(distinct(sources))
    if not measured:
        return None
    groups = tuple(Group(label, rows(record)) for label, record in measured)
    table = Table("sensitivity", "What each operator costs", "operator", COLUMNS, groups, NOTE, SHOWN)
    figures = tuple((Figure(f"{label}: what each operator costs", svg(plain(record))),) for label, record in measured)
    return Section(
        "sensitivity",
        "Sensitivity",
        tuple(f"{label}: {all_of(record)}." for label, record in measured),
        (table,),
        figures,
    )


def distinct(sources: Sequence[Source]) -> Iterator[tuple[str, Record]]:
    """Each measurement once: an export keeps a copy of the one that its calibration has."""
    found = [(source.label, source.sensitivity) for source in sources if source.sensitivity is not None]
    seen: list[object] = []
    for _, record in found:
        if record.value not in seen:
            seen.append(record.value)
            yield ", ".join(label for label, other in found if other.value == record.value), record


def all_of(record: Record) -> str:
    whole = record.record("quantised")
    sqnr, same = cells.number(whole, "sqnr_db", ".1f"), cells.number(whole, "top1_agreement", ".1%")
    count = len(record.records("operators"))
    images = record.whole("images")
    return f"all {count} operators quantised keep {sqnr.text} dB and {same.text} of the classes of {images} images"


def rows(record: Record) -> tuple[Row, ...]:
    return tuple(Row(operator.text("name"), cost(operator)) for operator in record.records("operators"))


def cost(operator: Record) -> tuple[Cell, ...]:
    return (
        cells.words("kind", operator.text("kind")),
        *side(operator, "alone"),
        *side(operator, "spared"),
        cells.number(operator, "noise", ".1e"),
    )


def plain(record: Record) -> dict[str, Any]:
    """As the chart takes it: checked, and without what cannot be shown."""
    operators = [
        {
            "name": operator.text("name"),
            "kind": operator.text("kind"),
            **{name: fidelity(operator, name) for name in SIDES},
        }
        for operator in record.records("operators")
    ]
    if not operators:
        raise record.wrong("operators", "empty", "at least one")
    return {"images": record.whole("images"), "quantised": fidelity(record, "quantised"), "operators": operators}


def fidelity(record: Record, key: str) -> dict[str, float]:
    found = record.record(key)
    sqnr = found.number("sqnr_db")
    if abs(sqnr) > MOST_DB:
        raise found.wrong(found.place("sqnr_db"), sqnr, f"an SQNR of at most {MOST_DB} dB")
    return {"sqnr_db": sqnr, "top1_agreement": found.number("top1_agreement")}


def side(operator: Record, name: str) -> tuple[Cell, Cell]:
    found = operator.record(name)
    sqnr, same = found.number("sqnr_db"), found.number("top1_agreement")
    return Cell({f"{name}_sqnr_db": sqnr}, f"{sqnr:.1f}"), Cell({f"{name}_top1_agreement": same}, f"{same:.1%}")
