"""Pieces of a drawing. Each has a colour of its own, and a class by which the page gives it another in the dark."""

from html import escape

ROLES = {  # on white
    "ink": "#222222",
    "muted": "#57606a",
    "rule": "#d0d7de",
    "paper": "#ffffff",
    "accent": "#3465a4",
    "second": "#b35c00",
}
LETTER = 0.6  # of a monospaced letter's size: how wide it is


def drawing(width: float, height: float, title: str, parts: list[str]) -> str:
    """A whole SVG; ``title`` says what it shows to those who do not see it."""
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}" font-family="monospace">',
            *parts,
            "</svg>",
            "",
        )
    )


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 12, role: str = "ink") -> str:
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} {filled(role)} xml:space="preserve">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, role: str = "muted", width: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} class="{role}-line" stroke="{ROLES[role]}" stroke-width="{width:g}"/>'


def rectangle(x: float, y: float, width: float, height: float, role: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {filled(role)}/>'


def dot(x: float, y: float, radius: float, role: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" {filled(role)}/>'


def ring(x: float, y: float, radius: float, role: str) -> str:
    stroke = f'stroke="{ROLES[role]}" stroke-width="1.5"'
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{role}-line paper" fill="{ROLES["paper"]}" {stroke}/>'
    )


def group(title: str, parts: list[str]) -> str:
    """Parts that belong together, and what a pointer that rests on them is told."""
    return f"<g><title>{escape(title)}</title>{''.join(parts)}</g>"


def filled(role: str) -> str:
    return f'class="{role}" fill="{ROLES[role]}"'


def shortened(name: str, letters: int) -> str:
    """Without its middle, if it is long: both ends tell names apart."""
    half = letters // 2
    return name if len(name) <= letters else f"{name[: letters - half - 1]}…{name[-half:]}"
