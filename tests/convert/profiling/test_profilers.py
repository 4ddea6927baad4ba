"""Every runtime's profile of one artifact: all of its operators, by the names, kinds and work of the model."""

import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from convert.profiling import executorch, onnx, openvino
from convert.profiling.profiler import Profiled, check_timed, profiler, typical
from convert.registry import TARGETS
from convert.source import Precision, Source
from convert.target import Census, target
from edgevit.errors import ClaimError, MissingError
from edgevit.steps import count
from tests.calibrate.subjects import SIDE, images, quantized_token_net, quantized_vit, vit
from tests.convert.test_onnx import Lower

TIMED = [name for name, entry in TARGETS.items() if entry.profiler]
LAYERS = ("conv", "linear")
RUNS = 20


@pytest.fixture(scope="module")
def profiled(lowered: Lower) -> Callable[[str, Precision], tuple[Profiled, Census]]:
    @cache
    def profile(name: str, precision: Precision) -> tuple[Profiled, Census]:
        entry = lowered(name, precision)
        x = images(1, 0, SIDE).numpy()
        asked = quantized_vit().asked if precision == "int8" else {}
        return profiler(name).profile(entry.folder, x, 1, RUNS), entry.target.census(entry.folder, asked)

    return profile


Profiles = Callable[[str, Precision], tuple[Profiled, Census]]


@pytest.mark.parametrize("name", TIMED)
def test_covers_what_the_census_counts(name: str, profiled: Profiles) -> None:
    profile, census = profiled(name, "int8")
    for precision, counted in (("int8", census.int8), ("float", census.float)):
        found = Counter(operator.kind for operator in profile.operators if operator.precision == precision)
        assert {kind: found[kind] for kind in (*LAYERS, "matmul")} == {
            kind: counted.get(kind, 0) for kind in (*LAYERS, "matmul")
        }
    assert set(quantized_vit().asked) <= {o.name for o in profile.operators if o.precision == "int8"}
    assert profile.uncounted == ()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", TIMED)
def test_the_work_is_the_models(
    name: str, precision: Precision, profiled: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = vit()
    monkeypatch.setattr(model, "image_size", SIDE, raising=False)
    operators = profiled(name, precision)[0].operators
    assert sum(operator.macs for operator in operators) == count(model)[1]
    by_name = {operator.name: operator.macs for operator in operators if operator.kind == "conv"}
    assert by_name["patch_embed.2.c"] == 9 * 4 * 8 * (SIDE // 4) ** 2


@pytest.mark.parametrize("name", TIMED)
def test_layers_have_their_modules_names_and_the_others_a_place(name: str, profiled: Profiles) -> None:
    operators = profiled(name, "int8")[0].operators
    layers = [operator.name for operator in operators if operator.kind in LAYERS]
    assert len(set(layers)) == len(layers)
    assert not any(" " in layer or layer.startswith("node_") for layer in layers)
    names = {operator.name for operator in operators}
    assert "head.l" in names
    places = [operator.name for operator in operators if operator.kind in ("matmul", "layout", "softmax")]
    assert places
    for place in places:
        found = re.fullmatch(r"(before|after) (.+)", place)
        assert found is not None
        assert found[2] in names


@pytest.mark.parametrize("name", TIMED)
def test_layouts_and_grids_are_kinds_of_their_own(name: str, profiled: Profiles) -> None:
    kinds = {operator.kind for operator in profiled(name, "int8")[0].operators}
    assert "layout" in kinds
    assert any("quantize" in kind for kind in kinds)


@pytest.mark.parametrize("name", TIMED)
def test_times_are_of_the_calls_that_were_asked(name: str, profiled: Profiles) -> None:
    profile, _ = profiled(name, "int8")
    assert len(profile.calls_ms) >= RUNS
    assert all(operator.us >= 0 for operator in profile.operators)
    assert 0 < sum(operator.us for operator in profile.operators) < 1e3 * profile.calls_ms.max()
    assert (profile.taken_off_us > 0) == (name == "onnx")


@pytest.mark.parametrize("name", TIMED)
def test_a_token_model_with_fused_attention(name: str, tmp_path: Path) -> None:
    """OpenVINO makes one kernel of an attention, XNNPACK a table of a GELU between grids, and products of a norm."""
    source = Source(quantized_token_net(), "int8").logits_only()
    target(name).lower(source, tmp_path, {})
    profile = profiler(name).profile(tmp_path, images(1, 0, 16).numpy(), 1, RUNS)
    width = 64
    blocks = sum(n * 12 * width**2 + 2 * n * n * width for n in (17, 10))
    others = 16 * width * 48 + 16 * width * 2 + width * 10
    norms = 2 * width * (2 * (17 + 10) + 16 + 1) if name == "executorch" else 0
    assert sum(operator.macs for operator in profile.operators) == blocks + others + norms
    assert {o.name for o in profile.operators if o.precision == "int8"} >= set(quantized_token_net().asked)


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_damaged_artifact_is_said(name: str, share: float, lowered: Lower, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lowered(name, "int8").folder, tmp_path / name))
    path = folder / TARGETS[name].file
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ClaimError, match=r"is missing or damaged.*: export it again$"):
        profiler(name).profile(folder, images(1, 0, SIDE).numpy(), 1, RUNS)


