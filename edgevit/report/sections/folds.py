"""The exact rewrites of the float model, and what each changed of its logits."""

from collections.abc import Sequence

from edgevit.report import cells
from edgevit.report.document import Cell, Column, Group, Row, Section, Table
from edgevit.report.record import Record
from edgevit.report.sources import Source

COLUMNS = (Column("applied"), Column("largest error"), Column("left alone", True))
NOTE = "largest error: absolute, of the logits; left alone: where a rule would not be exact"


def section(sources: Sequence[Source]) -> Section:
    groups = tuple(
        Group(source.label, tuple(Row(rule.text("rule"), fold(rule)) for rule in source.record.records("fold")))
        for source in sources
    )
    return Section("folds", "Folds", (), (Table("folds", "Fold rules", "rule", COLUMNS, groups, NOTE),))


def fold(rule: Record) -> tuple[Cell, ...]:
    count, skipped = cells.whole(rule, "count"), rule.counts("skipped")
    error = cells.number(rule, "max_abs_error", ".1e")
    if rule.number("max_abs_error") == 0:
        error = Cell(error.data, "0" if rule.whole("count") else cells.NOTHING)
    return count, error, Cell({"skipped": skipped}, cells.counted(skipped) if skipped else cells.NOTHING)
