"""What is written of each target, in which order, and what is left out where nothing can be timed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from convert import onnx
from convert.source import Source
from edgevit.errors import ClaimError
from edgevit.lowering import ARTIFACT, FLOAT, SELECTION, UNPRUNED, Lowering, Programs, lower
from tests.calibrate.subjects import FLOAT_RESIDUAL, images, net, quantized_net

METADATA = {"model": "net"}
SIDE = 16


@pytest.fixture(scope="module")
def programs() -> Programs:
    floats = Source(torch.export.export(net(), (images(1, 0, SIDE),)), "fp32")
    return Programs(Source(quantized_net(FLOAT_RESIDUAL), "int8"), floats)


@pytest.fixture(scope="module")
def pruned(programs: Programs) -> Programs:
    """As if the model pruned tokens: every role has a program."""
    return Programs(programs.artifact, programs.float, programs.artifact, programs.float)


def test_roles_in_the_order_in_which_they_are_wanted(programs: Programs, pruned: Programs) -> None:
    assert list(programs.roles()) == [ARTIFACT, FLOAT]
    assert list(pruned.roles()) == [ARTIFACT, SELECTION, FLOAT, UNPRUNED]


def beside(programs: Programs, forms: dict[str, dict[str, Any]], folder: Path | None) -> list[str]:
    """The last parts of the folders that another process writes."""
    lowering = Lowering(programs, forms, METADATA, folder)
    names = ["/".join(place.parts[-2:]) for place in lowering.folders]
    lowering.twins.cleanup()
    lowering.scratch.cleanup()
    return names


def test_slow_targets_are_written_beside_the_rest(pruned: Programs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert beside(pruned, {"onnx": {}, "executorch": {}}, out) == [
        "out/executorch",
        "selection/executorch",
        "float twin/executorch",
        "unpruned twin/executorch",
    ]


def test_an_artifact_alone_is_written_here(pruned: Programs, programs: Programs, tmp_path: Path) -> None:
    assert beside(programs, {"executorch": {}}, tmp_path / "a") == ["float twin/executorch"]
    assert beside(pruned, {"executorch": {}}, tmp_path / "b") == [
        "selection/executorch",
        "float twin/executorch",
        "unpruned twin/executorch",
    ]


def test_without_a_folder_twins_alone_are_written(pruned: Programs) -> None:
    assert beside(pruned, {"onnx": {}, "executorch": {}}, None) == ["float twin/executorch", "unpruned twin/executorch"]


def test_a_target_that_is_not_timed_here_has_a_float_twin_for_its_size_alone(pruned: Programs, tmp_path: Path) -> None:
    lowering = Lowering(pruned, {"onnx": {}, "coreml": {}}, METADATA, tmp_path)
    assert list(lowering.twins_of("onnx")) == [FLOAT, UNPRUNED]
    assert list(lowering.twins_of("coreml")) == [FLOAT]


def test_a_selection_gives_logits_where_the_artifact_is_a_classifier(pruned: Programs, tmp_path: Path) -> None:
    lowering = Lowering(pruned, {"coreml": {"classifier": True, "ios": 18}}, METADATA, tmp_path)
    assert lowering.job(ARTIFACT, "coreml").form == {"classifier": True, "ios": 18}
    assert lowering.job(SELECTION, "coreml").form == {"classifier": False, "ios": 18}
    assert lowering.job(FLOAT, "coreml").metadata == METADATA  # an image input needs to know how to normalise


def test_everything_is_written_once(pruned: Programs, tmp_path: Path) -> None:
    with Lowering(pruned, {"onnx": {}}, METADATA, tmp_path) as lowering:
        lowered = lower("onnx", onnx, lowering, threads=1)
        assert (lowered.folder, lowered.selection) == (tmp_path / "onnx", tmp_path / "selection" / "onnx")
        assert lowered.seconds > 0
        for role in (FLOAT, UNPRUNED):
            lowering.write(role, "onnx", onnx)
        written = [lowering.folder_of(role, "onnx") / "model.onnx" for role in pruned.roles()]
        stamps = [path.stat().st_mtime_ns for path in written]
        for role in pruned.roles():
            lowering.write(role, "onnx", onnx)
        assert [path.stat().st_mtime_ns for path in written] == stamps
        assert b"model" in written[0].read_bytes()
    assert [path.exists() for path in written] == [True, True, False, False]


def test_an_artifact_that_does_not_run_is_said(programs: Programs, tmp_path: Path) -> None:
    def load(folder: Path, threads: int) -> Any:
        raise RuntimeError("no kernel")

    module: Any = SimpleNamespace(lower=onnx.lower, load=load)
    with (
        Lowering(programs, {"onnx": {}}, METADATA, tmp_path) as lowering,
        pytest.raises(
            ClaimError, match=r"what was lowered to onnx does not run here \(no kernel \): leave the target out"
        ),
    ):
        lower("onnx", module, lowering, threads=1)
