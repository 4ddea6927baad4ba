"""Each claim holds for what it was made of, and for nothing else."""

import copy
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calibrate.program import TensorGrid
from convert.fold import FoldReport
from convert.target import Census
from edgevit import artifact, metrics
from edgevit.bench.protocol import Comparison, Ratio, Timing
from edgevit.images import Item, decode_file
from edgevit.verify import claims, tokens
from edgevit.verify.claims import Check
from edgevit.verify.parity import ON_MAC, Choice, Limits, Link
from edgevit.verify.tokens import Kept, Overlap

Change = Callable[[dict[str, Any]], object]


def png(grey: int = 90) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (grey, 1, 2)).save(file, "PNG")
    return file.getvalue()


def item(name: str, data: bytes) -> Item:
    return Item(name, lambda: data, decode_file)


def test_failures_of_the_export_stay() -> None:
    assert claims.failures({"failures": []}).holds
    assert claims.failures({"failures": ["a", "b"]}).reason == "a; b"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "a").write_bytes(b"abD"), "a"),
        (lambda folder: (folder / "sub" / "b").unlink(), "sub/b"),
        (lambda folder: (folder / "sub" / "new").write_bytes(b""), "sub/new"),
    ],
)
def test_files(change: Callable[[Path], object], named: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "sub" / "b").write_bytes(b"b")
    claimed = artifact.describe_files(tmp_path)
    assert claims.files("onnx", tmp_path, claimed).holds
    assert claims.files("onnx", tmp_path, claimed | {"bytes": 5}).reason == "4 bytes, not 5"
    change(tmp_path)
    assert claims.files("onnx", tmp_path, claimed).reason == f"{named} changed, is missing or was added"


def test_files_of_a_folder_that_is_gone(tmp_path: Path) -> None:
    claimed = {"files": {"model.onnx": "00"}, "bytes": 1}
    assert claims.files("onnx", tmp_path / "onnx", claimed).reason == "model.onnx changed, is missing or was added"


def test_nothing_else_lies_in_the_export(tmp_path: Path) -> None:
    for name in (artifact.MANIFEST, artifact.IMAGES, "onnx"):
        (tmp_path / name).touch()
    assert claims.layout(tmp_path, ["onnx"]).holds
    (tmp_path / "bench.json").write_text("{}")
    (tmp_path / "devices").mkdir()
    assert claims.layout(tmp_path, ["onnx"]).holds
    assert claims.layout(tmp_path, ["onnx", "openvino"]).reason == "openvino is missing or was added"
    (tmp_path / "notes.txt").touch()
    assert claims.layout(tmp_path, ["onnx"]).reason == "notes.txt is missing or was added"


def test_images_keep_their_digests() -> None:
    items = {name: item(name, png(grey)) for grey, name in enumerate("abc")}
    listed = [{"name": name, "sha256": items[name].sha256()} for name in "ab"]
    assert claims.images("scored", listed, items).holds
    assert claims.images("scored", listed, {"a": items["a"]}).reason == "1 changed or missing, such as b"
    assert claims.images("scored", listed, items | {"a": items["c"]}).reason == "1 changed or missing, such as a"


def test_a_skipped_image_is_still_bad_for_the_same_reason() -> None:
    claimed = [{"name": "a", "reason": "is empty: replace or remove it"}]
    assert claims.skipped(claimed, {"a": item("a", b"")}).holds
    assert claims.skipped(claimed, {}).reason == "a is not there"
    assert claims.skipped(claimed, {"a": item("a", png())}).reason == "a is not what it was"
    assert claims.skipped(claimed, {"a": item("a", b"junk")}).reason == "a is not what it was"


def test_equal_compares_as_json_and_shows_short_values_only() -> None:
    assert claims.equal("x", {"a": [1, None]}, {"a": (1, None)}) == Check("x")
    assert claims.equal("x", 1, 2).reason == "2, not 1"
    assert claims.equal("x", list(range(50)), []).reason == "differs from what the manifest says"


