"""The Python API: float exports, unlabelled and listed images, and what an export is asked."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from convert import registry
from edgevit import artifact, options, pipeline, rederive, steps
from edgevit.bench.protocol import Comparison, Ratio, Timing
from edgevit.errors import InputError, MissingError
from edgevit.measuring import Latency
from edgevit.models import weights
from edgevit.options import Options
from edgevit.verify.parity import EXACT, EXACT_UNTRAINED, LIMITS, UNTRAINED
from tests.conftest import write_images

RANDOM = Options(weights="random", image_size=64, classes=10, calib_size=4, runs=20, targets=("onnx", "openvino"))


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency costs a second export, of the float twin."""
    timing = Timing(20, 1.0, 1.1, 1.2, 0.9, 0.1)
    same = Comparison(timing, timing, Ratio(1.0, (0.9, 1.1)), steady=True)
    for module in (pipeline, rederive):
        monkeypatch.setattr(
            module,
            "measure_latency",
            lambda options, subject, lowered, lowering, progress: dict.fromkeys(lowered, Latency(same, None)),
        )


def listed(folder: Path) -> Path:
    """As ``labels.csv`` with images beside it."""
    paths = sorted(write_images(folder / "images", 12, classes=1).rglob("*.png"))
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label"])
        rows.writerows((path.relative_to(folder), index % 10) for index, path in enumerate(paths))
    return folder


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize("quant", ["fp32", "fp16"])
def test_float_exports_are_verified_too(quant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 on labelled images, fp16 on unlabelled ones; named by relative paths, and verified from elsewhere."""
    folder = listed(tmp_path / "data") if quant == "fp32" else write_images(tmp_path / "data", 12, classes=1) / "0"
    monkeypatch.chdir(tmp_path)
    options = replace(RANDOM, quant=quant, data=str(folder.relative_to(tmp_path)))
    manifest = pipeline.export(options, Path("out"))
    assert manifest == artifact.read_manifest(tmp_path / "out")
    assert manifest["failures"] == []
    assert manifest["quant"] == {"mode": quant}
    assert manifest["parity"]["labels"] is (quant == "fp32")
    assert not any("grid" in target for target in manifest["targets"].values())
    least = 60 if quant == "fp32" else 10
    for link in manifest["parity"]["links"]:
        assert link["sqnr_db"] > least
        assert ("top1_drop" in link) is (quant == "fp32")
    monkeypatch.chdir("/")
    checks = pipeline.verify(tmp_path / "out")
    assert [check for check in checks if not check.holds] == []


@pytest.mark.usefixtures("untimed")
def test_calibration_says_how_often_it_goes_through_the_images(tmp_path: Path) -> None:
    shown: list[tuple[int | None, int]] = []

    @contextmanager
    def watch(title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        seen: list[int] = []
        yield seen.append
        if title == "calibrating":
            shown.append((total, sum(seen)))

    options = replace(RANDOM, targets=("openvino",), observer="hessian", parity_images=6)
    manifest = pipeline.export(options, tmp_path / "out", progress=watch)
    assert shown == [(16, 16)]  # the extremes, what lies between them, roundings, biases
    assert manifest["failures"] == []
    assert manifest["quant"]["calibration"]["observer"] == "hessian"
    assert [check for check in pipeline.verify(tmp_path / "out") if not check.holds] == []


def test_targets_are_named_once_and_all_is_every_one_installed_or_not() -> None:
    assert options.chosen_targets(("openvino", "onnx", "openvino")) == ("openvino", "onnx")
    assert options.chosen_targets(("coreml", "all")) == ("coreml", "onnx", "openvino", "executorch")
    assert options.chosen_targets(("all",)) == ("onnx", "openvino", "executorch", "coreml")


def test_a_target_of_all_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda package: None if package == "executorch" else find_spec(package))
    with pytest.raises(MissingError, match=r"executorch, which is not installed: pip install 'edgevit\[executorch\]'$"):
        pipeline.export(Options(targets=("all",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_are_anchored_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    anchored = Options(weights="w.pth", data="images", targets=("onnx", "onnx")).anchored()
    assert (anchored.weights, anchored.data) == (str(tmp_path / "w.pth"), str(tmp_path / "images"))
    assert anchored.targets == ("onnx",)
    named = Options(weights="official", data="bundled")
    assert named.anchored() == named


def test_limits() -> None:
    assert Options(quant="int8").limits(120) == LIMITS["int8"]
    assert Options(quant="fp32").limits(120) == EXACT
    assert Options(quant="fp32").limits(70).min_sqnr_db == 70
    assert Options(quant="fp32", min_sqnr=90).limits(70).min_sqnr_db == 90
    assert Options(quant="int8", weights="random").limits(70) == UNTRAINED
    assert Options(quant="int8", weights="random", max_drop=3).limits(70) == replace(UNTRAINED, max_drop=3)
    assert Options(quant="fp32", weights="random").limits(120) == EXACT_UNTRAINED


def test_only_int8_is_judged_by_speed() -> None:
    assert Options().judges_latency
    assert not Options(allow_slower=True).judges_latency
    assert not Options(quant="fp16").judges_latency


def test_a_download_moves_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar appears with the first byte, when its length is known."""
    shown: list[object] = []

    class Bar:
        def __init__(self, title: str, total: int | None) -> None:
            shown.append((title, total))

        def __enter__(self) -> "object":
            return shown.append

        def __exit__(self, *error: object) -> None:
            shown.append("gone")

    load = weights.load

    def loaded(name: str, spec: str, *, report: object, **given: object) -> object:
        assert callable(report)
        if spec == "official":
            for done in (10, 25, 100):
                report(done, 100)
        return load(name, "random", image_size=64)

    monkeypatch.setattr(weights, "load", loaded)
    steps.load_model(Options(weights="official"), Bar)  # type: ignore[arg-type]
    assert shown == [("fetching weights", 100), 10, 15, 75, "gone"]
    shown.clear()
    steps.load_model(Options(weights="random"), Bar)  # type: ignore[arg-type]
    assert shown == []


def test_notes_come_after_all_that_may_be_wrong(tmp_path: Path) -> None:
    """So that wrong input is one line."""
    noted: list[str] = []
    with pytest.raises(InputError, match="cannot calibrate on 4,000"):
        pipeline.export(replace(RANDOM, calib_size=4000), tmp_path / "out", note=noted.append)
    assert noted == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
