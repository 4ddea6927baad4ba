"""What a report says, before it is shown: the terminal, the page and ``--json`` all show this and nothing else.

Every place of a table holds its number twice, once for programs and once for people, made side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Cell:
    """``data`` is what ``--json`` gives, by name; ``text`` what a person reads; ``broken``: a claim does not hold."""

    data: Mapping[str, Any]
    text: str
    broken: bool = False

    @property
    def shown(self) -> str:
        """Marked by more than a colour, which not every reader has."""
        return f"{self.text} ✗" if self.broken else self.text


@dataclass(frozen=True)
class Column:
    heading: str  # the terminal breaks it where it has a line break
    words: bool = False  # which may break over lines, where numbers may not


@dataclass(frozen=True)
class Row:
    name: str
    cells: tuple[Cell, ...]  # one a column


@dataclass(frozen=True)
class Group:
    """Rows of one result, whose label they are under; of none where the label is None."""

    label: str | None
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """``first`` is what the rows are: the heading of their names.

    ``shown`` is how many rows of a group the terminal shows, all if it is None; the page folds the others' table.
    """

    key: str
    title: str
    first: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    note: str = ""
    shown: int | None = None

    def manifest(self) -> list[dict[str, Any]]:
        """An object a row."""
        return [
            {
                **({} if group.label is None else {"result": group.label}),
                self.first: row.name,
                **{name: value for cell in row.cells for name, value in cell.data.items()},
            }
            for group in self.groups
            for row in group.rows
        ]


@dataclass(frozen=True)
class Figure:
    """A drawing of numbers that a table has too; ``svg`` is markup, with all of its words escaped."""

    caption: str
    svg: str


@dataclass(frozen=True)
class Section:
    key: str
    title: str
    text: tuple[str, ...] = ()  # a paragraph each
    tables: tuple[Table, ...] = ()
    figures: tuple[tuple[Figure, ...], ...] = ()  # those that are one kind stand beside each other


@dataclass(frozen=True)
class Result:
    """An export or a calibration, in a line."""

    label: str
    kind: str
    folder: str
    about: str


@dataclass(frozen=True)
class Failure:
    label: str
    text: str


@dataclass(frozen=True)
class Report:
    """``failures`` are claims that do not hold, ``notices`` what a reader should know before comparing numbers."""

    title: str
    results: tuple[Result, ...]
    failures: tuple[Failure, ...]
    notices: tuple[str, ...]
    sections: tuple[Section, ...]

    def manifest(self) -> dict[str, Any]:
        """For ``--json``: tables by name, each a list of rows under the names that manifests use."""
        return {
            "schema": SCHEMA,
            "results": [
                {"result": result.label, "kind": result.kind, "folder": result.folder, "about": result.about}
                for result in self.results
            ],
            "failures": [{"result": failure.label, "failure": failure.text} for failure in self.failures],
            "notices": list(self.notices),
            "tables": {table.key: table.manifest() for section in self.sections for table in section.tables},
        }