def test_folds() -> None:
    reports = [FoldReport("bn", 3, 1e-5, {}), FoldReport("scale", 2, 0.0, {})]
    claimed = [{"rule": "bn", "count": 3, "max_abs_error": 5e-6}, {"rule": "scale", "count": 2, "max_abs_error": 0.0}]
    assert claims.folds(claimed, reports).holds
    assert claims.folds([claimed[0] | {"count": 4}, claimed[1]], reports).reason == "bn applies 3 times, not 4"
    assert claims.folds(claimed[:1], reports).reason == "2 rules, not 1"
    assert claims.folds([], reports).reason == "2 rules, not 0"
    worse = [FoldReport("bn", 3, 1e-2, {}), reports[1]]
    assert claims.folds(claimed, worse).reason == "bn changes the output by 0.01"


def test_calibration_allows_what_rounding_moves() -> None:
    claimed = {"a": TensorGrid((0.1,), (3,)), "b": TensorGrid((0.2, 0.3), (0, 0), 0)}
    assert claims.calibration(claimed, claimed | {"a": TensorGrid((0.100001,), (4,))}).holds
    for other in (
        claimed | {"a": TensorGrid((0.1001,), (3,))},
        claimed | {"a": TensorGrid((0.1,), (5,))},
        claimed | {"b": TensorGrid((0.2,), (0,), 0)},
        claimed | {"new": TensorGrid((0.1,), (3,))},
        {"b": claimed["b"]},
    ):
        assert "1 tensors get another grid" in str(claims.calibration(claimed, other).reason)


def test_a_search_on_another_cpu_may_end_at_a_neighbour() -> None:
    claimed = {"a": TensorGrid((0.1,), (3,))}
    neighbour, far = {"a": TensorGrid((0.105,), (9,))}, {"a": TensorGrid((0.12,), (9,))}
    assert not claims.calibration(claimed, neighbour).holds
    assert claims.calibration(claimed, neighbour, claims.SEARCHED_MARGIN).holds
    assert not claims.calibration(claimed, far, claims.SEARCHED_MARGIN).holds
    assert not claims.calibration(claimed, {"a": TensorGrid((0.1,), (60,))}, claims.SEARCHED_MARGIN).holds


def test_census() -> None:
    found = Census({"conv": 5}, {"softmax": 2}, asked=("a", "b"), missing=("b",))
    claimed: dict[str, Any] = {"int8": {"conv": 5}, "float": {"softmax": 2}, "int8_asked": 2, "int8_delivered": 1}
    assert claims.census("onnx", claimed, found, same_host=True).holds
    assert claims.census("onnx", claimed | {"int8_delivered": 2}, found, same_host=False).reason == "1 of 2, not 2 of 2"
    for change in ({"int8": {"conv": 6}}, {"float": {}}):
        assert not claims.census("onnx", claimed | change, found, same_host=True).holds
        assert claims.census("onnx", claimed | change, found, same_host=False).holds  # another CPU fuses otherwise


def test_artifact_grid() -> None:
    program = {"a": TensorGrid((0.1,), (3,)), "b": TensorGrid((0.2,), (0,))}
    claimed = {"matches": True, "tensors_compared": 1, "differing": [], "dropped": ["b"]}
    found = {"a": program["a"]}
    assert claims.artifact_grid("onnx", claimed, program, found).holds
    assert not claims.artifact_grid("onnx", claimed | {"tensors_compared": 2}, program, found).holds
    assert not claims.artifact_grid("onnx", claimed, program, program).holds
    changed = {"a": TensorGrid((0.10001,), (3,))}
    assert claims.artifact_grid("onnx", claimed, program, changed).reason == "1 tensors differ from the manifest: a"


@pytest.fixture
def link() -> Link:
    drop = metrics.Drop(91.0, 90.8, 0.2, (-0.3, 0.7))
    return Link("folded", "onnx", 25.0, 0.99, 0.97, 30.0, drop, Limits(15, 0.95, 1.0))


def check_link(link: Link, change: Change, images: int = 1000) -> Check:
    claimed = copy.deepcopy(link.manifest())
    change(claimed)
    (check,) = claims.parity({"images": images, "links": [claimed]}, [link])
    return check


