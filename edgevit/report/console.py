"""A report as tables of the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from edgevit.report.document import Cell, Group, Report, Section, Table


def printed(report: Report) -> RenderableType:
    """What failed first, then every section."""
    parts: list[RenderableType] = [Text(f"{result.label}: {result.about}") for result in report.results]
    parts += [Text(f"failed: {failure.label}: {failure.text}", style="red") for failure in report.failures]
    parts += [] if report.failures else [Text("no failure was reported", style="green")]
    parts += map(Text, report.notices)
    for section in report.sections:
        parts += section_lines(section)
    return Lines(*parts)


def section_lines(section: Section) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(f"\n{paragraph}") for paragraph in section.text]
    for table in section.tables:
        if table.shown == 0:
            parts.append(Text(f"\n{table.title}: on the page and in --json"))
        else:
            parts += [drawn(table, group) for group in table.groups]
            parts += [Text(note)] if (note := "; ".join(filter(None, (table.note, left_out(table))))) else []
    return parts


def drawn(table: Table, group: Group) -> RichTable:
    """Of one result, which the title names: so much fits 80 columns."""
    title = table.title if group.label is None else f"{table.title}: {group.label}"
    rich = RichTable(
        title=Text(f"\n{title}"), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    rich.add_column(table.first, overflow="fold")
    for column in table.columns:
        if column.words:
            rich.add_column(column.heading, overflow="fold")
        else:
            rich.add_column(column.heading, justify="right", no_wrap=True)
    for row in group.rows[: table.shown]:
        rich.add_row(Text(row.name), *map(cell_text, row.cells))
    return rich


def cell_text(cell: Cell) -> Text:
    return Text(cell.shown, style="red" if cell.broken else "")


def left_out(table: Table) -> str:
    if table.shown is None:
        return ""
    count = sum(max(0, len(group.rows) - table.shown) for group in table.groups)
    return f"{count} more rows on the page and in --json" if count else ""
