"""Android's platform as NativeScript declares it in TypeScript, and classes of Java in the same words.

TypeScript has one kind of number, `number` for `int` and `float`, and one of text, `string` for `CharSequence` too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.apps.outside import npm, program, run

NUMBERS = set("BCDFIJS")
WORDS = {
    "java.lang.String": "string",
    "java.lang.CharSequence": "string",
    "java.lang.Object": "any",
    "V": "void",
    "Z": "boolean",
}


@dataclass(frozen=True)
class Member:
    """``parameters`` is None for a field; ``kind`` is the type of it or of what it returns, "" of a constructor."""

    name: str
    static: bool
    parameters: tuple[str, ...] | None
    kind: str
    since: int = field(default=0, compare=False)


@dataclass
class Class:
    parent: str
    members: set[Member] = field(default_factory=set)


def platform() -> dict[str, Class]:
    """Android 37's classes by name; a member's ``since`` is its class's where that is later."""
    folder = npm("@nativescript/types-android", "9.1.1") / "lib" / "android"
    classes: dict[str, Class] = {}
    outer: list[tuple[str, int]] = []  # the modules and classes around a line, and since when
    since = 0
    for line in (folder / "android-platform-37.d.ts").read_text().splitlines():
        line = line.strip()
        if found := re.search(r"@since (\d+)", line):
            since = int(found[1])
        elif line.startswith(("/*", "*")) or not line:
            continue
        elif line == "}":
            outer.pop()
        elif found := re.match(r"(?:declare|export) (?:abstract )?(module|class) (\w+)(?:<.*?>)?(.*) \{$", line):
            enclosing, earlier = outer[-1] if outer else ("", 0)
            name = f"{enclosing}.{found[2]}".lstrip(".")
            outer.append((name, max(since, earlier)))
            if found[1] == "class":
                parent = re.search(r"extends ([\w.]+)", found[3])
                classes[name] = Class(parent[1] if parent else "")
            since = 0
        else:
            if outer and outer[-1][0] in classes and (member := declared(line, max(since, outer[-1][1]))):
                classes[outer[-1][0]].members.add(member)
            since = 0
    return classes


def declared(line: str, since: int) -> Member | None:
    """A member of a line of TypeScript."""
    found = re.match(r"public (static )?(\w+)(?:<[^(]*>)?(?:\((.*)\))?(?:: (.*))?;$", re.sub(r" /\*.*?\*/", "", line))
    if found is None:
        return None
    static, name, parameters, kind = found.groups()
    if parameters is None:
        return Member(name, bool(static), None, simple(kind), since)
    kinds = tuple(simple(part.split(": ", 1)[1]) for part in split(parameters))
    return Member(name, bool(static), kinds, "" if name == "constructor" else simple(kind), since)


def split(parameters: str) -> Iterator[str]:
    """At the commas outside of brackets."""
    depth, start = 0, 0
    for place, character in enumerate(parameters):
        depth += (character in "<({") - (character in ">)}")
        if character == "," and depth == 0:
            yield parameters[start:place]
            start = place + 1
    if parameters:
        yield parameters[start:]


def simple(kind: str) -> str:
    """A type without what Java's class files do not tell; a constant's value is its type."""
    kind = kind.replace(" | null", "").strip()
    if kind.startswith("androidNative.Array<"):
        return simple(kind[len("androidNative.Array<") : -1]) + "[]"
    if kind.startswith('"'):
        return "string"
    if re.fullmatch(r"-?[\d.e+-]+", kind):
        return "number"
    return re.sub(r"<.*>", "", kind)


def compiled(folder: Path) -> Iterator[tuple[str, Member]]:
    """Every class's name and member, public or protected, of a folder of class files."""
    files = sorted(str(path) for path in folder.rglob("*.class"))
    text = run([program("javap", "openjdk-17-jdk-headless"), "-protected", "-s", *files])
    name = ""
    lines = iter(text.splitlines())
    for line in lines:
        if found := re.match(r"(?:.* )?(?:class|interface) ([\w.$]+)", line):
            name = found[1].replace("$", ".")
        elif re.match(r"  \w", line):
            descriptor = next(lines).split("descriptor: ")[1]
            parameters, kind = kinds(descriptor)
            called = re.search(r"([\w.$]+)(?:\(.*\).*)?;$", line)
            assert called is not None, line
            own = "constructor" if called[1].replace("$", ".") == name else called[1]
            yield name, Member(own, " static " in line, parameters, "" if own == "constructor" else kind)


def kinds(descriptor: str) -> tuple[tuple[str, ...] | None, str]:
    """The types of a class file's descriptor: of the parameters, None of a field, and of the rest."""
    inside, _, after = descriptor.rpartition(")")
    types = [word(found) for found in re.findall(r"\[*(?:L[^;]+;|\w)", inside.lstrip("("))]
    return (tuple(types) if inside else None), word(after)


def word(descriptor: str) -> str:
    if descriptor.startswith("["):
        return word(descriptor[1:]) + "[]"
    name = descriptor[1:-1].replace("/", ".").replace("$", ".") if descriptor.startswith("L") else descriptor
    return "number" if name in NUMBERS else WORDS.get(name, name)
