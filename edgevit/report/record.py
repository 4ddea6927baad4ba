"""A JSON object that lies on disk, read strictly: what is missing or of another type is named with its file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgevit.errors import InputError
from edgevit.images import printable

LARGEST = 1e15  # in size, of a number that measures something


class Record:
    """An object of ``file``; ``where`` is its place in there, and ``mend`` what to do if it is damaged.

    Every method that takes a key raises InputError if it is missing, or not what the method is named after. Text is
    given as it may be shown: on one line, with control characters spelled out.
    """

    def __init__(self, value: Any, file: Path, mend: str, where: str = "") -> None:
        self.file, self.mend, self.where = file, mend, where
        if not isinstance(value, dict):
            raise self.wrong(where, value, "an object")
        self.value: Mapping[str, Any] = value

    def wrong(self, place: str, value: Any, expected: str) -> InputError:
        shown = printable(" ".join(str(value).split()))
        shown = shown if len(shown) <= 40 else f"{shown[:39]}…"
        named = printable(place) or "it"
        return InputError(f"{self.file}: {named} is {shown} where {expected} is needed: {self.mend}")

    def place(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def has(self, key: str) -> bool:
        """Whether there is something other than null."""
        return self.value.get(key) is not None

    def get(self, key: str) -> Any:
        if key not in self.value:
            raise InputError(f"{self.file}: {printable(self.place(key))} is missing: {self.mend}")
        return self.value[key]

    def number(self, key: str) -> float:
        return self.checked_number(self.get(key), self.place(key))

    def checked_number(self, value: Any, place: str) -> float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
        if not fits:  # NaN compares with nothing
            raise self.wrong(place, value, "a number")
        return float(value)

    def whole(self, key: str) -> int:
        return self.checked_whole(self.get(key), self.place(key))

    def checked_whole(self, value: Any, place: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST:
            raise self.wrong(place, value, "a whole number")
        return value

    def truth(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.wrong(self.place(key), value, "true or false")
        return value

    def text(self, key: str) -> str:
        return self.checked_text(self.get(key), self.place(key))

    def checked_text(self, value: Any, place: str) -> str:
        if not isinstance(value, str):
            raise self.wrong(place, value, "text")
        return printable(" ".join(value.split()))

    def entries(self, key: str) -> list[Any]:
        value = self.get(key)
        if not isinstance(value, list):
            raise self.wrong(self.place(key), value, "a list")
        return value

    def texts(self, key: str) -> list[str]:
        return [
            self.checked_text(value, f"{self.place(key)}[{index}]") for index, value in enumerate(self.entries(key))
        ]

    def numbers(self, key: str) -> list[float]:
        return [
            self.checked_number(value, f"{self.place(key)}[{index}]") for index, value in enumerate(self.entries(key))
        ]

    def wholes(self, key: str) -> list[int]:
        return [
            self.checked_whole(value, f"{self.place(key)}[{index}]") for index, value in enumerate(self.entries(key))
        ]

    def interval(self, key: str) -> tuple[float, float]:
        """Its two ends, the lower first."""
        ends = self.numbers(key)
        if len(ends) != 2 or ends[0] > ends[1]:
            raise self.wrong(self.place(key), self.get(key), "an interval, its lower end first,")
        return ends[0], ends[1]

    def record(self, key: str) -> "Record":
        return Record(self.get(key), self.file, self.mend, self.place(key))

    def records(self, key: str) -> list["Record"]:
        """Of a list of objects."""
        return [
            Record(value, self.file, self.mend, f"{self.place(key)}[{index}]")
            for index, value in enumerate(self.entries(key))
        ]

    def items(self, key: str) -> Iterator[tuple[str, "Record"]]:
        """Of an object of objects: each with its name."""
        inner = self.record(key)
        for name in inner.value:
            yield printable(name), inner.record(name)

    def counts(self, key: str) -> dict[str, int]:
        """Of an object of whole numbers."""
        inner = self.record(key)
        return {printable(name): inner.whole(name) for name in inner.value}