@pytest.mark.parametrize(
    "change",
    [
        {"sqnr_db": 26.1},
        {"cosine": 0.98},
        {"top1_agreement": 0.985},
        {"top1_from": 91.6},
        {"top1_to": 91.4},
        {"top1_drop": 0.8},
        {"top1_drop_ci95": [-0.3, 1.8]},
        {"self_noise_db": 37.0},
        {"to": "openvino"},
        {"kept_token_overlap": 1.0},
        {"limits": {"min_sqnr_db": 5, "min_agreement": 0.95, "max_drop": 1.0}},
        {"limits": {"min_sqnr_db": 15, "min_agreement": 0.5, "max_drop": 1.0}},
        {"limits": {"min_sqnr_db": 15, "min_agreement": 0.95, "max_drop": 3.0}},
    ],
)
def test_a_link_that_was_edited(link: Link, change: dict[str, Any]) -> None:
    check = check_link(link, lambda claimed: claimed.update(change))
    assert check.claim == "parity folded → onnx"
    assert not check.holds


def test_a_link_within_the_margins(link: Link) -> None:
    assert check_link(link, lambda claimed: claimed.update(sqnr_db=25.5, top1_agreement=0.975, top1_to=91.0)).holds
    # Two images of 20 may fall into another class on another CPU.
    assert check_link(link, lambda claimed: claimed.update(top1_agreement=0.9, top1_to=81.0), images=20).holds
    assert not check_link(link, lambda claimed: claimed.update(top1_agreement=0.85), images=20).holds


def test_a_link_that_broke_since_says_so_once(link: Link) -> None:
    broken = Link("folded", "onnx", 9.0, 0.99, 0.97, 30.0, link.top1, link.limits)
    assert check_link(broken, lambda claimed: None).reason == "9.0 dB SQNR, less than 15"


def test_a_number_of_links_that_changed(link: Link) -> None:
    (check,) = claims.parity({"images": 10, "links": []}, [link])
    assert check.reason == "1 links, not 0"


def latency_claim() -> dict[str, Any]:
    return {
        "device": "this host",
        "threads": 1,
        "batch": 1,
        "p50_ms": 2.0,
        "p90_ms": 2.2,
        "p99_ms": 3.0,
        "float_p50_ms": 3.0,
        "float_p90_ms": 3.1,
        "float_p99_ms": 5.0,
        "speedup": 1.5,
        "speedup_ci95": [1.45, 1.55],
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"speedup": 3.0}, "1.45 / 3 / 1.55 do not rise"),
        ({"p50_ms": 0.5}, "p50 says 6.00 times as fast, speedup 1.50"),
        ({"p50_ms": 2.3}, "2.3 / 2.2 / 3 do not rise"),
        ({"p50_ms": 0.0}, "0 / 2.2 / 3 do not rise"),
        ({"float_p99_ms": 1.0}, "3 / 3.1 / 1 do not rise"),
        ({"p50_ms": 1.2, "p90_ms": 1.21}, "p50 says 2.50 times as fast, speedup 1.50"),
        ({"p50_ms": 1.2, "p90_ms": 2.0}, "p50 says 2.50 times as fast, speedup 1.50"),
        ({"threads": 2}, "device, threads or batch are not those that were asked for"),
        ({"batch": 2}, "device, threads or batch are not those that were asked for"),
    ],
)
def test_latency_agrees_with_itself(change: dict[str, Any], reason: str | None) -> None:
    assert claims.consistent_latency("onnx", latency_claim() | change, threads=1, batch=1).reason == reason


def test_the_float_twin_has_its_size_again() -> None:
    assert claims.float_size("onnx", 1000, 1000, same_host=True).holds
    assert claims.float_size("onnx", 1010, 1000, same_host=True).reason == "1,000 bytes, not 1,010"
    assert claims.float_size("onnx", 1010, 1000, same_host=False).holds
    assert not claims.float_size("onnx", 1060, 1000, same_host=False).holds


