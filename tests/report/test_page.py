"""The page: whole by itself, the same for the same, and nothing of a manifest is markup in it."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgevit.report import compose, console, page
from tests.report import subjects
from tests.report.test_terminal import shown

HOSTILE = "</title><script>alert('1')</script>\"'&<b onclick=x>"
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Parsed(HTMLParser):
    """Tags in their order, checked to be closed; the words; and every attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(html: str) -> Parsed:
    found = Parsed(html)
    assert found.open == []
    return found


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Everything that a report can show."""
    return [
        subjects.write(tmp_path / "pruned", manifest=subjects.pruned(), bench=subjects.bench("other")),
        subjects.write(tmp_path / "plain", manifest=subjects.manifest(labels=False)),
        subjects.write(tmp_path / "calib", calibration=subjects.making(), sensitivity=subjects.sensitivity()),
    ]


def hostile(value: Any) -> Any:
    """``value`` with markup after every text and every name that is not one of edgevit's own."""
    if isinstance(value, dict):
        own = {"executorch", "python", "packages", "quantised program", "original"}
        fixed = subjects.pruned().keys() | subjects.bench().keys() | own
        return {
            key if key in fixed or key in KEYS else f"{key}{HOSTILE}": entry if key in STRICT else hostile(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [hostile(entry) for entry in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(keys(entry) for entry in value.values()))
    return set().union(*(keys(entry) for entry in value)) if isinstance(value, list) else set()


STRICT = ("from", "to")
FREE = {"torch", "openvino", "grouped", "aten::topk", "conv", "linear", "reshape", "head", "stem"}
KEYS = (keys(subjects.pruned()) | keys(subjects.bench("x")) | keys(subjects.sensitivity())) - FREE


def test_it_needs_nothing_beside_it(folders: list[Path]) -> None:
    html = page.html(compose.report(folders))
    found = parsed(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "style")]
    hrefs = [value for name, value in found.attributes if name == "href"]
    assert hrefs
    assert all(value and value.startswith("#") for value in hrefs)
    assert html.count("http") == html.count('xmlns="http://www.w3.org/2000/svg"') + html.count("http-equiv")
    assert "url(" not in html
    assert "@import" not in html


def test_links_lead_somewhere_and_names_are_given_once(folders: list[Path]) -> None:
    found = parsed(page.html(compose.report(folders)))
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in found.attributes if name == "href" and value} <= set(ids)


def test_the_same_results_give_the_same_bytes(folders: list[Path]) -> None:
    first, second = (page.html(compose.report(folders)).encode() for _ in range(2))
    assert first == second
    assert page.MARK.encode() in first[:4096]


def test_nothing_of_a_manifest_is_markup(tmp_path: Path) -> None:
    files = {"manifest": subjects.pruned(), "bench": subjects.bench("other")}
    files["manifest"]["failures"] = ["a claim"]
    damaged = subjects.write(
        tmp_path / "<i>x&y", **{name: hostile(value) | {"schema": 1} for name, value in files.items()}
    )
    subjects.write(damaged / "calibration", sensitivity=hostile(subjects.sensitivity()))
    html = page.html(compose.report([damaged]))
    found = parsed(html)
    plain = subjects.write(tmp_path / "plain", **files)
    subjects.write(plain / "calibration", sensitivity=subjects.sensitivity())
    assert set(found.tags) == set(parsed(page.html(compose.report([plain]))).tags)
    words = "".join(found.words)
    assert words.count("<script>alert('1')</script>") > 20
    assert "<i>x&y" in words


def test_what_would_steer_a_terminal_or_turn_a_line_round_is_spelled_out(tmp_path: Path) -> None:
    manifest = subjects.manifest()
    manifest["model"]["name"] = "m0\x1b[31m\u202e"
    report = compose.report([subjects.write(tmp_path / "m0\x07", manifest=manifest)])
    for text in (page.html(report), shown(console.printed(report)), str(report.manifest())):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        assert "\\x1b[31m" in text


def test_every_number_of_a_table_is_on_the_page(folders: list[Path]) -> None:
    report = compose.report(folders)
    words = parsed(page.html(report)).words
    shown = {word.strip() for word in words}
    for section in report.sections:
        assert section.title in shown
        for table in section.tables:
            for group in table.groups:
                assert group.label is None or group.label in shown
                for row in group.rows:
                    assert {row.name, *(cell.shown for cell in row.cells)} <= shown


def test_what_failed_comes_before_everything_else(tmp_path: Path) -> None:
    manifest = subjects.manifest()
    manifest["failures"] = ["parity is <gone>", "another"]
    html = page.html(compose.report([subjects.write(tmp_path / "m0", manifest=manifest)]))
    assert "2 failures" in html
    assert html.index("parity is &lt;gone&gt;") < html.index("<nav") < html.index('id="results"')
    assert "No failure was reported" not in html
    manifest["failures"] = []
    html = page.html(compose.report([subjects.write(tmp_path / "m0", manifest=manifest)]))
    assert "No failure was reported." in html


def test_a_cell_whose_claim_does_not_hold_is_marked_by_more_than_colour(tmp_path: Path) -> None:
    manifest = subjects.manifest()
    manifest["targets"]["coreml"]["census"]["int8_delivered"] = 63
    words = parsed(page.html(compose.report([subjects.write(tmp_path / "m0", manifest=manifest)]))).words
    assert "63 of 64 ✗" in words
    assert "64 of 64" in words
