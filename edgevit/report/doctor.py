"""What ``edgevit doctor`` found, for a person."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgevit.bench.local import INT8_FLAGS
from edgevit.doctor import NAME, Health, Package, TargetState


def doctor_report(health: Health) -> RenderableType:
    """The host, the targets, the packages, and what is to be mended."""
    parts: list[RenderableType] = [*map(Text, host_lines(health)), target_table(health.targets)]
    parts += [Text(note) for target in health.targets if (note := target_note(target)) is not None]
    parts.append(package_table(health))
    problems = health.problems()
    parts += [Text(f"problem: {problem}", style="red") for problem in problems]
    return Group(*parts, *([] if problems else [Text("everything installed is well", style="green")]))


def host_lines(health: Health) -> list[str]:
    host, python, cache = health.host, health.python, health.cache
    known = "this system does not tell" if host["int8_flags"] is None else f"none of {', '.join(INT8_FLAGS)}"
    state = "writable" if cache["writable"] else "cannot be written to: official weights need another EDGEVIT_CACHE"
    return [
        f"edgevit {health.edgevit}, Python {python.version} ({python.known_good})",
        f"{host['os']}; {host['cpu']}, {host['cores']} cores, {host['memory_mb'] / 1000:.1f} GB",
        f"instructions for INT8: {', '.join(host['int8_flags'] or [known])}",
        f"cache {cache['path']}: {state}",
        *(f"bundled {kind}: {', '.join(files) or 'none'}" for kind, files in health.bundled.items()),
    ]


def target_table(targets: list[TargetState]) -> Table:
    table = titled("Targets")
    for column in ("target", "runtime", "version", "known to work", "exports", "runs", "verifies"):
        table.add_column(column)
    for target in targets:
        able = (target.exports, target.runs, target.verified_by is not None)
        known = (target.name, target.package, target.version or "-", target.known_good or "-")
        table.add_row(*map(Text, known), *("yes" if answer else "no" for answer in able))
    return table


def target_note(target: TargetState) -> str | None:
    """How to get what is missing, and where an artifact runs that does not run here."""
    if not target.installed:
        return f"{target.name} is not installed: {target.install}"
    if target.exports and not target.runs:
        return f"{target.name} runs on macOS only; here its reference evaluator verifies it"
    return None


def package_table(health: Health) -> Table:
    table = titled("Packages")
    for column in ("package", "version", "known to work", "of", ""):
        table.add_column(column)
    for package in health.packages:
        table.add_row(*map(Text, package_cells(package)))
    return table


def package_cells(package: Package) -> tuple[str, ...]:
    state = "not installed" if package.version is None else "" if package.in_range else "outside"
    return package.name, package.version or "-", package.known_good, package.target or NAME, state


def titled(title: str) -> Table:
    return Table(title=f"\n{title}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
