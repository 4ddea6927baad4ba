"""What ran where: hosts, runtimes and packages."""

from collections import defaultdict
from collections.abc import Sequence

from convert.registry import TARGETS
from edgevit.images import printable
from edgevit.report import cells
from edgevit.report.document import Cell, Column, Group, Row, Section, Table
from edgevit.report.hosts import Host, environments, host_of, hosts
from edgevit.report.record import Record
from edgevit.report.sources import Source

ON_MAC = "coreml on this Mac"  # as a manifest names Core ML's own prediction


def section(sources: Sequence[Source]) -> Section:
    tables = (*runtime_tables(sources), hosts_table(sources), packages_table(sources))
    return Section("places", "What ran where", (), tables)


def runtime_tables(sources: Sequence[Source]) -> list[Table]:
    """Of exports: a calibration has run on no target."""
    columns = (Column("version", True), Column("verified by", True), Column("timed"), Column("threads"), Column("runs"))
    groups = []
    for source in sources:
        timed = source.latencies()
        rows = [Row(name, runtime(source, name, target, timed.get(name))) for name, target in source.targets()]
        groups += [Group(source.label, tuple(rows))] if rows else []
    return [Table("runtimes", "Runtimes", "target", columns, tuple(groups))] if groups else []


def runtime(source: Source, name: str, target: Record, latency: Record | None) -> tuple[Cell, ...]:
    version = target.text("tool_version") if target.has("tool_version") else cells.NOTHING
    found = (cells.words("tool_version", version), cells.words("verified_by", verifier(source, name)))
    if latency is None:
        return (*found, cells.words("timed_on", "not timed"), cells.nothing("threads"), cells.nothing("runs"))
    device = cells.words("timed_on", latency.text("device"))
    return (*found, device, cells.whole(latency, "threads"), cells.whole(latency, "runs"))


def verifier(source: Source, name: str) -> str:
    """What ran the artifact for its parity: its runtime, or what stands in for one that needs a Mac."""
    if name not in TARGETS or not TARGETS[name].needs_macos:
        return "its runtime"
    on_mac = any(link.text("to") == ON_MAC for link in source.links())
    return "the reference evaluator" + (" and Core ML on a Mac" if on_mac else "")


def hosts_table(sources: Sequence[Source]) -> Table:
    columns = (
        Column("CPU", True),
        Column("INT8 instructions", True),
        Column("cores"),
        Column("memory, GB"),
        Column("system", True),
        Column("results", True),
    )
    found, users = hosts(sources), defaultdict[Host, list[str]](list)
    for label, environment in environments(sources):
        users[host_of(environment)].append(label)
    rows = tuple(Row(str(index + 1), described(host, users[host])) for index, host in enumerate(found))
    return Table("hosts", "Hosts", "host", columns, (Group(None, rows),))


def described(host: Host, labels: list[str]) -> tuple[Cell, ...]:
    return (
        cells.words("cpu", host.cpu),
        cells.words("int8", host.int8),
        Cell({"cores": host.cores}, str(host.cores)),
        Cell({"memory_mb": host.memory_mb}, f"{host.memory_mb / 1000:.1f}"),
        cells.words("os", host.os),
        Cell({"results": labels}, ", ".join(labels)),
    )


def packages_table(sources: Sequence[Source]) -> Table:
    """Python and packages; results that were made with the same are told of once."""
    users: defaultdict[tuple[tuple[str, str | None], ...], list[str]] = defaultdict(list)
    for label, environment in environments(sources):
        packages = environment.record("packages")
        versions = [(printable(name), packages.text(name) if packages.has(name) else None) for name in packages.value]
        users[(("python", environment.text("python")), *versions)].append(label)
    groups = tuple(
        Group(
            ", ".join(labels),
            tuple(Row(name, (Cell({"version": found}, found or "not installed"),)) for name, found in versions),
        )
        for versions, labels in users.items()
    )
    return Table("packages", "Packages", "package", (Column("version", True),), groups, shown=0)