def test_pruning_agrees_with_itself() -> None:
    claimed = latency_claim() | {
        "pruned_p50_ms": 2.0,  # of another run than p50_ms
        "unpruned_p50_ms": 2.4,
        "pruning_speedup": 1.2,
        "pruning_speedup_ci95": [1.1, 1.3],
    }
    assert claims.consistent_latency("onnx", claimed, threads=1, batch=1).holds
    changed = claimed | {"pruning_speedup": 1.4}
    assert claims.consistent_latency("onnx", changed, threads=1, batch=1).reason == "1.1 / 1.4 / 1.3 do not rise"
    changed = claimed | {"unpruned_p50_ms": 9.0}
    reason = "p50 says 4.50 times as fast, pruning_speedup 1.20"
    assert claims.consistent_latency("onnx", changed, threads=1, batch=1).reason == reason


@pytest.mark.parametrize(
    ("ratio", "same_host", "reason"),
    [
        (Ratio(0.8, (0.75, 0.85)), True, None),
        (Ratio(2.0, (1.9, 2.1)), True, "0.50 times as fast, not 1.20"),
        (Ratio(2.0, (1.9, 2.1)), False, None),
    ],
)
def test_pruning_timed_again(ratio: Ratio, same_host: bool, reason: str | None) -> None:
    timing = Timing(20, 1, 1, 1, 1, 0)
    claimed = {"pruning_speedup": 1.2, "pruning_speedup_ci95": [1.1, 1.3]}
    assert claims.pruning("onnx", claimed, Comparison(timing, timing, ratio, steady=True), same_host).reason == reason


@pytest.mark.parametrize(
    ("overlap", "holds"), [([0.99, 0.905], True), ([0.99, 0.93], False), ([0.99], False), ([], False)]
)
def test_tokens_kept_are_what_they_were(overlap: list[float], holds: bool, link: Link) -> None:
    shapes = ((4, 6), (2, 4))
    ids = tuple(np.tile(np.arange(kept), (1, 1)) for kept, _ in shapes)
    scores = tuple(np.tile(-np.arange(of, dtype=np.float32), (1, 1)) for _, of in shapes)
    kept = Kept(ids, scores)
    choice = Choice(Overlap((0.99, 0.9), 1, 2), tokens.check(kept, kept, "int8"), 20.0, 0.9)
    claimed = {"kept_token_overlap": overlap}
    chosen = replace(link, choice=choice)
    assert check_link(chosen, lambda manifest: manifest.update(claimed)).holds is holds


def test_the_link_to_core_ml_itself_holds_on_a_mac_and_is_left_alone_elsewhere(link: Link) -> None:
    mac = replace(link, from_="coreml", to=ON_MAC)
    stated = {"images": 1000, "links": [link.manifest(), mac.manifest() | {"sqnr_db": 99.0}]}
    assert [check.claim for check in claims.parity(stated, [link])] == [link.name]
    assert [check.reason for check in claims.parity(stated, [link, mac])] == [None, None]
    broken = replace(mac, sqnr_db=3.0)
    assert [check.reason for check in claims.parity(stated, [link, broken])] == [None, "3.0 dB SQNR, less than 15"]


@pytest.mark.parametrize(
    ("ratio", "judged", "same_host", "reason"),
    [
        (Ratio(0.66, (0.65, 0.67)), True, True, None),
        (Ratio(1.2, (1.1, 1.3)), True, True, "takes 1.20 of the float time: slower beyond the noise"),
        (Ratio(1.2, (1.1, 1.3)), False, True, "0.83 times as fast, not 1.50"),
        (Ratio(1.2, (1.1, 1.3)), False, False, None),
        (Ratio(0.2, (0.19, 0.21)), True, True, "5.00 times as fast, not 1.50"),
        (Ratio(0.9, (0.6, 1.2)), True, True, None),  # too noisy to say otherwise
    ],
)
def test_latency_timed_again(ratio: Ratio, judged: bool, same_host: bool, reason: str | None) -> None:
    timing = Timing(20, 1, 1, 1, 1, 0)
    comparison = Comparison(timing, timing, ratio, steady=True)
    assert claims.latency("onnx", latency_claim(), comparison, judged, same_host).reason == reason


def test_an_underivable_claim_is_one_line() -> None:
    check = claims.underivable("weights", RuntimeError("two\n  lines"))
    assert check.reason == "cannot be derived again: two lines"
