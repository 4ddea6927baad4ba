"""Where an operator without a name of its own stands: before or after the nearest one that has one.

Runtimes insert, fuse and split operators as they like, and exporters number what is no module. What such an operator
costs helps nobody who cannot find it in the model.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence

Values = Collection[Hashable]


def placed(names: Sequence[str | None], reads: Sequence[Values], writes: Sequence[Values]) -> list[str]:
    """Names for all operators, given the values that each reads and writes.

    One that feeds a module as closely as it follows another stands before it; one that no path joins to a module has
    the empty name.
    """
    producers = {value: index for index, values in enumerate(writes) for value in values}
    before: defaultdict[int, list[int]] = defaultdict(list)
    after: defaultdict[int, list[int]] = defaultdict(list)
    for index, values in enumerate(reads):
        for value in values:
            if value in producers:
                before[index].append(producers[value])
                after[producers[value]].append(index)
    return [place(index, names, before, after) if name is None else name for index, name in enumerate(names)]


def place(
    index: int, names: Sequence[str | None], before: Mapping[int, list[int]], after: Mapping[int, list[int]]
) -> str:
    """Step by step in both directions, until one of them reaches an operator with a name."""
    fronts = {"before": [index], "after": [index]}
    steps = {"before": after, "after": before}
    seen = {index}
    while any(fronts.values()):
        for word, front in fronts.items():
            reached = list(dict.fromkeys(n for i in front for n in steps[word].get(i, []) if n not in seen))
            seen.update(reached)
            fronts[word] = reached
            found = next((names[n] for n in reached if names[n] is not None), None)
            if found is not None:
                return f"{word} {found}"
    return ""
