"""What a report says is what the manifests say; what is damaged in one is named, whatever it is."""

import copy
import json
import shutil
from collections import ChainMap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgevit.errors import InputError
from edgevit.report import compose, console, page
from edgevit.report.document import Report
from tests.report import subjects
from tests.report.test_terminal import shown

WRONG: tuple[Any, ...] = (None, "a\x00b", -1, 1e300, float("nan"), True, [], {})


def of(tmp_path: Path, **files: Any) -> Report:
    return compose.report([subjects.write(tmp_path / "m0", **files)])


def tables(report: Report) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = report.manifest()["tables"]
    json.dumps(found, allow_nan=False)
    return found


def row(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    (found,) = (entry for entry in rows if wanted.items() <= entry.items())
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value inside ``value``."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inner:
        yield (*path, key)
        yield from places(entry, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = by
    return changed


def without(value: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return changed


def test_json_has_the_numbers_of_the_manifest(tmp_path: Path) -> None:
    manifest = subjects.manifest()
    found = tables(of(tmp_path, manifest=manifest))
    results = row(found["results"], result="m0", target="executorch")
    assert results["sqnr_db"] == 30.75
    assert results["speedup"] == 1.75
    assert results["speedup_ci95"] == [1.625, 1.875]
    assert results["bytes"] == 3_456_789
    assert row(found["results"], target="coreml")["speedup"] is None
    parity = row(found["parity"], step="folded → quantised")
    assert (parity["sqnr_db"], parity["self_noise_db"], parity["min_sqnr_db"]) == (31.5, 36.75, 15)
    top1 = row(found["top1"], step="original → coreml")
    assert (top1["top1_to"], top1["top1_drop_ci95"], top1["max_drop"]) == (92.0, [-0.25, 1.25], 1.0)
    timed = row(found["latency"], target="executorch")
    assert {key: timed[key] for key in subjects.latency() if key in timed} == {
        key: value for key, value in subjects.latency().items() if key in timed
    }
    assert len(timed) == 2 + 6 + 2
    operators = row(found["operators"], target="executorch")
    assert operators["float"] == {"conv": 53, "reshape": 7}
    assert (operators["partitions"], operators["portable"]) == (3, {"aten::topk": 4})
    assert row(found["folds"], rule="batchnorm_into_convolution")["max_abs_error"] == 4.6e-06
    assert row(found["sizes"], target="whole export")["export_seconds"] == 120.5
    assert row(found["grid"], target="coreml")["dropped"] == ["head.output"]


def test_a_person_reads_the_same_numbers(tmp_path: Path) -> None:
    printed = shown(console.printed(of(tmp_path, manifest=subjects.manifest())))
    for words in ("30.8", "1.75 (1.62 to 1.88)", "92.5 → 92.0", "0.5 (-0.2 to 1.2)", "31.5 (15)", "98.5% (95%)"):
        assert words in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed


def test_all_that_can_be_shown_fits_80_columns(tmp_path: Path) -> None:
    report = of(tmp_path, manifest=subjects.pruned(), bench=subjects.bench("other"))
    printed = shown(console.printed(report))
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    for words in ("0.812 (0.750 to 0.875)", "50.0% · 25.0% · 12.5%", "1.50 (1.44 to 1.56)", "1.31", "+"):
        assert words in printed or words == "+"


def test_without_labels_there_is_no_top1(tmp_path: Path) -> None:
    report = of(tmp_path, manifest=subjects.manifest(labels=False))
    found = tables(report)
    assert "top1" not in found
    assert row(found["results"], target="coreml")["top1_to"] is None
    assert report.notices == ("m0: its images have no labels, so there is no top-1.",)


def test_a_float_export_has_no_grid_and_asked_for_nothing(tmp_path: Path) -> None:
    manifest = subjects.manifest()
    manifest["quant"] = {"mode": "fp32"}
    for target in manifest["targets"].values():
        del target["grid"]
        target["census"] |= {"int8": {}, "int8_asked": 0, "int8_delivered": 0}
    report = of(tmp_path, manifest=manifest)
    assert "grid" not in tables(report)
    assert "none" in shown(console.printed(report))
    page.html(report)


def test_a_calibration_alone(tmp_path: Path) -> None:
    report = of(tmp_path, calibration=subjects.making(), sensitivity=subjects.sensitivity())
    found = tables(report)
    assert found.keys() == {"parity", "top1", "sensitivity", "folds", "making", "hosts", "packages"}
    assert len(found["sensitivity"]) == 12
    assert found["sensitivity"][0] == {
        "result": "m0",
        "operator": "blocks.0.fc",
        "kind": "linear",
        "alone_sqnr_db": 40.0,
        "alone_top1_agreement": 0.875,
        "spared_sqnr_db": 32.0,
        "spared_top1_agreement": 0.875,
        "noise": 3.25e-4,
    }
    printed = shown(console.printed(report))
    assert "blocks.9.fc" in printed
    assert "blocks.10.fc" not in printed
    assert "2 more rows on the page and in --json" in " ".join(printed.split())
    assert "blocks.11.fc" in page.html(report)


def test_the_copy_that_an_export_keeps_is_shown_once(tmp_path: Path) -> None:
    calibration = subjects.write(tmp_path / "calib", calibration=subjects.making(), sensitivity=subjects.sensitivity())
    export = subjects.write(tmp_path / "m0", manifest=subjects.manifest())
    shutil.copytree(calibration, export / "calibration")
    found = tables(compose.report([calibration, export]))
    assert {entry["result"] for entry in found["sensitivity"]} == {"calib, m0"}
    assert len(found["sensitivity"]) == 12
    alone = tables(compose.report([export]))
    assert {entry["result"] for entry in alone["sensitivity"]} == {"m0"}


def test_what_was_timed_again(tmp_path: Path) -> None:
    bench = subjects.bench("other")
    bench["failures"] = ["onnx crashed"]
    report = of(tmp_path, manifest=subjects.manifest(), bench=bench)
    found = tables(report)
    assert row(found["bench"], target="executorch")["cold_start_ms"] == 11.25
    assert row(found["bench"], target="executorch")["peak_rss_mb"] is None
    assert row(found["bench_ratios"], target="executorch")["against"] == "other"
    assert row(found["bench_sustained"], target="executorch")["last_minute_p50_ms"] == 1.4375
    assert row(found["bench_host"], target="executorch")["drift"] == -0.0125
    assert [failure.text for failure in report.failures] == ["onnx crashed"]
    bench["ratios"]["executorch"] |= {"conclusive": False, "because": "too wide"}
    report = of(tmp_path, manifest=subjects.manifest(), bench=bench)
    printed = shown(console.printed(report))
    assert "too noisy" in printed
    assert "0.812" not in printed
    assert "0.812" not in page.html(report)


def test_what_devices_said(tmp_path: Path) -> None:
    parity = {"sqnr_db": 8.5, "min_sqnr_db": 22.25, "top1_matches": False, "holds": False}
    board = subjects.device(
        "emulator", latency=None, start=None, memory_mb=None, sustained=None, threads=None, thermal=None
    )
    board["result"] |= {"app": "runner", "parity": parity}
    board["device"] = "local"
    board["result"]["device"] |= {"emulated": "qemu-user", "name": None, "soc": None}
    report = of(tmp_path, manifest=subjects.manifest(), **{"devices/a": subjects.device(), "devices/b": board})
    names = ("device_times", "device_parity", "device_places")
    phone, emulator = (dict(ChainMap(*rows)) for rows in zip(*(tables(report)[name] for name in names), strict=True))
    assert (phone["device"], phone["kind"], phone["name"], phone["p50_ms"]) == ("android:A1", "phone", "A B", 2.5625)
    assert (phone["heat_before"], phone["heat_after"], emulator["heat_after"]) == ("41.5 °C", "serious", None)
    assert (phone["last_minute_p50_ms"], phone["load_ms"], phone["threads"]) == (3.8125, 40.0, 4)
    assert (emulator["kind"], emulator["emulated"], emulator["holds"]) == ("emulator", "qemu-user", False)
    assert {emulator[key] for key in ("p50_ms", "load_ms", "memory_mb", "first_minute_p50_ms", "threads")} == {None}
    printed = shown(console.printed(report))
    assert "phone: A B, S1, Android 15, arm64" in " ".join(printed.split())
    assert "8.5 (22.2), another class" in " ".join(printed.split())
    assert printed.count("✗") == 1


def test_exports_of_two_hosts_are_said_to_be_and_drawn_apart(tmp_path: Path) -> None:
    here, there = subjects.manifest(), subjects.manifest()
    there["environment"]["cpu"] = "Another CPU"
    same = compose.report([subjects.write(tmp_path / name, manifest=here) for name in ("a", "b")])
    assert same.notices == ()
    (plots,) = same.sections[0].figures
    assert [plot.caption for plot in plots] == ["executorch 1.2.3, 1 thread"]
    other = compose.report(
        [subjects.write(tmp_path / "a", manifest=here), subjects.write(tmp_path / "c", manifest=there)]
    )
    assert other.notices == ("These results come from 2 hosts: milliseconds are compared within one host only.",)
    (plots,) = other.sections[0].figures
    assert [plot.caption for plot in plots] == [
        "executorch 1.2.3, 1 thread, host 1",
        "executorch 1.2.3, 1 thread, host 2",
    ]


def test_what_a_reader_should_know_is_noticed(tmp_path: Path) -> None:
    manifest = subjects.pruned()
    manifest["model"]["weights"]["notes"] = ["random weights, seed 0: good for latency, not for accuracy"]
    manifest["latency"]["executorch"] |= {
        "steady": False,
        "speedup": 0.75,
        "speedup_ci95": [0.5, 0.875],
        "pruning_speedup": 0.5,
        "pruning_speedup_ci95": [0.25, 0.75],
    }
    assert of(tmp_path, manifest=manifest).notices == (
        "m0: random weights, seed 0: good for latency, not for accuracy.",
        "m0, executorch: the machine was not steady when it was timed.",
        "m0, executorch: slower than its float twin, 0.75 times as fast.",
        "m0, executorch: pruning tokens makes it slower, 0.50 times as fast.",
    )


def test_broken_limits_are_marked(tmp_path: Path) -> None:
    manifest = subjects.manifest()
    manifest["parity"]["links"][1]["limits"] = {"min_sqnr_db": 33, "min_agreement": 0.99, "max_drop": 0.25}
    report = of(tmp_path, manifest=manifest)
    broken = [
        (table.key, row.name, cell.text)
        for section in report.sections
        for table in section.tables
        for group in table.groups
        for row in group.rows
        for cell in row.cells
        if cell.broken
    ]
    assert broken == [
        ("parity", "folded → quantised", "31.5 (33)"),
        ("parity", "folded → quantised", "98.5% (99%)"),
        ("top1", "folded → quantised", "0.5 (-0.2 to 1.2)"),
    ]
    assert shown(console.printed(report)).count("✗") == 3


@pytest.mark.parametrize("name", ["manifest", "bench", "devices/phone", "calibration", "sensitivity"])
def test_whatever_is_wrong_is_one_sentence_that_names_its_file(name: str, tmp_path: Path) -> None:
    """Every value of every file is taken away, and replaced by others: nothing but InputError may come of it."""
    exported = {"manifest": subjects.pruned(), "bench": subjects.bench("other"), "devices/phone": subjects.device()}
    calibrated = {"calibration": subjects.making(), "sensitivity": subjects.sensitivity()}
    calibrated["sensitivity"]["operators"] = calibrated["sensitivity"]["operators"][:1]
    exported["manifest"]["parity"]["links"] = exported["manifest"]["parity"]["links"][-2:-1]
    del exported["manifest"]["targets"]["coreml"]
    files = exported if name in exported else calibrated
    folder = subjects.write(tmp_path / "m0", **files)
    refused = []
    for path in places(files[name]):
        changes = [without(files[name], path)] if isinstance(path[-1], str) else []
        for changed in (*changes, *(replaced(files[name], path, by) for by in WRONG)):
            subjects.write(folder, **{name: changed})
            try:
                report = compose.report([folder])
                tables(report)
                page.html(report)
                shown(console.printed(report))
            except InputError as error:
                refused.append(str(error))
    assert len(refused) > 100
    for message in refused:
        assert f"{name}.json" in message
        assert "again" in message or "with the edgevit that wrote it" in message
        assert message.isprintable()
