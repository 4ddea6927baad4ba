"""Divide a folder with a labels.csv: its rows 0, 2, 4, ... train and calibrate, its rows 1, 3, 5, ... are scored.

    python tools/halve.py SOURCE DESTINATION

Writes DESTINATION/labels.csv, which is SOURCE's with a column ``split``, and links to SOURCE's images beside it.
"""

import csv
import sys
from itertools import cycle
from pathlib import Path

from edgevit.errors import InputError
from edgevit.images import SPLITS, listed_file, open_images


def halve(source: Path, destination: Path) -> None:
    """Raises InputError unless ``source`` has an undivided labels.csv and ``destination`` is new."""
    if open_images(source).splits or not (source / "labels.csv").is_file():
        raise InputError(f"{source} has no labels.csv, or one with the column split: give a folder that is undivided")
    if destination.exists():
        raise InputError(f"{destination} is there already: name a new folder")
    with (source / "labels.csv").open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        columns, listed = list(rows.fieldnames or []), list(rows)
    for row, split in zip(listed, cycle(SPLITS), strict=False):
        row["split"] = split
        image = listed_file(source, row["file"])
        link = destination / image.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image.resolve())
    with (destination / "labels.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, [*columns, "split"])
        writer.writeheader()
        writer.writerows(listed)


if __name__ == "__main__":
    try:
        halve(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(f"halve.py: {error}")
