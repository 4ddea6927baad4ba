"""What each step of the chain kept, beside what the program is worth to itself and what was asked."""

from collections.abc import Sequence

from edgevit.report import cells
from edgevit.report.cells import joined
from edgevit.report.charts import intervals
from edgevit.report.charts.axis import axis
from edgevit.report.charts.intervals import Line
from edgevit.report.document import Cell, Column, Figure, Group, Row, Section, Table
from edgevit.report.record import Record
from edgevit.report.sections import chain
from edgevit.report.sections.results import top1
from edgevit.report.sources import Source

FIDELITY = ("SQNR, dB\n(least)", "noise,\ndB", "same\n(least)")
ACCURACY = ("top-1, %", "points lost (95 %)", "most")
NOTE = (
    "in brackets what was asked; noise: self-noise floor, what moving the input by one part in a million does; "
    "same: equal top-1"
)
ANYTHING = 100  # points that may be lost: no limit
TOP1 = "on the same images, so the interval is that of pairs; most: what may be lost"
TOKENS = "share of equal tokens at each site; images that differ at any; SQNR and same: each with its own tokens"


def section(sources: Sequence[Source]) -> Section:
    """Every source has a chain."""
    groups = tuple(
        Group(source.label, tuple(Row(chain.step(link), fidelity(link)) for link in source.links()))
        for source in sources
    )
    table = Table("parity", "Parity, step by step", "step", tuple(map(Column, FIDELITY)), groups, NOTE)
    figures = (tuple(map(noise_figure, sources)), *lost_figures(sources))
    return Section("parity", "Parity", (), (table, *top1_tables(sources), *token_tables(sources)), figures)


def fidelity(link: Record) -> tuple[Cell, ...]:
    limits = link.record("limits")
    sqnr, least = cells.number(link, "sqnr_db", ".1f"), cells.number(limits, "min_sqnr_db", ".4g")
    broken = link.number("sqnr_db") < limits.number("min_sqnr_db")
    return (
        joined(sqnr, least, text=f"{sqnr.text} ({least.text})", broken=broken),
        cells.number(link, "self_noise_db", ".1f"),
        agreement(link, limits),
    )


def agreement(link: Record, limits: Record) -> Cell:
    same, least = cells.number(link, "top1_agreement", ".1%"), cells.number(limits, "min_agreement", ".4g")
    asked = limits.number("min_agreement")
    return joined(same, least, text=f"{same.text} ({100 * asked:.4g}%)", broken=link.number("top1_agreement") < asked)


def top1_tables(sources: Sequence[Source]) -> list[Table]:
    """Of those whose images have labels."""
    groups = tuple(
        Group(source.label, tuple(Row(chain.step(link), accuracy(link)) for link in source.links()))
        for source in sources
        if chain.labelled(source)
    )
    columns = tuple(map(Column, ACCURACY))
    return [Table("top1", "Top-1, step by step", "step", columns, groups, TOP1)] if groups else []


def accuracy(link: Record) -> tuple[Cell, ...]:
    limits = link.record("limits")
    drop, ends = link.number("top1_drop"), link.interval("top1_drop_ci95")
    words, broken = f"{drop:.1f} {cells.interval(ends, '.1f')}", drop > limits.number("max_drop")
    lost = Cell({"top1_drop": drop, "top1_drop_ci95": list(ends)}, words, broken)
    return top1(link), lost, cells.number(limits, "max_drop", "g")


def noise_figure(source: Source) -> Figure:
    """SQNR with the self-noise floor as a ring and the limit as a stroke; the exact fold is left to the table."""
    lines = []
    for link in source.links():
        if link.text("to") == chain.FOLDED:
            continue
        sqnr, noise = link.number("sqnr_db"), link.number("self_noise_db")
        least = link.record("limits").number("min_sqnr_db")
        lines.append(Line(chain.step(link), f"{sqnr:.1f} dB", sqnr, mark=least, other=noise))
    name = "SQNR, dB: ring, self-noise; stroke, least"
    scale = axis(name, [0, *(number for entry in lines for number in entry.numbers())])
    return Figure(
        f"{source.label}: SQNR after the fold",
        intervals.chart(f"SQNR of each step of {source.label} after the fold", lines, scale),
    )


def lost_figures(sources: Sequence[Source]) -> list[tuple[Figure, ...]]:
    """Points of top-1 that each artifact loses, on one scale for all."""
    lines = {source.label: lost(source) for source in sources}
    numbers = [number for entries in lines.values() for entry in entries for number in entry.numbers()]
    if not numbers:
        return []
    scale = axis("original → artifact, 95 %: stroke, most", [0, *numbers])
    figures = (
        Figure(
            f"{label}: points of top-1 lost",
            intervals.chart(f"Points of top-1 that the artifacts of {label} lose", entries, scale, reference=0),
        )
        for label, entries in lines.items()
        if entries
    )
    return [tuple(figures)]


def lost(source: Source) -> list[Line]:
    lines = []
    for name, _ in source.targets():
        link = chain.whole(source, name)
        if link is not None and link.has("top1_to"):
            drop, (low, high) = link.number("top1_drop"), link.interval("top1_drop_ci95")
            most = link.record("limits").number("max_drop")
            words = f"{drop:.1f} {cells.interval((low, high), '.1f')}"
            lines.append(Line(name, words, drop, low, high, mark=most if most < ANYTHING else None))
    return lines


def token_tables(sources: Sequence[Source]) -> list[Table]:
    """Of models that prune tokens: how far two steps keep the same ones, each deciding by itself."""
    columns = (Column("sites"), Column("images"), Column("SQNR, dB"), Column("same"))
    groups = []
    for source in sources:
        rows = [Row(chain.step(link), tokens(link)) for link in source.links() if link.has("tokens")]
        groups += [Group(source.label, tuple(rows))] if rows else []
    return [Table("tokens", "Tokens kept", "step", columns, tuple(groups), TOKENS)] if groups else []


def tokens(link: Record) -> tuple[Cell, ...]:
    shares, found = link.numbers("kept_token_overlap"), link.record("tokens")
    own = found.record("each_its_own")
    return (
        Cell({"kept_token_overlap": shares}, " · ".join(f"{share:.1%}" for share in shares)),
        cells.whole(found, "images_that_differ"),
        cells.number(own, "sqnr_db", ".1f"),
        cells.number(own, "top1_agreement", ".1%"),
    )
