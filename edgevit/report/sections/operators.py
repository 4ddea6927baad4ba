"""What runs in INT8 and what in float, as each artifact was counted when it was opened again; and its scales."""

from collections.abc import Sequence

from edgevit.report import cells
from edgevit.report.document import Cell, Column, Group, Row, Section, Table
from edgevit.report.record import Record
from edgevit.report.sections.results import delivered
from edgevit.report.sources import Source
from edgevit.report.words import arithmetic

FEW = 3  # names that are shown of more
CENSUS = "what only moves data is left out here; portable: kernels outside the partitions"
GRID = "scales and zero points read back from the file; dropped: no kernel of that runtime would use them"


def section(sources: Sequence[Source]) -> Section | None:
    exports = [source for source in sources if source.exported]
    if not exports:
        return None
    tables = (census_table(exports), *grid_tables(exports), kinds_table(exports))
    return Section("operators", "Operators and scales", (), tables)


def census_table(exports: Sequence[Source]) -> Table:
    columns = (
        Column("INT8"),
        Column("in INT8", True),
        Column("in float", True),
        Column("partitions"),
        Column("portable"),
    )
    groups = tuple(
        Group(source.label, tuple(Row(name, census(target.record("census"))) for name, target in source.targets()))
        for source in exports
    )
    return Table("operators", "Operators", "target", columns, groups, CENSUS)


def census(found: Record) -> tuple[Cell, ...]:
    int8, in_float = found.counts("int8"), found.counts("float")
    partitions, portable = cells.nothing("partitions"), cells.nothing("portable")
    if found.has("partitions"):
        kernels = found.counts("portable")
        partitions, portable = cells.whole(found, "partitions"), Cell({"portable": kernels}, str(sum(kernels.values())))
    return (
        delivered(found),
        Cell({"int8": int8}, arithmetic(int8)),
        Cell({"float": in_float}, arithmetic(in_float)),
        partitions,
        portable,
    )


def kinds_table(exports: Sequence[Source]) -> Table:
    """All kinds: too many for the table that is read first."""
    columns = (Column("in INT8", True), Column("in float", True), Column("portable kernels", True))
    groups = tuple(
        Group(source.label, tuple(Row(name, every_kind(target.record("census"))) for name, target in source.targets()))
        for source in exports
    )
    return Table("operator_kinds", "Operators of every kind", "target", columns, groups, shown=0)


def every_kind(found: Record) -> tuple[Cell, ...]:
    portable = found.counts("portable") if found.has("portable") else {}
    counts = (("int8", found.counts("int8")), ("float", found.counts("float")), ("portable", portable))
    return tuple(Cell({key: kinds}, cells.counted(kinds)) for key, kinds in counts)


def grid_tables(exports: Sequence[Source]) -> list[Table]:
    """Of the exports that have a grid."""
    columns = (Column("tensors"), Column("on the program's grid", True), Column("dropped"))
    groups = []
    for source in exports:
        rows = [Row(name, grid(target.record("grid"))) for name, target in source.targets() if target.has("grid")]
        groups += [Group(source.label, tuple(rows))] if rows else []
    return [Table("grid", "Scales and zero points", "target", columns, tuple(groups), GRID)] if groups else []


def grid(found: Record) -> tuple[Cell, ...]:
    compared, matches, differing = (
        cells.whole(found, "tensors_compared"),
        found.truth("matches"),
        found.texts("differing"),
    )
    named = ", ".join(differing[:FEW]) + (f" and {len(differing) - FEW} more" if len(differing) > FEW else "")
    equal = Cell({"matches": matches, "differing": differing}, "all" if matches else f"not {named}", not matches)
    dropped = found.texts("dropped")
    return compared, equal, Cell({"dropped": dropped}, str(len(dropped)))