def test_nothing_is_left_in_the_working_folder(lowered: Lower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in TIMED:
        before = {path: path.stat().st_mtime_ns for path in lowered(name, "int8").folder.iterdir()}
        profiler(name).profile(lowered(name, "int8").folder, images(1, 0, SIDE).numpy(), 1, RUNS)
        assert {path: path.stat().st_mtime_ns for path in lowered(name, "int8").folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_timed_elsewhere_is_named_with_the_mend() -> None:
    with pytest.raises(MissingError, match=r"coreml is timed on a device and not here: .*, or name another --target"):
        check_timed("coreml")


def test_runs_that_something_disturbed_are_not_seen() -> None:
    times = [[2, 10], [3, 10], [2, 10], [900, 10], [3, 10], [2, 10], [3, 10], [0, 700]]
    assert typical(times).tolist() == [2.5, 10]


def test_an_openvino_operator_without_a_counter_is_named(lowered: Lower, monkeypatch: pytest.MonkeyPatch) -> None:
    mean_us = openvino.mean_us

    def without(request: object, *rest: object) -> object:
        counters, took = mean_us(request, *rest)  # type: ignore[arg-type]
        return {node: us for node, us in counters.items() if node != "head.l/WithoutBiases"}, took

    monkeypatch.setattr(openvino, "mean_us", without)
    profile = openvino.profile(lowered("openvino", "int8").folder, images(1, 0, SIDE).numpy(), 1, RUNS)
    assert profile.uncounted == ("head.l/WithoutBiases",)
    assert "head.l" not in {operator.name for operator in profile.operators}


def test_an_onnx_operator_without_an_event_is_named(lowered: Lower, monkeypatch: pytest.MonkeyPatch) -> None:
    read_runs = onnx.read_runs
    fields = ("names", "inputs", "types", "times")

    def without_last(events: Path) -> object:
        for run in read_runs(events):
            yield run if len(run.names) == onnx.CHAIN else onnx.Run(*(getattr(run, field)[:-1] for field in fields))

    monkeypatch.setattr(onnx, "read_runs", without_last)
    profile = onnx.profile(lowered("onnx", "int8").folder, images(1, 0, SIDE).numpy(), 1, RUNS)
    assert profile.uncounted == ("head.l",)


def test_runs_with_other_operators_are_refused(lowered: Lower, monkeypatch: pytest.MonkeyPatch) -> None:
    events = executorch.events
    seen: list[object] = []

    def other(run: object, program: object) -> object:
        seen.append(run)
        found = list(events(run, program))  # type: ignore[arg-type]
        return found[: len(found) - len(seen) % 2]

    monkeypatch.setattr(executorch, "events", other)
    with pytest.raises(ClaimError, match="ExecuTorch profiled other operators in one run than in another"):
        executorch.profile(lowered("executorch", "int8").folder, images(1, 0, SIDE).numpy(), 1, RUNS)


def test_an_xnnpack_layer_without_an_event_takes_no_other_layers_name(
    lowered: Lower, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = executorch.events

    def without_first(run: object, program: object) -> object:
        found = list(events(run, program))  # type: ignore[arg-type]
        first = next(index for index, event in enumerate(found) if event.kernel.startswith("Convolution"))
        return found[:first] + found[first + 1 :]

    monkeypatch.setattr(executorch, "events", without_first)
    profile = executorch.profile(lowered("executorch", "int8").folder, images(1, 0, SIDE).numpy(), 1, RUNS)
    assert not {operator.name for operator in profile.operators} & set(quantized_vit().asked)


def test_what_the_profiler_adds_to_an_onnx_operator_is_taken_off(
    lowered: Lower, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiled_runs = onnx.profiled_runs

    def fixed(*arguments: object) -> object:
        (run, *_), calls = profiled_runs(*arguments)  # type: ignore[arg-type]
        return [replace(run, times=(7,) * len(run.names), inputs=(4,) * len(run.names))] * 8, calls

    monkeypatch.setattr(onnx, "profiled_runs", fixed)
    monkeypatch.setattr(onnx, "event_cost", lambda *ignored: (1.5, 0.25))
    profile = onnx.profile(lowered("onnx", "int8").folder, images(1, 0, SIDE).numpy(), 1, RUNS)
    assert {operator.us for operator in profile.operators} == {7 - 1.5 - 4 * 0.25}
    assert profile.taken_off_us == pytest.approx(2.5 * len(profile.operators))


def test_the_cost_of_an_event_is_some_microseconds_and_grows_with_the_inputs(tmp_path: Path) -> None:
    fits = [onnx.event_cost(1, tmp_path) for _ in range(5)]  # two may have been disturbed
    base, each = sorted(fits)[2]
    assert 0 < base < 100
    assert -1 < each < 10
    assert base + 8 * each > 0


def test_the_first_slow_runs_are_not_in_openvinos_means(lowered: Lower, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty microseconds in five first runs and two in the four others are a mean of twelve."""
    mean_us = openvino.mean_us

    def fixed(request: object, x: object, runs: int) -> object:
        counters, took = mean_us(request, x, runs)  # type: ignore[arg-type]
        return dict.fromkeys(counters, 20 if runs == openvino.WARM else 12), took

    monkeypatch.setattr(openvino, "mean_us", fixed)
    profile = openvino.profile(lowered("openvino", "int8").folder, images(1, 0, SIDE).numpy(), 1, 4 * openvino.BLOCKS)
    assert {operator.us for operator in profile.operators} == {2.0}


def test_what_xnnpack_lost_of_a_partition_is_known() -> None:
    names = {"name": executorch.PARTITION}, {"delegate_debug_id_str": "Add (ND) #1"}, {"name": executorch.OUTSIDE}
    times = (0, 9000), (1000, 4000), (9000, 20000)
    run = [name | {"start_time": s, "end_time": e} for name, (s, e) in zip(names, times, strict=True)]
    assert executorch.lost(run) == 6.0
