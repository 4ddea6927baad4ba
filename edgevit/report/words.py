"""Words that every report puts things into."""

from collections.abc import Mapping

ARITHMETIC = ("conv", "linear", "matmul", "add")


def step(from_: str, to: str) -> str:
    """Of the parity chain."""
    return f"{from_} → {to}".replace("quantised program", "quantised")


def arithmetic(counts: Mapping[str, int]) -> str:
    """Of what does arithmetic: the rest moves data, and every runtime cuts that up in its own way."""
    return ", ".join(f"{counts[kind]} {kind}" for kind in ARITHMETIC if kind in counts) or "none"
